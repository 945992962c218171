/**
 * The keys of one endpoint, ready to sign: what can be worked out before the first request is worked
 * out once. Signing is on the way of every request, twice.
 */
import { type KeyObject, sign } from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { SignatureScheme } from '../model/signature.ts'
import { type HmacAlgorithm, HmacKey, hmacKey } from './sign.ts'
import { ed25519Key, secretTypeOf } from './signing-key.ts'

/** How `X-Webhook-Signature` is written, and which signatures are sent at all. */
export interface SignerRules {
  readonly schemes: readonly SignatureScheme[]
  readonly algorithm: HmacAlgorithm
  readonly header: string
  readonly prefix: string
}

interface HeaderSignature {
  readonly header: string
  readonly prefix: string
  readonly key: HmacKey
  readonly isTimestamped: boolean
}

export class Signer {
  /** Newest first; empty when `webhook-signature` is not sent. */
  readonly #standard: readonly (HmacKey | KeyObject)[]
  /** Null when `X-Webhook-Signature` is not sent. */
  readonly #single: HeaderSignature | null

  /**
   * @param secrets live ones, newest first
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID
   */
  constructor(secrets: readonly string[], rules: SignerRules) {
    const isStandard = rules.schemes.includes('standard')
    this.#standard = isStandard ? secrets.map(standardKey) : []
    this.#single = headerSignature(secrets, rules)
    if (this.#standard.length > 0 || this.#single !== null) return
    throw new WebhookError(
      'SECRET_MISSING',
      secrets.length === 0
        ? 'Expected a secret to sign with, got none; give the endpoint a `secret` or turn `enableSecurity` off.'
        : "Expected a signature that can be made, but an Ed25519 key signs 'standard' only, and that is not among the endpoint's signature schemes.",
    )
  }

  /**
   * The signatures as lines of a request's head, each with its line break.
   *
   * @param timestamp unix seconds in decimal, the one sent in `webhook-timestamp`
   */
  headerLines(id: string, timestamp: string, body: Uint8Array): string {
    let lines = ''
    if (this.#standard.length > 0) {
      const signed = `${id}.${timestamp}.`
      let value = ''
      for (const key of this.#standard) {
        if (value !== '') value += ' '
        value +=
          key instanceof HmacKey
            ? `v1,${key.mac(signed, body, 'base64')}`
            : `v1a,${ed25519Signature(key, signed, body)}`
      }
      lines = `webhook-signature: ${value}\r\n`
    }
    const single = this.#single
    if (single === null) return lines
    const signed = single.isTimestamped ? `${timestamp}.` : ''
    return `${lines}${single.header}: ${single.prefix}${single.key.mac(signed, body, 'hex')}\r\n`
  }
}

/** @throws WebhookError OPTION_INVALID */
export function checkSchemes(schemes: unknown, name: string): readonly SignatureScheme[] {
  const known: readonly unknown[] = ['standard', 'body', 'timestamped-body']
  if (
    !Array.isArray(schemes) ||
    schemes.length === 0 ||
    !schemes.every((one) => known.includes(one))
  ) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected ${name} to be a list of 'standard', 'body' and 'timestamped-body', got ${Array.isArray(schemes) && schemes.length > 0 ? JSON.stringify(schemes).slice(0, 100) : describeValue(schemes)}; to send no signature, turn \`enableSecurity\` off.`,
    )
  }
  if (schemes.includes('body') && schemes.includes('timestamped-body')) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected ${name} to hold 'body' or 'timestamped-body', got both: they share one header, whose value fits one of them only.`,
    )
  }
  return [...new Set(schemes as SignatureScheme[])]
}

function standardKey(secret: string): HmacKey | KeyObject {
  return secretTypeOf(secret) === 'ed25519' ? ed25519Key(secret) : hmacKey('sha256', secret)
}

/**
 * Holds one value, so receivers that know only the old secret decide during a rotation: the oldest
 * live one signs. Of Ed25519 there is none, it is a header of HMACs.
 */
function headerSignature(secrets: readonly string[], rules: SignerRules): HeaderSignature | null {
  const isTimestamped = rules.schemes.includes('timestamped-body')
  if (!isTimestamped && !rules.schemes.includes('body')) return null
  const oldest = secrets.findLast((one) => secretTypeOf(one) === 'hmac')
  if (oldest === undefined) return null
  const { algorithm, header, prefix } = rules
  // Version 0.30 takes every secret as text, also one that begins with `whsec_`.
  const key = isTimestamped
    ? new HmacKey(algorithm, Buffer.from(oldest))
    : hmacKey(algorithm, oldest)
  return { header, prefix, key, isTimestamped }
}

function ed25519Signature(key: KeyObject, signed: string, body: Uint8Array): string {
  const message = Buffer.allocUnsafe(3 * signed.length + body.length)
  const start = message.write(signed)
  message.set(body, start)
  return sign(null, message.subarray(0, start + body.length), key).toString('base64')
}
