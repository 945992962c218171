/**
 * SecurityManager: how what is sent is signed, and the check of what was received by the seed's
 * scheme. It holds no secret of its own; every call is given the one to use.
 */
import { timingSafeEqual } from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'
import { refuseUnknown } from '../model/given.ts'
import type { SignatureScheme } from '../model/signature.ts'
import { isProtocolHeader } from './headers.ts'
import { bodySignature, type HmacAlgorithm } from './sign.ts'
import { checkSchemes, Signer } from './signer.ts'

export interface SecurityOptions {
  /** Signatures that requests carry. Default `['standard', 'body']`; an endpoint can say otherwise. */
  schemes?: readonly SignatureScheme[] | undefined
  /** Of `X-Webhook-Signature`. Default `'sha256'`; Standard Webhooks signatures always use SHA-256. */
  algorithm?: HmacAlgorithm | undefined
  /** Default `'X-Webhook-Signature'`. */
  header?: string | undefined
  /** Stands before the hexadecimal value. Default the algorithm and `=`. */
  prefix?: string | undefined
}

const knownOptions: readonly string[] = ['schemes', 'algorithm', 'header', 'prefix']
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const printable = /^[\x20-\x7e]{0,128}$/

/**
 * @example
 * const security = new SecurityManager()
 * security.verifySignature(rawBody, request.headers['x-webhook-signature'], secret)
 */
export class SecurityManager {
  readonly schemes: readonly SignatureScheme[]
  readonly algorithm: HmacAlgorithm
  readonly header: string
  readonly prefix: string

  /** @throws WebhookError ALGORITHM_UNSUPPORTED, OPTION_INVALID, OPTION_UNKNOWN */
  constructor(options: SecurityOptions = {}) {
    if (typeof options !== 'object' || options === null) {
      throw invalid(
        "the options of signing to be an object such as { algorithm: 'sha512' }",
        options,
      )
    }
    refuseUnknown(options, knownOptions, 'an option of signing')
    this.schemes = checkSchemes(options.schemes ?? ['standard', 'body'], '`schemes`')
    this.algorithm = checkAlgorithm(options.algorithm ?? 'sha256')
    this.header = options.header ?? 'X-Webhook-Signature'
    this.prefix = options.prefix ?? `${this.algorithm}=`
    if (typeof this.header !== 'string' || !token.test(this.header)) {
      throw invalid('`header` to be the name of a header', this.header)
    }
    if (isProtocolHeader(this.header)) {
      throw invalid('`header` to be one that the sender does not set already', this.header)
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
   * What signs the requests of an endpoint.
   *
   * @param secrets live ones, newest first, at least one
   * @param schemes the endpoint's own, where it has some
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID
   */
  signer(secrets: readonly string[], schemes: readonly SignatureScheme[] | null = null): Signer {
    const { algorithm, header, prefix } = this
    return new Signer(secrets, { schemes: schemes ?? this.schemes, algorithm, header, prefix })
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
