/** What goes into `WebhookService` and comes out of it, where no part of it owns the shape. */
import type { WebhookDispatcher } from '../deliver/dispatcher.ts'
import type { EndpointStats } from '../observe/statistics.ts'
import type { RetryManager } from '../policy/retry-manager.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { SecurityManager } from '../security/security-manager.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import type { Backlog } from '../storage/questions.ts'

/** Parts to use instead of those the service would build. */
export interface WebhookServiceParts {
  registry?: WebhookRegistry | undefined
  dispatcher?: WebhookDispatcher | undefined
  /** Says how to sign, when no dispatcher is given; instead of the option `signature`. */
  securityManager?: SecurityManager | undefined
  retryManager?: RetryManager | undefined
}

export interface WebhookStats extends EndpointStats {
  totalEndpoints: number
  activeEndpoints: number
}

/** A range of time: from `start` (inclusive) to `end` (exclusive). */
export interface TimeRange {
  start?: Date | undefined
  end?: Date | undefined
}

export interface EndpointTestResult {
  success: boolean
  /** In ms. */
  responseTime: number
  httpStatus: number | null
  error: string | null
  /** It is disabled and has just answered well: `enableEndpoint` lets its events flow again. */
  canEnable: boolean
}

/** Whose endpoint it is, and what its history is to say. */
export interface RemoveOptions extends TenantScope {
  reason?: string | undefined
}

/** Which changes of an endpoint: the last `limit`, or the last of those before a change. */
export interface HistoryQuery extends TenantScope {
  /** 1 to 1000. Default 1000. */
  limit?: number | undefined
  /** The first change of the page that came before. */
  before?: EndpointChange | undefined
}

export interface ServiceBacklog extends Backlog {
  /**
   * How long the oldest delivery that could be sent now has been due, in ms; 0 when none is. It counts
   * what waits in the store and what this process has taken and not begun: of several processes the
   * largest says whether to start more. What waits for a paused endpoint, a receiver's `Retry-After`, a
   * limit of its endpoint (rate, concurrency) or its next attempt does not count.
   */
  readonly oldestDueAgeMs: number
}

export interface ServiceHealth {
  status: 'ok' | 'degraded' | 'starting' | 'closed'
  storage: { description: string; location: string } | null
  /** What opening or the last write failed with, or what the store says to a question; null: all is well. */
  trouble: { code: string; message: string } | null
  backlog: ServiceBacklog | null
  requestsUnderWay: number
  /**
   * The key that encrypts secrets, and how many endpoints are not yet encrypted with it: at 0 the
   * older keys can be retired. Null: stored in the clear.
   */
  encryption: { key: string; endpointsLeft: number } | null
}

export interface DispatchOptions extends DispatchTimesOptions {
  /**
   * A client of `pg` with a transaction open, or what `fromDrizzle`, `fromKysely` and `fromPrisma` of
   * `@k-msg/webhook/postgres` make of theirs: the event is stored with your own rows, or rolled back
   * with them. Its deliveries are made once you have committed, so the receipt names none yet. Only
   * with `storage: postgres(…)`; others reject with TRANSACTION_UNSUPPORTED.
   */
  transaction?: object | undefined
}

/** When an event is sent. An event that was accepted before keeps its first times. */
export interface DispatchTimesOptions {
  /** Not before this moment of the wall clock; at most 366 days ahead. In the past: at once. */
  deliverAt?: Date | string | undefined
  /** Deliveries that no attempt has begun for by then end as `cancelled`, reason `expired`. */
  expiresAt?: Date | string | undefined
}
