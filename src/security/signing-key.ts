/**
 * Secrets as keys to sign with. The secret alone decides the algorithm: `whsk_` is Ed25519, anything
 * else HMAC. Nothing is negotiated, so nobody can talk a sender down to something weaker.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { WebhookError } from '../model/errors.ts'
import type { RandomBytes } from '../model/ids.ts'
import type { SecretType } from '../model/signature.ts'
import { checkSecret, createSecret } from './secrets.ts'

const privatePrefix = 'whsk_'
const publicPrefix = 'whpk_'
const seedBytes = 32
const base64 = /^[A-Za-z0-9+/]{86}==$/
/** PKCS #8 of RFC 8410, up to the seed. */
const pkcs8Head = Buffer.from('302e020100300506032b657004220420', 'hex')

export function secretTypeOf(secret: string): SecretType {
  return secret.startsWith(privatePrefix) ? 'ed25519' : 'hmac'
}

/** `whsec_` and 32 random bytes, or `whsk_`, a random seed and its public key. */
export function createSigningSecret(type: SecretType, randomBytes: RandomBytes): string {
  if (type === 'hmac') return createSecret(randomBytes)
  const seed = Buffer.from(randomBytes(seedBytes))
  return privatePrefix + Buffer.concat([seed, publicBytes(privateKey(seed))]).toString('base64')
}

/**
 * A secret that somebody brings to sign with.
 *
 * @throws WebhookError SECRET_INVALID; the secret is never part of the message
 */
export function checkSigningSecret(secret: unknown): asserts secret is string {
  if (typeof secret === 'string') {
    if (secret.startsWith(privatePrefix)) {
      ed25519Key(secret)
      return
    }
    if (secret.startsWith(publicPrefix)) {
      throw invalid(
        'the private key ("whsk_…"), got the public one; only the receiver gets that, and it cannot sign',
      )
    }
  }
  checkSecret(secret)
}

/** `whpk_…` of an Ed25519 secret; null for HMAC. */
export function publicKeyOf(secret: string): string | null {
  if (secretTypeOf(secret) === 'hmac') return null
  const half = Buffer.from(secret.slice(privatePrefix.length), 'base64').subarray(seedBytes)
  return publicPrefix + half.toString('base64')
}

/** @throws WebhookError SECRET_INVALID */
export function ed25519Key(secret: string): KeyObject {
  const encoded = secret.slice(privatePrefix.length)
  if (!base64.test(encoded)) {
    throw invalid(
      '64 bytes in base64 after "whsk_" (the seed, then the public key), got something else; it may have been cut when it was copied',
    )
  }
  const bytes = Buffer.from(encoded, 'base64')
  const key = privateKey(bytes.subarray(0, seedBytes))
  // A receiver would be given the wrong public key, and refuse everything.
  if (!publicBytes(key).equals(bytes.subarray(seedBytes))) {
    throw invalid('a key whose two halves belong together after "whsk_", got two that do not')
  }
  return key
}

function privateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({
    key: Buffer.concat([pkcs8Head, seed]),
    format: 'der',
    type: 'pkcs8',
  })
}

function publicBytes(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-seedBytes)
}

function invalid(expected: string): WebhookError {
  return new WebhookError('SECRET_INVALID', `Expected \`secret\` to be ${expected}.`)
}
