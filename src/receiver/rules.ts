/** The options of verifying, checked and with their defaults. */
import { checkSecret, publicBytes } from './keys.ts'
import { expected, type WebhookVerificationError } from './verification-error.ts'

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
  /** Largest body taken, in bytes. Default 1 MiB. */
  maxBodyBytes?: number | undefined
  /** Wall clock in ms; handed in by tests. */
  nowMs?: (() => number) | undefined
}

export interface Rules {
  readonly secrets: readonly string[]
  readonly publicKey: string | undefined
  readonly toleranceSeconds: number
  readonly schemes: readonly Scheme[]
  readonly maxBodyBytes: number
  /** `bits` is 256 or 512: the hash is SHA-2, and the MAC is as long. */
  readonly signature: { readonly header: string; readonly prefix: string; readonly bits: number }
  readonly nowMs: () => number
}

const known: readonly Scheme[] = ['standard', 'body', 'timestamped-body']

/** @throws WebhookVerificationError SECRET_INVALID, ALGORITHM_UNSUPPORTED, OPTION_INVALID */
export function rulesOf(options: VerifyOptions): Rules {
  const secrets = [options.secret, ...(options.secrets ?? [])].filter(
    (one) => one !== undefined && one !== '',
  )
  for (const secret of secrets) checkSecret(secret)
  if (options.publicKey) publicBytes(options.publicKey)

  const {
    toleranceSeconds = 300,
    schemes = ['standard'],
    signature = {},
    maxBodyBytes = 1_048_576,
    nowMs = Date.now,
  } = options
  if (!(toleranceSeconds >= 0)) throw invalid('`toleranceSeconds` from 0')
  if (!(maxBodyBytes > 0)) throw invalid('`maxBodyBytes` above 0')
  if (!schemes.length || schemes.some((one) => !known.includes(one))) {
    throw invalid(`\`schemes\` of ${known.join(', ')}`)
  }
  const {
    algorithm = 'sha256',
    header = 'x-webhook-signature',
    prefix = `${algorithm}=`,
  } = signature
  if (!/^sha(256|512)$/.test(algorithm)) {
    throw expected('ALGORITHM_UNSUPPORTED', '`algorithm` sha256 or sha512')
  }
  return {
    secrets: secrets as string[],
    publicKey: options.publicKey,
    toleranceSeconds,
    schemes,
    maxBodyBytes,
    signature: { header: header.toLowerCase(), prefix, bits: Number(algorithm.slice(3)) },
    nowMs,
  }
}

export function secretMissing(): WebhookVerificationError {
  return expected('SECRET_MISSING', '`secret`, `secrets` or `publicKey`; check the environment')
}

function invalid(sentence: string): WebhookVerificationError {
  return expected('OPTION_INVALID', sentence)
}
