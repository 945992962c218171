/** One event × one endpoint, and the states it passes through. */
import type { WebhookAttempt } from './attempt.ts'
import type { WebhookEventType } from './event.ts'

/**
 * `waiting → delivering → delivered`, or back to `waiting` with a later due time, or one of the
 * ends `exhausted` (attempts used up), `rejected` (an answer that must not be retried),
 * `cancelled` (endpoint deleted or disabled). Each end has a reason.
 */
export type DeliveryState =
  | 'waiting'
  | 'delivering'
  | 'delivered'
  | 'exhausted'
  | 'rejected'
  | 'cancelled'

export type EndState = Exclude<DeliveryState, 'waiting' | 'delivering'>

/**
 * `schedule`: its due time. `retry-after`: the receiver asked for time. `rate`: the endpoint's rate
 * limit. `breaker`: too many attempts in a row failed. `paused`: by a person. `ordering`: another of its
 * key is before it. `concurrency`: nothing of these; it is its turn next to what the endpoint is sent
 * already.
 */
export type WaitingFor =
  | 'schedule'
  | 'retry-after'
  | 'rate'
  | 'breaker'
  | 'paused'
  | 'ordering'
  | 'concurrency'

/**
 * The due time of what waits behind another of its key: at the far end of every index, so that a
 * million of them cost a claim nothing. Whatever ends the first of a key makes the next one due.
 */
export const behindMs = 9_000_000_000_000_000

export interface WebhookDelivery {
  id: string
  eventId: string
  eventType: WebhookEventType
  endpointId: string
  tenantId: string | null
  state: DeliveryState
  /** Why it ended, or what the last attempt met; null before the first attempt. */
  reason: string | null
  /** 1, or higher for a delivery made by a manual retry. */
  round: number
  attemptCount: number
  /** The batch it travels or travelled in. */
  batchId: string | null
  createdAt: Date
  /** When the next attempt is due; null once it has ended, and while it waits for its key. */
  nextAttemptAt: Date | null
  /** When it ends unsent, if it was dispatched with `expiresAt`; null once it has ended. */
  expiresAt: Date | null
  /**
   * While it is `waiting`: for what, and until when at the least (null: nobody can know). None of it
   * uses up an attempt.
   */
  waiting: { for: WaitingFor; until: Date | null } | null
  settledAt: Date | null
  /** Oldest first. */
  attempts: readonly WebhookAttempt[]
}

/** A delivery that ended without success, after at least one attempt. */
export interface FailedDelivery extends WebhookDelivery {
  state: 'exhausted' | 'rejected'
  attempts: readonly [WebhookAttempt, ...WebhookAttempt[]]
}

/** Why an endpoint of the tenant did not get an event. */
export type NotMatchedReason =
  | 'endpoint_disabled'
  | 'event_type_not_subscribed'
  | 'endpoint_registered_later'
  /** One of the service's own, for the endpoint of `systemEvents` alone. */
  | 'system_event'
  /** It would match as it is now; it did not when the event came. */
  | 'endpoint_changed_later'
  /** Retention or erasure removed what the filters would have looked at. */
  | 'unknown'
  | `filter_${string}`
  /** The place in `data` that the body filter looked at, or the word that said no. */
  | `body_filter: ${string}`
