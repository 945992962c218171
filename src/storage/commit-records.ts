/**
 * What `commit` and the ways into it take and give: accepted events with their deliveries, outcomes,
 * and claims that go back.
 */
import type { AttemptRecord } from '../model/attempt.ts'
import type { EventRecord } from '../model/event-record.ts'
import type { Settlement } from '../model/settlement.ts'

export interface CommitGroup {
  readonly accepts: readonly AcceptRecord[]
  readonly settlements: readonly SettlementRecord[]
  /** Claims whose attempt never began (shutdown, full lane): waiting again, no attempt counted. */
  readonly releases: readonly ReleaseRecord[]
}

export interface AcceptRecord {
  readonly event: EventRecord
  /** Which endpoints it was matched with, see StoreWatcher; null: whichever. */
  readonly endpointsVersion: number | null
  readonly deliveries: readonly NewDelivery[]
  /** Matched endpoints of an event too wide for one transaction: written as one row, see fanOut. */
  readonly fanOutTo: readonly NewDelivery[] | null
}

/** When an event may be sent, where its dispatch says so: not before, and not after. */
export interface DispatchTimes {
  readonly deliverAtMs?: number | undefined
  readonly expiresAtMs?: number | undefined
}

export interface NewDelivery {
  readonly id: string
  readonly endpointKey: string
  readonly dueAtMs: number
  /**
   * True: a slot of its lane is reserved, it is committed as `delivering` with token 1 and the
   * engine sends it right after the commit. False: `waiting` with token 0, claimed later.
   */
  readonly owned: boolean
  /** Why it ends as cancelled at once, without any attempt. */
  readonly ended?: string
  /** What most deliveries do not have. */
  readonly terms?: DeliveryTerms | undefined
}

export interface DeliveryTerms {
  /** Never part of a batch: it has times of its own. */
  readonly alone: boolean
  /** Ends as cancelled, `expired`, when no attempt has begun by then. */
  readonly expiresAtMs: number | null
  /** Waits until what came before under the same key of its endpoint has ended. Never `owned`. */
  readonly order?: { readonly key: string; readonly blocks: boolean } | undefined
}

/** An event that is not matched yet. */
export type IntakeRecord = Omit<EventRecord, 'matched'> & DispatchTimes

/** `refused`: it cannot be taken in. It is left where it is, and others are not held up by it. */
export type IntakeResult =
  | { readonly record: AcceptRecord; readonly result: AcceptResult }
  | { readonly refused: IntakeRecord; readonly error: Error }

export interface SettlementRecord {
  /** A delivery or a batch; a batch's settlement is that of all its members. */
  readonly deliveryId: string
  readonly endpointKey: string
  readonly tenantId: string
  /** For statistics; a batch is counted with the types of its members. */
  readonly eventType: string
  readonly token: number
  readonly attempt: AttemptRecord
  readonly settlement: Settlement
  readonly settledAtMs: number
  /** As its claim said. */
  readonly ordered?: boolean | undefined
}

export interface ReleaseRecord {
  readonly deliveryId: string
  readonly token: number
  /** Null: when it was due before it was claimed. */
  readonly dueAtMs: number | null
  /** Set: it does not wait again, it ends as cancelled for this reason. */
  readonly cancelled?: string | undefined
}

export interface CommitResult {
  /** In the order of `accepts`. */
  readonly accepts: readonly AcceptResult[]
  /** In the order of `settlements`. */
  readonly settlements: readonly SettlementResult[]
  /**
   * What ended as cancelled by this commit: claims given back to end or for an endpoint that takes
   * nothing any more, retries that will not be, what was cancelled while it was owned. Not what its
   * accepts and settlements say themselves. Left out when nothing did; a repeated group tells only what
   * the repetition has ended.
   */
  readonly cancelled?: readonly Cancellation[]
}

/** A delivery, each member of a batch for itself, that has ended as cancelled. */
export interface Cancellation {
  readonly id: string
  readonly reason: string
}

export type AcceptResult =
  | { readonly kind: 'stored' }
  /** Another process has changed endpoints since: nothing of it is stored, it must be matched anew. */
  | { readonly kind: 'stale' }
  /** The same tenant and id is there already; `sameContent` compares the content hash. */
  | {
      readonly kind: 'duplicate'
      readonly eventKey: string
      readonly acceptedAtMs: number
      readonly sameContent: boolean
      /** The stored body, for a comparison that ignores key order; null when gone. */
      readonly body: Uint8Array | null
      /** Its content was erased, and the hash of it: nothing is left to compare with. */
      readonly isErased: boolean
      readonly deliveryIds: readonly string[]
    }

/**
 * `written`: this attempt decided the delivery. `repeated`: it was there already (the answer to an
 * earlier commit was lost). `late`, also when it is repeated: somebody else owns the delivery now; the
 * attempt is in the log, nothing else changed.
 */
export type SettlementResult = 'written' | 'repeated' | 'late'

export interface FanOutResult {
  readonly endpointKeys: readonly string[]
  /** What ended at once. */
  readonly cancelled: readonly Cancellation[]
  readonly more: boolean
}
