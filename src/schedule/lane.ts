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
  /** Set while a claim is under way: the earliest due time that arrived meanwhile. */
  storedDuringClaimMs = never
  claiming = false
  /** Loose deliveries of a batched endpoint since the last claim: enough of them seal a batch. */
  loose = 0
  /** Nothing is sent before: the receiver's `Retry-After`. */
  heldUntilMs = 0
  concurrency = 1
  paused = false
  batchSize: number | null = null
  batchTimeoutMs: number | null = null
  /** In the scheduler's circle of lanes that can send. */
  inCircle = false

  constructor(endpointKey: string) {
    this.endpointKey = endpointKey
  }

  /** Claims and reservations in memory. */
  get held(): number {
    return this.ready.length + this.reserved
  }

  canSend(nowMs: number): boolean {
    return (
      !this.paused &&
      this.active < this.concurrency &&
      this.ready.length > 0 &&
      this.heldUntilMs <= nowMs
    )
  }

  /** When the store may be asked for more: the due time, but not before the hold ends. */
  get claimAtMs(): number {
    if (this.paused) return never
    if (this.batchSize !== null && this.loose >= this.batchSize) return this.heldUntilMs
    return Math.max(this.storedDueMs, this.heldUntilMs)
  }

  get isIdle(): boolean {
    return (
      this.active === 0 &&
      this.held === 0 &&
      this.storedDueMs === never &&
      this.loose === 0 &&
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
