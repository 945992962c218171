/**
 * The in-memory queue of one endpoint: what is ready to be sent, what is being sent, and when the
 * store has more. A lane decides nothing about other lanes; scheduler.ts gives them turns.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Claim } from '../storage/storage.ts'
import { Queue } from './queue.ts'

export const never = Number.POSITIVE_INFINITY

export class Lane {
  readonly endpointKey: string
  /** Owned and due: sent as soon as the lane has its turn and a free slot. */
  readonly ready = new Queue<Claim>()
  /** Requests under way. */
  active = 0
  /** Places kept for deliveries whose commit is under way. */
  reserved = 0
  /** When the first unowned delivery in the store is due; `never` when there is none. */
  storedDueMs = never
  /** Not asked for before: the last claim of this lane alone failed. */
  claimNotBeforeMs = 0
  /** A claim of this and other lanes failed: it is asked for alone, so that it can only fail itself. */
  claimAlone = false
  /** Set while a claim is under way: the earliest due time that arrived meanwhile. */
  storedDuringClaimMs = never
  claiming = false
  /** Loose deliveries of a batched endpoint, as far as known: enough of them seal a batch. */
  loose = 0
  /** Of these, those that arrived while a claim was under way. */
  looseDuringClaim = 0
  /** Nothing is sent before: the receiver's `Retry-After`. */
  heldUntilMs = 0
  concurrency = 1
  /** Its endpoint is paused, disabled or gone. */
  paused = false
  /** Its endpoint wants nothing more, and that is being written: nothing may begin meanwhile. */
  suspended = false
  batchSize: number | null = null
  batchTimeoutMs: number | null = null
  /** In the scheduler's circle of lanes that can send. */
  inCircle = false
  /** The earliest entry of this lane that the scheduler's heap holds. */
  watchedAtMs = never

  constructor(endpointKey: string) {
    this.endpointKey = endpointKey
  }

  /** Claims and reservations in memory. */
  get held(): number {
    return this.ready.length + this.reserved
  }

  /** Nothing is begun and nothing is asked for. */
  get isClosed(): boolean {
    return this.paused || this.suspended
  }

  canSend(nowMs: number): boolean {
    return (
      !this.isClosed &&
      this.active < this.concurrency &&
      this.ready.length > 0 &&
      this.heldUntilMs <= nowMs
    )
  }

  /** When the store may be asked for more: the due time, but not before the hold ends. */
  get claimAtMs(): number {
    if (this.isClosed) return never
    const fullBatch = this.batchSize !== null && this.loose >= this.batchSize
    return Math.max(fullBatch ? 0 : this.storedDueMs, this.heldUntilMs, this.claimNotBeforeMs)
  }

  get isIdle(): boolean {
    return (
      this.active === 0 &&
      this.held === 0 &&
      this.storedDueMs === never &&
      this.loose === 0 &&
      !this.suspended &&
      !this.claiming
    )
  }
}

/** Limits of a lane that come from its endpoint and the service. */
export interface LaneLimits {
  readonly concurrency: number
  readonly batch: { readonly size: number; readonly timeoutMs: number } | null
}

export function applyLimits(lane: Lane, endpoint: EndpointRecord, limits: LaneLimits): void {
  lane.concurrency = limits.concurrency
  lane.paused = endpoint.status === 'paused'
  lane.batchSize = limits.batch?.size ?? null
  lane.batchTimeoutMs = limits.batch?.timeoutMs ?? null
  lane.heldUntilMs = Math.max(lane.heldUntilMs, endpoint.heldUntilMs)
}
