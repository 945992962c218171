/** Secrets and public keys as WebCrypto keys, imported once each. */
import { secretBytes } from '../security/secrets.ts'
import { utf8 } from './raw.ts'
import { expected, WebhookVerificationError } from './verification-error.ts'

/** The web's `CryptoKey`, by whichever name the types of a runtime know it. */
type CryptoKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>

export const { subtle } = crypto

/** A receiver has a handful of secrets; the bound is for one that is handed new ones for ever. */
const maxKeys = 1_000
const keys = new Map<string, Promise<CryptoKey>>()

/** @throws WebhookVerificationError SECRET_INVALID; the secret is never part of the message */
export function checkSecret(secret: unknown): asserts secret is string {
  if (typeof secret !== 'string') throw invalid('`secret` to be a text')
  // A public key taken for a secret would let everybody who may know it sign.
  if (/^wh[ps]k_/.test(secret)) {
    throw invalid('a shared `secret`, got an ed25519 key; `publicKey` takes its "whpk_" half')
  }
  bytesOf(secret)
}

/** @param asText take the characters of `whsec_…` as they are, as senders do that know no prefix */
export function hmacKey(secret: string, hash: string, asText = false): Promise<CryptoKey> {
  return cached(`${hash} ${asText} ${secret}`, () => {
    const bytes = (asText ? utf8(secret) : bytesOf(secret)) as Uint8Array<ArrayBuffer>
    return subtle.importKey('raw', bytes, { name: 'HMAC', hash }, false, ['verify'])
  })
}

/** @throws WebhookVerificationError SECRET_INVALID, ALGORITHM_UNSUPPORTED */
export function ed25519Key(publicKey: string): Promise<CryptoKey> {
  return cached(publicKey, async () => {
    const bytes = publicBytes(publicKey)
    try {
      return await subtle.importKey('raw', bytes, 'Ed25519', false, ['verify'])
    } catch (cause) {
      throw expected(
        'ALGORITHM_UNSUPPORTED',
        'a runtime with Ed25519; use a newer one, or a shared secret',
        { cause },
      )
    }
  })
}

/** @returns null unless it is base64 in its one canonical spelling: no two texts for the same bytes */
export function base64Bytes(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    const binary = atob(text)
    if (btoa(binary) !== text) return null
    return Uint8Array.from(binary, (character) => character.charCodeAt(0))
  } catch {
    return null
  }
}

function bytesOf(secret: string): Uint8Array {
  try {
    return secretBytes(secret)
  } catch (cause) {
    throw new WebhookVerificationError('SECRET_INVALID', (cause as Error).message)
  }
}

/** @throws WebhookVerificationError SECRET_INVALID */
export function publicBytes(publicKey: unknown): Uint8Array<ArrayBuffer> {
  const encoded = typeof publicKey === 'string' && /^whpk_(.+)$/.exec(publicKey)?.[1]
  const bytes = encoded ? base64Bytes(encoded) : null
  if (bytes?.length === 32) return bytes
  throw invalid('`publicKey` of "whpk_" and 32 bytes in base64')
}

async function cached(name: string, make: () => Promise<CryptoKey>): Promise<CryptoKey> {
  const known = keys.get(name)
  if (known !== undefined) return known
  if (keys.size >= maxKeys) keys.clear()
  const made = make()
  keys.set(name, made)
  // What failed may work next time; nothing is learnt from remembering it.
  made.catch(() => keys.delete(name))
  return made
}

function invalid(sentence: string): WebhookVerificationError {
  return expected('SECRET_INVALID', sentence)
}
