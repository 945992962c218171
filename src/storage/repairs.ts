/**
 * Repairs as a store keeps them. Of one delivery: what became of it. Of many: a row that says what is
 * wanted and how far it has come, and steps that move it on. A store finds candidates and writes what
 * was chosen; which of them are wanted is decided by policy/repair.ts, between the two.
 */
import type { Candidate, RepairCriteria, RepairKind, RepairState } from '../model/repair.ts'

export type RetryResult =
  | {
      readonly kind: 'moved' | 'created'
      readonly deliveryId: string
      readonly endpointKey: string
      readonly dueAtMs: number
    }
  | { readonly kind: 'unknown' | 'in-flight' | 'body-gone' | 'behind another of its key' }

/** `marked`: it is owned, and ends when its attempt has. */
export type CancelResult = 'cancelled' | 'marked' | 'in-batch' | 'ended' | 'unknown'

export interface CancelledDelivery {
  readonly id: string
  readonly endpointKey: string
}

/** What was left of an endpoint that takes nothing any more. */
export interface CancelledRest {
  /** Ids of the deliveries that ended. */
  readonly ended: readonly string[]
  /** Deliveries and batches that this process owns: what has not begun should be given back. */
  readonly marked: readonly CancelledDelivery[]
  /** So many that other processes own may yet begin: asked again until it is 0, they have heard of it. */
  readonly mayBegin: number
}

export interface NewRepair {
  /** `rep_…`, growing with time. */
  readonly id: string
  readonly kind: RepairKind
  readonly tenantId: string
  readonly endpointKey: string
  readonly criteria: RepairCriteria
  readonly maxPerSecond: number
  readonly createdAtMs: number
  /** Events up to this key are through; at first the floor of keys at `sinceMs`. */
  readonly cursor: string
}

export interface RepairRecord extends NewRepair {
  /** The id the endpoint has or had. */
  readonly endpointId: string
  readonly state: RepairState
  /** Why it failed or was cancelled. */
  readonly reason: string | null
  /** No step is made before: how the rate is kept, by all processes together. */
  readonly nextStepAtMs: number
  /** This process made the last step; another takes over only when no step follows. */
  readonly isOwn: boolean
  readonly matched: number
  readonly queued: number
  /** Matched and not queued: reason → number. */
  readonly skipped: Readonly<Record<string, number>>
  readonly endedAtMs: number | null
  /** Of what it has queued, how many are due and not settled; counts no further than 2,000. */
  readonly pending: number
}

export interface RepairQuery {
  /** Null: of every tenant. */
  readonly tenantId: string | null
  readonly id: string | null
  readonly onlyRunning: boolean
  readonly limit: number
}

export type CandidateQuery = Pick<NewRepair, 'kind' | 'tenantId' | 'endpointKey' | 'criteria'> & {
  /** Events with a greater key. */
  readonly after: string
  /** Of a backfill: with the bodies, for a choice that depends on them. */
  readonly withBodies: boolean
  readonly limit: number
}

export interface CandidatePage {
  /** In the order in which the events came. */
  readonly candidates: readonly Candidate[]
  /** Go on after this; null when there is nothing more. */
  readonly next: string | null
}

export interface RepairStep {
  readonly id: string
  /** The cursor it begins from: a step that another process was faster with changes nothing. */
  readonly from: string
  /** Null: it was the last one. */
  readonly to: string | null
  readonly nextStepAtMs: number
  readonly matched: number
  readonly skipped: Readonly<Record<string, number>>
  /** Delivery ids, and of a backfill event keys where there is no delivery yet; at most 1,000. */
  readonly take: readonly string[]
}

export interface RepairStepped {
  /** False: not running, or not at `from`. Nothing is written then. */
  readonly isWritten: boolean
  /** As it is now; null when there is none. */
  readonly record: RepairRecord | null
}

/**
 * Reasons of cancelled deliveries that a backfill brings back: nobody chose that the endpoint should
 * not get the event.
 */
export const cutOff = ['endpoint_backlog_full', 'endpoint_disabled'] as const

/** No further than this is counted what waits of a repair. */
export const maxPendingCounted = 2_000

export function addSkipped(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> {
  const sum: Record<string, number> = { ...a }
  for (const [reason, count] of Object.entries(b)) {
    if (count > 0) sum[reason] = (sum[reason] ?? 0) + count
  }
  return sum
}
