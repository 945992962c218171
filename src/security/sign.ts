/** MACs with node:crypto: bytes in, header values out. About 2 µs each for 500 bytes. */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { secretBytes } from './secrets.ts'

export type HmacAlgorithm = 'sha256' | 'sha512'

/** Secrets in use at one time are few; the bound is for services with very many tenants. */
const maxCachedKeys = 20_000
const keys = new Map<string, KeyObject>()

/** The key of a secret, decoded once. @throws WebhookError SECRET_INVALID */
export function keyOf(secret: string): KeyObject {
  const known = keys.get(secret)
  if (known !== undefined) return known
  const key = createSecretKey(secretBytes(secret))
  if (keys.size >= maxCachedKeys) keys.clear()
  keys.set(secret, key)
  return key
}

/**
 * `webhook-signature` of Standard Webhooks: `v1,<base64>` of `id.timestamp.body`, one per secret,
 * separated by spaces.
 *
 * @param timestamp unix seconds in decimal
 * @param secrets newest first, at least one
 */
export function standardSignature(
  id: string,
  timestamp: string,
  body: string | Uint8Array,
  secrets: readonly string[],
): string {
  let value = ''
  const signed = `${id}.${timestamp}.`
  for (const secret of secrets) {
    const mac = createHmac('sha256', keyOf(secret)).update(signed).update(body).digest('base64')
    value += value === '' ? `v1,${mac}` : ` v1,${mac}`
  }
  return value
}

/** The seed's scheme: hexadecimal HMAC of the body alone. */
export function bodySignature(
  algorithm: HmacAlgorithm,
  body: string | Uint8Array,
  secret: string,
): string {
  return createHmac(algorithm, keyOf(secret)).update(body).digest('hex')
}
