/**
 * Encryption at rest: texts in, texts out, by AES-256-GCM under the newest of several keys. Several,
 * because a key that cannot be changed cannot be retired after a leak.
 *
 * A text is bound to its place and to its key: moved to another row or field, it does not open.
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'

const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16
const keyPattern = /^([A-Za-z0-9_-]{1,64}):(.*)$/s
const base64 = /^[A-Za-z0-9+/]+={0,2}$/
const example = "'k1:' and 32 random bytes in base64 (`npx kmsg-webhook key` makes one)"

/** Where a text lies; part of what is authenticated, but for its name. */
export interface Place {
  readonly table: string
  readonly row: string
  /** The row as people know it, for errors: they are logged, and a URL may hold a token. */
  readonly name: string
  readonly field: string
}

export class KeyRing {
  /** Encrypts; every key of the ring decrypts. */
  readonly newestId: string
  readonly #keys: ReadonlyMap<string, KeyObject>

  /**
   * @param entries `<id>:<32 bytes in base64>`, newest first
   * @param name of the option or variable they come from, for errors
   * @throws WebhookError ENCRYPTION_KEY_INVALID; a key is never part of the message
   */
  constructor(entries: readonly string[], name: string) {
    if (!Array.isArray(entries) || entries.length === 0) {
      throw invalid(
        `${name} to be a list of keys, newest first, each ${example}`,
        Array.isArray(entries)
          ? 'an empty list; leave it out to store in the clear'
          : describeValue(entries),
      )
    }
    const keys = new Map<string, KeyObject>()
    for (const [i, entry] of entries.entries()) {
      const [id, key] = parseKey(entry, `key ${i + 1} of ${name}`)
      if (keys.has(id)) {
        throw invalid(`every key of ${name} to have an id of its own`, `"${id}" twice`)
      }
      keys.set(id, key)
    }
    this.newestId = [...keys.keys()][0] as string
    this.#keys = keys
  }

  /** @returns `<key id>:<base64 of nonce, ciphertext and tag>` */
  seal(text: string, place: Place): string {
    const nonce = randomBytes(nonceBytes)
    const key = this.#keys.get(this.newestId) as KeyObject
    const cipher = createCipheriv('aes-256-gcm', key, nonce)
    cipher.setAAD(boundTo(place, this.newestId))
    const sealed = [nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]
    return `${this.newestId}:${Buffer.concat(sealed).toString('base64')}`
  }

  /** @throws WebhookError ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_WRONG */
  open(sealed: string, place: Place): string {
    const id = keyIdOf(sealed)
    const key = this.#keys.get(id)
    if (key === undefined) throw missingKey([id], this.ids)
    const bytes = Buffer.from(sealed.slice(id.length + 1), 'base64')
    try {
      const options = { authTagLength: tagBytes }
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes), options)
      decipher.setAAD(boundTo(place, id))
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      const text = decipher.update(bytes.subarray(nonceBytes, -tagBytes))
      return Buffer.concat([text, decipher.final()]).toString('utf8')
    } catch (error) {
      throw new WebhookError(
        'ENCRYPTION_KEY_WRONG',
        `Expected the key "${id}" to decrypt the ${place.field} of ${place.table} ${place.name}, but it does not: it is not the key they were encrypted with, or the row was changed by other hands. Nothing was sent or overwritten; give the right key under this id.`,
        { cause: error },
      )
    }
  }

  /** Newest first. */
  get ids(): readonly string[] {
    return [...this.#keys.keys()]
  }
}

/** Of a text that `seal` made. */
export function keyIdOf(sealed: string): string {
  return sealed.slice(0, Math.max(0, sealed.indexOf(':')))
}

/** @param known ids of the keys at hand */
export function missingKey(ids: readonly string[], known: readonly string[]): WebhookError {
  const wanted = ids.map((id) => `"${id}"`).join(', ')
  const have = known.length === 0 ? 'none is given' : `given are ${known.join(', ')}`
  return new WebhookError(
    'ENCRYPTION_KEY_MISSING',
    `Expected the key ${wanted} that stored secrets are encrypted with, but ${have}; add it to \`encryptionKeys\` or KMSG_WEBHOOK_ENCRYPTION_KEYS. Nothing was sent or overwritten.`,
  )
}

/**
 * A new key as `encryptionKeys` takes it.
 *
 * @param id 1 to 64 characters of `[A-Za-z0-9_-]`, unique in the ring
 * @throws WebhookError ENCRYPTION_KEY_INVALID
 */
export function createEncryptionKey(id: string): string {
  if (typeof id !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    throw invalid("the id of a key to be 1 to 64 characters such as 'k1'", describeValue(id))
  }
  return `${id}:${randomBytes(keyBytes).toString('base64')}`
}

function boundTo({ table, row, field }: Place, keyId: string): Buffer {
  // JSON keeps the parts apart, whatever is in them.
  return Buffer.from(JSON.stringify(['kmsg-webhook', 1, table, row, field, keyId]))
}

function parseKey(entry: unknown, name: string): [string, KeyObject] {
  if (typeof entry !== 'string') throw invalid(`${name} to be ${example}`, describeType(entry))
  const [, id = '', encoded = ''] = keyPattern.exec(entry) ?? []
  if (id === '') {
    throw invalid(`${name} to begin with an id of A-Z, a-z, 0-9, _ and -, as in ${example}`, 'none')
  }
  if (!base64.test(encoded)) {
    throw invalid(`${name} ("${id}") to be ${example}`, 'something that is not base64')
  }
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.length !== keyBytes) {
    throw invalid(`${name} ("${id}") to be ${example}`, `${bytes.length} bytes`)
  }
  return [id, createSecretKey(bytes)]
}

function describeType(value: unknown): string {
  return value === null ? 'null' : `a value of type ${typeof value}`
}

function invalid(expected: string, got: string): WebhookError {
  return new WebhookError('ENCRYPTION_KEY_INVALID', `Expected ${expected}, got ${got}.`)
}
