/**
 * Secrets as text and as bytes. Uses nothing of Node, because receivers share it and run anywhere.
 *
 * `whsec_<base64>` is decoded; any other text is its UTF-8 bytes.
 */
import { WebhookError } from '../model/errors.ts'
import type { RandomBytes } from '../model/ids.ts'

const prefix = 'whsec_'
const createdBytes = 32
const minBytes = 16
const base64 = /^[A-Za-z0-9+/]+={0,2}$/

/** `whsec_` and 32 random bytes in base64. */
export function createSecret(randomBytes: RandomBytes): string {
  return prefix + btoa(String.fromCharCode(...randomBytes(createdBytes)))
}

/**
 * A secret that somebody brings to sign with, in the option `name`. Verifying accepts shorter ones: keys of 18 bytes and
 * less are in use elsewhere, and a receiver has no say in them.
 *
 * @throws WebhookError SECRET_INVALID; the secret is never part of the message
 */
export function checkSecret(secret: unknown, name = 'secret'): asserts secret is string {
  if (typeof secret !== 'string') {
    throw new WebhookError(
      'SECRET_INVALID',
      `Expected \`${name}\` to be a text, got ${secret === null ? 'null' : typeof secret}.`,
    )
  }
  const { length } = bytesNamed(secret, name)
  if (length >= minBytes) return
  throw new WebhookError(
    'SECRET_INVALID',
    `Expected \`${name}\` to be at least ${minBytes} bytes, got ${length}; leave it out and a safe one is created.`,
  )
}

/** The sentence of `secretBytes` is for receivers, too, which have no bytes to spare for a name. */
function bytesNamed(secret: string, name: string): Uint8Array {
  try {
    return secretBytes(secret)
  } catch (error) {
    const { code, message } = error as WebhookError
    throw new WebhookError(code, message.replace('`secret`', `\`${name}\``))
  }
}

/**
 * The key of a secret.
 *
 * @throws WebhookError SECRET_INVALID when `whsec_` is not followed by base64
 */
export function secretBytes(secret: string): Uint8Array {
  if (!secret.startsWith(prefix)) return new TextEncoder().encode(secret)
  const encoded = secret.slice(prefix.length)
  const unpadded = encoded.replace(/=+$/, '')
  // A lone surplus character (length 1 of 4) carries no whole byte: the text was cut.
  if (!base64.test(encoded) || unpadded.length % 4 === 1) {
    throw new WebhookError(
      'SECRET_INVALID',
      'Expected `secret` to be base64 after "whsec_", got something else; it may have been cut when it was copied.',
    )
  }
  return Uint8Array.from(atob(unpadded), (character) => character.charCodeAt(0))
}
