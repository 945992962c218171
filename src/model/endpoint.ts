/** Where a subscriber wants events. */
import type { BodyFilter } from './body-filter.ts'
import type { WebhookEventType } from './event.ts'
import type { BreakerState, RateLimit } from './flow.ts'
import type { SecretType, SignatureScheme, SigningKey } from './signature.ts'

export type EndpointStatus = 'active' | 'paused' | 'disabled'

/** Values an event's metadata must have, per key. A key the event lacks does not match. */
export interface EndpointFilters {
  providerId?: readonly string[] | undefined
  channelId?: readonly string[] | undefined
  templateId?: readonly string[] | undefined
  [metadataKey: string]: readonly (string | number | boolean)[] | undefined
}

/** Retry rules of one endpoint; what is omitted comes from the service. */
export interface EndpointRetryConfig {
  /** Retries after the first attempt: 3 means at most 4 attempts, 0 means one. */
  maxRetries?: number | undefined
  retryDelayMs?: number | undefined
  /** The same as `retryDelayMs`, by the name RetryManager uses. */
  baseDelayMs?: number | undefined
  maxDelayMs?: number | undefined
  backoffMultiplier?: number | undefined
  jitter?: boolean | undefined
  /** Explicit delays instead of the exponential ones; `maxRetries` beside it takes the first of them. */
  retryScheduleMs?: readonly number[] | 'standard' | undefined
}

/** How many events one request carries, and how long the first of them may wait. */
export interface EndpointBatch {
  size: number
  timeoutMs: number
}

/** Events with the same key reach the endpoint one after the other, in the order of their dispatch. */
export interface EndpointOrdering {
  /** Of `metadata`. Events that lack it, or hold no text, number or boolean there, have no order. */
  key: string
  /**
   * When an event is given up: `block` holds what follows under its key until it is retried or
   * skipped by hand (`retryDelivery`, `skipDelivery`); `skip` goes on with the next.
   */
  onExhausted: 'block' | 'skip'
}

/** How TLS is spoken with one endpoint; each field is PEM text. */
export interface EndpointTls {
  /** The authorities to believe for this endpoint, instead of all others. */
  ca?: string | undefined
  /** Client certificate (mTLS), the chain after it. With `key`. */
  cert?: string | undefined
  /** Its private key, not encrypted. Reads return `***`. */
  key?: string | undefined
}

/** What `registerEndpoint` takes. Only `id`, `url` and `events` are required. */
export interface WebhookEndpointInput {
  /** 1–256 characters of `[A-Za-z0-9_-]`, unique per tenant. A known id is updated. */
  id: string
  url: string
  /** Exact types, `message.*`, or `*`. */
  events: readonly WebhookEventType[]
  name?: string | undefined
  description?: string | undefined
  /** `false` registers it as disabled. */
  active?: boolean | undefined
  status?: EndpointStatus | undefined
  /**
   * Signs this endpoint's requests. At least 16 bytes; `whsec_<base64>` is decoded, `whsk_<base64>`
   * is an Ed25519 key. Another one than before starts a rotation.
   */
  secret?: string | undefined
  /** What is created when no secret is given. Default `'hmac'`. Another one than before rotates. */
  secretType?: SecretType | undefined
  /** Signatures that its requests carry, where they differ from the service's. */
  signatureSchemes?: readonly SignatureScheme[] | undefined
  filters?: EndpointFilters | undefined
  /** What the event's `data` must be like, see BodyFilter. `null` takes it away again. */
  bodyFilter?: BodyFilter | null | undefined
  retryConfig?: EndpointRetryConfig | undefined
  /** Sent with every request. Names of the protocol and of the signature are refused. */
  headers?: Readonly<Record<string, string>> | undefined
  /** Own authorities, a client certificate. `null` takes both away again. */
  tls?: EndpointTls | null | undefined
  /** Longest time of one whole attempt. */
  timeoutMs?: number | undefined
  /** Requests to this endpoint at the same time, all processes together. Default 10. */
  concurrency?: number | undefined
  /**
   * Requests in any `perMs`, all processes together; they are spread evenly. `null` takes the
   * service's again.
   */
  rateLimit?: RateLimit | null | undefined
  /** `true` takes the service's `batchSize` and `batchTimeoutMs`. */
  batch?: boolean | EndpointBatch | undefined
  /** Order per key; not with `batch`. `null` takes it away again. */
  ordering?: EndpointOrdering | null | undefined
  tenantId?: string | undefined
  /** Accepted because the seed's objects carry it; the service keeps its own. */
  createdAt?: Date | undefined
  updatedAt?: Date | undefined
}

/** The fields `updateEndpoint` can change. */
export type WebhookEndpointChanges = Partial<
  Omit<WebhookEndpointInput, 'id' | 'tenantId' | 'secretType' | 'createdAt' | 'updatedAt'>
>

/** An endpoint as reads return it. A secret is never part of it. */
export interface WebhookEndpoint {
  id: string
  url: string
  events: readonly WebhookEventType[]
  name: string
  description: string
  active: boolean
  status: EndpointStatus
  /** Why the status is what it is: `gone`, `by request`, … Null while active from the start. */
  statusReason: string | null
  statusChangedAt: Date
  /** `whpk_…` of the newest Ed25519 key, for the receiver; null when it signs by HMAC alone. */
  publicKey: string | null
  /** Keys of its own that sign now, newest first; empty when the service's `secretKey` does. */
  signingKeys: readonly SigningKey[]
  /** Null: those of the service. */
  signatureSchemes: readonly SignatureScheme[] | null
  filters: EndpointFilters
  bodyFilter: BodyFilter | null
  retryConfig: EndpointRetryConfig
  /**
   * Values of sensitive names (`authorization`, cookies, keys, tokens) read as `***`; a write takes
   * `***` as "leave it as it is".
   */
  headers: Readonly<Record<string, string>>
  /** The private key reads as `***`. */
  tls: EndpointTls | null
  timeoutMs: number | null
  concurrency: number | null
  rateLimit: RateLimit | null
  /** It asked for time (`Retry-After`) and is sent nothing before; null when it did not. */
  heldUntil: Date | null
  /**
   * `closed` sends. `open` sends nothing before `until`, because too many attempts in a row failed.
   * `half-open` tries whether one goes well.
   */
  breaker: { state: BreakerState; until: Date | null }
  batch: boolean | EndpointBatch
  ordering: EndpointOrdering | null
  tenantId: string | null
  /** Raised by every change; an attempt says which version it used. */
  version: number
  /** Something an operator should look at, such as answers that redirect. */
  warning: string | null
  createdAt: Date
  updatedAt: Date
}

/** An endpoint with what only the engine may see. */
export interface EndpointRecord {
  /** Short random key, part of every delivery id; a new one when an id is removed and comes back. */
  readonly key: string
  readonly id: string
  /** `''` for no tenant. */
  readonly tenantId: string
  readonly url: string
  readonly events: readonly string[]
  readonly name: string
  readonly description: string
  readonly status: EndpointStatus
  readonly statusReason: string | null
  readonly statusChangedAtMs: number
  /** Secrets that sign, newest first; empty when the service's `secretKey` does. */
  readonly secrets: readonly EndpointSecret[]
  /** Null: those of the service. */
  readonly signatureSchemes: readonly SignatureScheme[] | null
  readonly filters: EndpointFilters
  readonly bodyFilter: BodyFilter | null
  readonly retryConfig: EndpointRetryConfig
  readonly headers: Readonly<Record<string, string>>
  readonly tls: EndpointTls | null
  readonly timeoutMs: number | null
  readonly concurrency: number | null
  readonly rateLimit: RateLimit | null
  readonly batch: boolean | EndpointBatch
  readonly ordering: EndpointOrdering | null
  readonly version: number
  readonly warning: string | null
  readonly createdAtMs: number
  readonly updatedAtMs: number
}

export interface EndpointSecret {
  readonly secret: string
  readonly createdAtMs: number
  /** When it stops signing; null for the newest one. */
  readonly expiresAtMs: number | null
  /** By `rotateSecret`: an app that goes on registering with the old one must not undo it. */
  readonly rotatedByCall?: boolean
}
