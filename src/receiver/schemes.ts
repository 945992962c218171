/**
 * The signatures a sender may have made. Each checks its own headers and throws what is wrong first.
 * No MAC is ever computed here to be compared with another: `crypto.subtle.verify` does both, outside
 * JavaScript and in constant time.
 */
import { base64Bytes, copy, ed25519Key, type Hash, hmacKey } from './keys.ts'
import { concat, type ReadHeader, type ReadRequest } from './raw.ts'
import type { Rules, Scheme } from './rules.ts'
import { WebhookVerificationError } from './verification-error.ts'

type Bytes = Uint8Array<ArrayBuffer>

/** A rotation needs two, and a second version two more; who sends many wants us to compute. */
const maxSignatures = 16
const lengths = { v1: 32, v1a: 64, 'SHA-256': 32, 'SHA-512': 64 } as const

/** @returns the signed id of the request; null where the scheme signs none */
type Check = (request: ReadRequest, rules: Rules) => Promise<string | null>

export const schemes: Record<Scheme, Check> = {
  async standard({ header, body }, rules) {
    const id = required(header, 'webhook-id')
    // A dot could move into the timestamp; a comma means that the header came twice.
    if (!/^[\x21-\x2b\x2d\x2f-\x7e]{1,256}$/.test(id)) {
      throw invalidHeader('webhook-id', 'up to 256 visible characters without dot and comma')
    }
    const timestamp = checkTimestamp(header, 'webhook-timestamp', rules)
    const given = signaturesOf(required(header, 'webhook-signature'))
    const signed = prefixed(`${id}.${timestamp}.`, body)
    for (const { version, mac } of given) {
      if (version === 'v1' && (await anyHmac(rules.secrets, 'SHA-256', mac, signed))) return id
      if (version === 'v1a' && (await ed25519(rules.publicKey, mac, signed))) return id
    }
    throw notSigned('webhook-signature', hintFor(given, rules))
  },

  async body({ header, body }, rules) {
    checkTimestamp(header, 'x-webhook-timestamp', rules)
    return plain(header, copy(body), rules)
  },

  async 'timestamped-body'({ header, body }, rules) {
    const timestamp = checkTimestamp(header, 'x-webhook-timestamp', rules)
    return plain(header, prefixed(`${timestamp}.`, body), rules)
  },
}

interface Signature {
  readonly version: 'v1' | 'v1a'
  readonly mac: Bytes
}

/** Unknown versions are skipped: a sender may add one. So is what cannot be a signature. */
function signaturesOf(text: string): Signature[] {
  const entries = text.split(' ')
  if (entries.length > maxSignatures) {
    throw invalidHeader('webhook-signature', `at most ${maxSignatures} signatures`)
  }
  // Two headers arrive joined with a comma and a space.
  if (entries.some((one) => one.endsWith(','))) {
    throw invalidHeader('webhook-signature', 'a list separated by spaces, once')
  }
  return entries.flatMap((one) => {
    const [version, encoded = '', ...rest] = one.split(',')
    if ((version !== 'v1' && version !== 'v1a') || rest.length > 0) return []
    const mac = base64Bytes(encoded)
    return mac?.length === lengths[version] ? [{ version, mac }] : []
  })
}

async function plain(header: ReadHeader, signed: Bytes, rules: Rules): Promise<null> {
  const { header: name, prefix, hash } = rules.signature
  const given = required(header, name)
  const mac = given.startsWith(prefix) ? hexBytes(given.slice(prefix.length)) : null
  if (mac?.length !== lengths[hash]) {
    throw invalidHeader(name, `"${prefix}" and ${2 * lengths[hash]} hexadecimal digits`)
  }
  if (await anyHmac(rules.secrets, hash, mac, signed)) return null
  // Senders of these schemes that know no `whsec_` take the secret as it is written.
  if (await anyHmac(rules.secrets.filter(isEncoded), hash, mac, signed, true)) return null
  throw notSigned(name, '')
}

async function anyHmac(
  secrets: readonly string[],
  hash: Hash,
  mac: Bytes,
  signed: Bytes,
  asText = false,
): Promise<boolean> {
  for (const secret of secrets) {
    const key = await hmacKey(secret, hash, asText)
    if (await crypto.subtle.verify('HMAC', key, mac, signed)) return true
  }
  return false
}

async function ed25519(publicKey: string | undefined, mac: Bytes, signed: Bytes): Promise<boolean> {
  if (publicKey === undefined) return false
  return crypto.subtle.verify('Ed25519', await ed25519Key(publicKey), mac, signed)
}

/** @returns the header's text, which is part of what is signed */
function checkTimestamp(header: ReadHeader, name: string, rules: Rules): string {
  const text = required(header, name)
  // Strict: `1e3`, `0x10`, `12abc`, ` 12` and milliseconds are numbers to a lenient parser.
  if (!/^(?:0|[1-9][0-9]{0,11})$/.test(text)) {
    throw new WebhookVerificationError(
      'TIMESTAMP_INVALID',
      `Expected the header \`${name}\` to be Unix seconds in decimal, got ${JSON.stringify(text.slice(0, 40))}.`,
    )
  }
  const skewSeconds = Math.floor(rules.nowMs() / 1_000) - Number(text)
  const within = rules.toleranceSeconds
  if (skewSeconds > within) {
    throw new WebhookVerificationError(
      'TIMESTAMP_TOO_OLD',
      `Expected a request signed within ${within} s, got one that is ${skewSeconds} s old: it was held up, it is being replayed, or this machine's clock is ahead.`,
      { skewSeconds },
    )
  }
  if (skewSeconds < -within) {
    throw new WebhookVerificationError(
      'TIMESTAMP_TOO_NEW',
      `Expected a request signed within ${within} s, got one that is ${-skewSeconds} s ahead: this machine's clock is behind, or the sender's is ahead.`,
      { skewSeconds },
    )
  }
  return text
}

function required(header: ReadHeader, name: string): string {
  const value = header(name)
  if (value !== null && value !== '') return value
  const other = name.startsWith('webhook-')
    ? header('x-webhook-signature') && 'the sender uses another scheme, which `schemes` can allow'
    : header('webhook-signature') && "'standard' in `schemes` would fit"
  throw new WebhookVerificationError(
    'HEADER_MISSING',
    `Expected the header \`${name}\`, got none: ${other || 'this is no webhook, or something on the way removes headers'}.`,
  )
}

function hintFor(given: readonly Signature[], rules: Rules): string {
  const has = (version: string) => given.some((one) => one.version === version)
  if (has('v1a') && !has('v1') && rules.publicKey === undefined)
    return ' It is of v1a: pass `publicKey`.'
  if (has('v1') && !has('v1a') && rules.secrets.length === 0) return ' It is of v1: pass `secret`.'
  return ''
}

function notSigned(name: string, hint: string): WebhookVerificationError {
  return new WebhookVerificationError(
    'SIGNATURE_INVALID',
    `Expected a signature in \`${name}\` that belongs to these bytes and to a key of ours, got none: another secret, or a body that was changed, or parsed and serialised again.${hint}`,
  )
}

function invalidHeader(name: string, expected: string): WebhookVerificationError {
  return new WebhookVerificationError(
    'HEADER_INVALID',
    `Expected the header \`${name}\` to hold ${expected}, got something else.`,
  )
}

function prefixed(prefix: string, body: Uint8Array): Bytes {
  const head = new TextEncoder().encode(prefix)
  return concat([head, body], head.length + body.length)
}

function hexBytes(text: string): Bytes | null {
  if (!/^(?:[0-9a-f]{2})+$/i.test(text)) return null
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

function isEncoded(secret: string): boolean {
  return secret.startsWith('whsec_')
}
