/** The options of verifying, checked and with their defaults. */
import { checkPublicKey, checkSecret, type Hash } from './keys.ts'
import { WebhookVerificationError } from './verification-error.ts'

/**
 * `standard`: Standard Webhooks. `body`: hexadecimal HMAC of the body. `timestamped-body`: of
 * `timestamp.body`.
 */
export type Scheme = 'standard' | 'body' | 'timestamped-body'

export interface VerifyOptions {
  /** The secret of the endpoint, as it was registered: `whsec_…` or any text. */
  secret?: string | undefined
  /** Several live ones, as during a rotation: any of them may have signed. Empty ones are skipped. */
  secrets?: readonly (string | undefined)[] | undefined
  /** `whpk_…`, for an endpoint that signs with ed25519. */
  publicKey?: string | undefined
  /** How far the timestamp may be off, in either direction. Default 300. */
  toleranceSeconds?: number | undefined
  /**
   * Which signatures are believed; one that fits is enough. Default `['standard']`. The others are
   * those of older senders. `'body'` does not sign its timestamp, so whoever has recorded a request
   * can send it again at any time.
   */
  schemes?: readonly Scheme[] | undefined
  /** Of `X-Webhook-Signature`, when the sender was given another name, prefix or algorithm. */
  signature?:
    | {
        header?: string | undefined
        prefix?: string | undefined
        algorithm?: 'sha256' | 'sha512' | undefined
      }
    | undefined
  /** Wall clock in ms; handed in by tests. */
  nowMs?: (() => number) | undefined
}

export interface Rules {
  readonly secrets: readonly string[]
  readonly publicKey: string | undefined
  readonly toleranceSeconds: number
  readonly schemes: readonly Scheme[]
  readonly signature: { readonly header: string; readonly prefix: string; readonly hash: Hash }
  readonly nowMs: () => number
}

const known: readonly Scheme[] = ['standard', 'body', 'timestamped-body']
const hashes: Record<string, Hash> = { sha256: 'SHA-256', sha512: 'SHA-512' }

/** @throws WebhookVerificationError SECRET_INVALID, ALGORITHM_UNSUPPORTED, OPTION_INVALID */
export function rulesOf(options: VerifyOptions): Rules {
  const secrets = [options.secret, ...(options.secrets ?? [])].filter(
    (one) => one !== undefined && one !== '',
  )
  for (const secret of secrets) checkSecret(secret)
  if (options.publicKey) checkPublicKey(options.publicKey)

  const { toleranceSeconds = 300, schemes = ['standard'], signature = {} } = options
  if (!(toleranceSeconds >= 0)) throw invalid('`toleranceSeconds` to be a number from 0')
  if (schemes.length === 0 || schemes.some((one) => !known.includes(one))) {
    throw invalid(`\`schemes\` to name some of ${known.join(', ')}`)
  }
  const { algorithm = 'sha256' } = signature
  const hash = hashes[algorithm]
  if (hash === undefined) {
    throw new WebhookVerificationError(
      'ALGORITHM_UNSUPPORTED',
      "Expected `algorithm` to be 'sha256' or 'sha512', got another one.",
    )
  }
  const header = (signature.header ?? 'x-webhook-signature').toLowerCase()
  return {
    secrets: secrets as string[],
    publicKey: options.publicKey || undefined,
    toleranceSeconds,
    schemes,
    signature: { header, prefix: signature.prefix ?? `${algorithm}=`, hash },
    nowMs: options.nowMs ?? Date.now,
  }
}

function invalid(expected: string): WebhookVerificationError {
  return new WebhookVerificationError('OPTION_INVALID', `Expected ${expected}.`)
}
