/** What a store is asked about events, deliveries, attempts and their sums, and what it answers. */
import type { AttemptRecord } from '../model/attempt.ts'
import type { DeliveryState } from '../model/delivery.ts'

export interface EventFound {
  readonly key: string
  readonly id: string
  readonly type: string
  readonly tenantId: string
  readonly acceptedAtMs: number
  /** Null when retention or erasure removed it. */
  readonly body: Uint8Array | null
  readonly deliveries: readonly DeliveryFound[]
  /** Endpoints still to be fanned out to. */
  readonly pendingFanOut: number
}

export interface DeliveryFound {
  readonly id: string
  readonly eventId: string
  readonly eventType: string
  readonly tenantId: string
  readonly endpointKey: string
  /** The id the endpoint has or had. */
  readonly endpointId: string
  readonly state: DeliveryState
  readonly reason: string | null
  readonly round: number
  readonly attempts: number
  readonly batchId: string | null
  readonly createdAtMs: number
  readonly dueAtMs: number | null
  /** Null once it has ended. */
  readonly expiresAtMs: number | null
  readonly settledAtMs: number | null
  /** The later round a manual retry made of it. */
  readonly retriedAs: string | null
}

export interface AttemptFound extends AttemptRecord {
  readonly late: boolean
}

export interface DeliveryQuery {
  /** Null reads every tenant; `''` those without one. */
  readonly tenantId: string | null
  readonly endpointKey: string | null
  readonly states: readonly DeliveryState[] | null
  readonly eventType: string | null
  /** By the time the event was accepted: from (inclusive), to (exclusive). */
  readonly fromMs: number | null
  readonly toMs: number | null
  /** Deliveries that a manual retry replaced are left out. */
  readonly skipRetried: boolean
  /** Only ids below this one: the last id of the page before. */
  readonly before: string | null
  readonly limit: number
}

export interface BlockedKey {
  readonly endpointKey: string
  /** As `orderKeyOf` makes it. */
  readonly key: string
  readonly deliveryId: string
  readonly atMs: number
}

/**
 * Sums of attempts, kept in the transaction of their outcome. Hour buckets per endpoint; with
 * neither endpoint nor range, the sums of all time.
 */
export interface StatisticsQuery {
  readonly tenantId: string | null
  readonly endpointKey: string | null
  readonly fromMs: number | null
  readonly toMs: number | null
  /** Add the hour to each row. */
  readonly perHour: boolean
}

export interface StatisticsRow {
  /** Start of the hour; null unless asked per hour. */
  readonly hourMs: number | null
  readonly eventType: string
  readonly outcome: string
  /** The end state the attempt brought, or `waiting` when a retry follows. */
  readonly state: string
  /** Number of the latency class, see `latencyClass` in storage/latency-class.ts. */
  readonly latencyClass: number
  /** The one attempt of a batch counts with the type of its first member. */
  readonly attempts: number
  /** Deliveries of this type that attempts carried: also as members of batches. */
  readonly deliveries: number
  /** For each of these deliveries the latency of its attempt. */
  readonly latencySumMs: number
}

export interface LiveEndpoint {
  readonly endpointKey: string
  readonly deliveries: number
}

/** Numbers beyond 100,000 may be estimates. */
export interface Backlog {
  readonly waiting: number
  readonly delivering: number
  /**
   * Due time of the oldest delivery that waits in the store and is due; endpoints that are paused, held
   * or have a rate limit do not count.
   */
  readonly oldestDueAtMs: number | null
}
