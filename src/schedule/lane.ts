/**
 * The in-memory queue of one endpoint: what is ready to be sent, what is being sent, and when the
 * store has more. A lane decides nothing about other lanes; precedence.ts gives them turns.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { closedBreaker, type EndpointFlow, type RateLimit } from '../model/flow.ts'
import { type FailureRun, firstStep, noFailures, type SlowStart } from '../policy/breaker.ts'
import type { Claim } from '../storage/claims.ts'
import type { Watched } from './alarm.ts'
import { never } from './due-heap.ts'
import { Pace } from './pace.ts'
import { Ready } from './ready.ts'

/** Until one has ended. */
const attemptMsAtFirst = 100
const attemptsInMind = 8
const heldForMs = 1_000

export class Lane implements Watched {
  readonly endpointKey: string
  readonly tenantId: string
  /** Owned and due: sent as soon as the lane has its turn and a free slot. */
  readonly ready = new Ready()
  /** Requests under way. */
  active = 0
  /** Its last attempt timed out. */
  hasTimedOut = false
  /** Requests are under way, and for a while none was answered. */
  isSlow = false
  /** When its last attempt ended, or the first of those under way began. */
  quietSinceMs = 0
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
  /** What it had in the store may be gone: it asks when the next is due, whether it may send or not. */
  mustLook = false
  /** Loose deliveries of a batched endpoint, as far as known: enough of them seal a batch. */
  loose = 0
  /** Of these, those that arrived while a claim was under way. */
  looseDuringClaim = 0
  /** Nothing is sent before: the receiver's `Retry-After`. */
  heldUntilMs = 0
  /** As stored, for all processes. */
  breaker = closedBreaker
  /** When this process learned of it: attempts from before tell nothing about it. */
  breakerSinceMs = 0
  /** A change of it is on its way to the store. */
  isChanging = false
  /** This process probes: with the next delivery, or with this one. */
  probe: 'next' | Claim | null = null
  failures: FailureRun = noFailures
  /** After recovery: fewer requests at the same time than it may have. */
  slowStart: SlowStart | null = null
  /** Set with a rate limit. */
  pace: Pace | null = null
  /** Requests at the same time that this process may have under way. */
  concurrency = 1
  /** Other processes send to its endpoint, too. */
  isShared = false
  /** How long its attempts take, the last ones most. */
  attemptMs = attemptMsAtFirst
  /** Longest time of an attempt. */
  timeoutMs = 0
  /** Its endpoint is paused, disabled or gone. */
  paused = false
  /** Why nothing may begin for now: what is being written says that its endpoint wants nothing more. */
  suspensions = 0
  batchSize: number | null = null
  batchTimeoutMs: number | null = null
  /** The earliest entry of this lane that the scheduler's heap holds. */
  watchedAtMs = never

  constructor(endpointKey: string, tenantId: string) {
    this.endpointKey = endpointKey
    this.tenantId = tenantId
  }

  /** Claims and reservations in memory. */
  get held(): number {
    return this.ready.length + this.reserved
  }

  get isStalled(): boolean {
    return this.hasTimedOut || this.isSlow
  }

  /** Nothing is begun and nothing is asked for. Other processes may have all of its concurrency. */
  get isClosed(): boolean {
    return this.paused || this.suspensions > 0 || this.concurrency === 0
  }

  /** What is claimed now could not be sent soon. */
  isBlocked(nowMs: number): boolean {
    return (
      this.isClosed ||
      this.heldUntilMs > nowMs ||
      (this.breaker.state !== 'closed' && this.probe !== 'next')
    )
  }

  /** Requests under way at the most, as things are. */
  get mostActive(): number {
    if (this.breaker.state !== 'closed') return this.probe === 'next' ? this.active + 1 : 0
    if (this.slowStart === null) return this.concurrency
    return Math.min(this.slowStart.limit, this.concurrency)
  }

  attempted(tookMs: number): void {
    this.attemptMs += (tookMs - this.attemptMs) / attemptsInMind
  }

  /**
   * What it may hold at the most: where others send to the endpoint as well, what this process sends in
   * about a second. The rest is better left to whoever has room.
   */
  get mostHeld(): number {
    if (!this.isShared) return never
    return Math.ceil(this.concurrency * Math.max(2, heldForMs / Math.max(1, this.attemptMs)))
  }

  /**
   * Since when something has waited here for nothing but a place of this process; `never` when that is
   * not so. More processes would not help against a limit of the endpoint's own.
   */
  waitingSinceMs(nowMs: number): number {
    const isItsOwn =
      this.isClosed ||
      this.heldUntilMs > nowMs ||
      this.pace !== null ||
      this.active >= this.mostActive
    return isItsOwn ? never : this.ready.sinceMs
  }

  canSend(nowMs: number): boolean {
    return (
      !this.isClosed &&
      this.active < this.mostActive &&
      this.ready.length > 0 &&
      this.heldUntilMs <= nowMs &&
      (this.pace === null || this.pace.isTime(nowMs))
    )
  }

  /** The first delivery of `ready`, which is sent now. */
  begin(): Claim | undefined {
    const claim = this.ready.shift()
    if (claim === undefined) return undefined
    this.pace?.use()
    if (this.probe === 'next') this.probe = claim
    return claim
  }

  startSlowly(isRecovering: boolean): void {
    this.slowStart = isRecovering ? firstStep : null
  }

  /** What attempts that went well would change. */
  get isInTrouble(): boolean {
    return this.failures.count > 0 || this.slowStart !== null || this.breaker.state !== 'closed'
  }

  /**
   * When the store may be asked for more: the due time, but not before the hold ends, and not while
   * the breaker is open. Then it may be asked to probe.
   */
  get claimAtMs(): number {
    if (this.isClosed) return never
    if (this.mustLook) return this.claimNotBeforeMs
    const fullBatch = this.batchSize !== null && this.loose >= this.batchSize
    const dueMs = fullBatch ? 0 : this.storedDueMs
    const atMs = Math.max(dueMs, this.heldUntilMs, this.claimNotBeforeMs)
    if (this.breaker.state === 'closed' || this.probe === 'next') return atMs
    if (this.isChanging || this.probe !== null) return never
    return Math.max(atMs, this.breaker.untilMs)
  }

  get alarmAtMs(): number {
    return this.claimAtMs
  }

  get isIdle(): boolean {
    return (
      this.active === 0 &&
      this.held === 0 &&
      this.storedDueMs === never &&
      !this.mustLook &&
      this.loose === 0 &&
      this.suspensions === 0 &&
      !this.claiming &&
      !this.isChanging &&
      this.failures.count === 0 &&
      !this.hasTimedOut &&
      this.slowStart === null
    )
  }
}

/** Limits of a lane that come from its endpoint and the service. */
export interface LaneLimits {
  /** This process's share of what the endpoint may have. */
  readonly concurrency: number
  /** Other processes have the rest of it. */
  readonly isShared: boolean
  readonly rateLimit: RateLimit | null
  readonly timeoutMs: number
  readonly batch: { readonly size: number; readonly timeoutMs: number } | null
}

export function applyLimits(lane: Lane, endpoint: EndpointRecord, limits: LaneLimits): void {
  const { rateLimit } = limits
  lane.concurrency = limits.concurrency
  lane.isShared = limits.isShared
  lane.timeoutMs = limits.timeoutMs
  const { limit, perMs } = lane.pace?.limit ?? {}
  if (rateLimit === null) lane.pace = null
  else if (limit !== rateLimit.limit || perMs !== rateLimit.perMs)
    lane.pace = new Pace(lane, rateLimit)
  lane.paused = endpoint.status === 'paused'
  lane.batchSize = limits.batch?.size ?? null
  lane.batchTimeoutMs = limits.batch?.timeoutMs ?? null
}

export function applyFlow(lane: Lane, { heldUntilMs, breaker }: EndpointFlow): void {
  lane.heldUntilMs = Math.max(lane.heldUntilMs, heldUntilMs)
  lane.breaker = breaker
}
