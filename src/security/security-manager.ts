/**
 * SecurityManager: signs what is sent, and verifies what was received by the seed's scheme.
 * It holds no secret of its own; every call is given the one to use.
 */
import { timingSafeEqual } from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'
import { bodySignature, type HmacAlgorithm, standardSignature } from './sign.ts'

export interface SecurityOptions {
  /** Of `X-Webhook-Signature`. Default `'sha256'`; Standard Webhooks signatures always use SHA-256. */
  algorithm?: HmacAlgorithm | undefined
  /** Default `'X-Webhook-Signature'`. */
  header?: string | undefined
  /** Stands before the hexadecimal value. Default the algorithm and `=`. */
  prefix?: string | undefined
}

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const printable = /^[\x20-\x7e]{0,128}$/

/**
 * @example
 * const security = new SecurityManager()
 * security.verifySignature(rawBody, request.headers['x-webhook-signature'], secret)
 */
export class SecurityManager {
  readonly algorithm: HmacAlgorithm
  readonly header: string
  readonly prefix: string

  /** @throws WebhookError ALGORITHM_UNSUPPORTED, OPTION_INVALID */
  constructor(options: SecurityOptions = {}) {
    this.algorithm = checkAlgorithm(options.algorithm ?? 'sha256')
    this.header = options.header ?? 'X-Webhook-Signature'
    this.prefix = options.prefix ?? `${this.algorithm}=`
    if (typeof this.header !== 'string' || !token.test(this.header)) {
      throw invalid('`header` to be the name of a header', this.header)
    }
    if (typeof this.prefix !== 'string' || !printable.test(this.prefix)) {
      throw invalid('`prefix` to be up to 128 printable ASCII characters', this.prefix)
    }
  }

  /** The value of `X-Webhook-Signature`: prefix and hexadecimal HMAC of the payload. */
  generateSignature(payload: string | Uint8Array, secret: string): string {
    return this.prefix + bodySignature(this.algorithm, payload, secret)
  }

  /**
   * Whether the signature belongs to exactly these bytes. Takes constant time.
   *
   * @param payload the raw body; a parsed one cannot be verified
   * @param signature the header as received; missing or given several times is false
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID, BODY_ALREADY_PARSED
   */
  verifySignature(
    payload: string | Uint8Array,
    signature: string | string[] | undefined,
    secret: string | undefined,
  ): boolean {
    checkRawPayload(payload)
    if (secret === undefined || secret === '') {
      throw new WebhookError(
        'SECRET_MISSING',
        'Expected the secret of the endpoint as third argument, got nothing; is the environment variable set?',
      )
    }
    const given = single(signature)
    if (given === null) return false
    const expected = Buffer.from(this.generateSignature(payload, secret))
    const actual = Buffer.from(given)
    return actual.length === expected.length && timingSafeEqual(actual, expected)
  }

  /**
   * Whether the timestamp is near enough to now, in the past or in the future.
   *
   * @param timestamp unix seconds, as received in `X-Webhook-Timestamp` or `webhook-timestamp`
   * @param nowMs defaults to the machine's clock
   */
  verifyTimestamp(
    timestamp: string | string[] | number | undefined,
    toleranceSeconds = 300,
    nowMs: number = Date.now(),
  ): boolean {
    const given = typeof timestamp === 'number' ? String(timestamp) : single(timestamp)
    // Strict: `1e3`, `0x10`, `12abc` and ` 12` are numbers to a lenient parser.
    if (given === null || !/^(?:0|[1-9][0-9]{0,11})$/.test(given)) return false
    return Math.abs(Math.floor(nowMs / 1000) - Number(given)) <= toleranceSeconds
  }

  /**
   * Adds both signatures to a flat list of header names and values.
   *
   * @param timestamp unix seconds in decimal, the one sent in `webhook-timestamp`
   * @param secrets live ones, newest first, at least one
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID
   */
  addSignatures(
    headers: string[],
    id: string,
    timestamp: string,
    body: Uint8Array,
    secrets: readonly string[],
  ): void {
    const oldest = secrets.at(-1)
    if (oldest === undefined) {
      throw new WebhookError(
        'SECRET_MISSING',
        'Expected a secret to sign with, got none; give the endpoint a `secret` or turn `enableSecurity` off.',
      )
    }
    headers.push(
      'webhook-signature',
      standardSignature(id, timestamp, body, secrets),
      // Holds one value, so receivers that know only the old secret decide during a rotation.
      this.header,
      this.generateSignature(body, oldest),
    )
  }
}

function checkAlgorithm(algorithm: unknown): HmacAlgorithm {
  if (algorithm === 'sha256' || algorithm === 'sha512') return algorithm
  const why =
    algorithm === 'sha1' || algorithm === 'md5'
      ? ' Collisions can be made for it, so receivers are right to refuse it.'
      : ''
  throw new WebhookError(
    'ALGORITHM_UNSUPPORTED',
    `Expected \`algorithm\` to be 'sha256' or 'sha512', got ${describeValue(algorithm)}.${why}`,
  )
}

function checkRawPayload(payload: unknown): void {
  if (typeof payload === 'string' || payload instanceof Uint8Array) return
  throw new WebhookError(
    'BODY_ALREADY_PARSED',
    `Expected the raw body (text or bytes) as it was received, got ${describeValue(payload)}. A parsed body cannot be verified, and JSON.stringify(req.body) need not give back the signed bytes: keep the raw ones, with express.raw({ type: 'application/json' }) or express.json({ verify: (req, _res, bytes) => { req.rawBody = bytes } }).`,
  )
}

/** The one value of a header. Two are an attempt to have one checked and another one used. */
function single(value: string | string[] | undefined): string | null {
  const one = Array.isArray(value) ? (value.length === 1 ? value[0] : undefined) : value
  return typeof one === 'string' && one !== '' ? one : null
}

function invalid(expected: string, got: unknown): WebhookError {
  return new WebhookError('OPTION_INVALID', `Expected ${expected}, got ${describeValue(got)}.`)
}
