/**
 * Gives lanes their turns: which deliveries are claimed, how many requests run per endpoint and in
 * all. What arrives from outside arrives here; its parts: `lanes` (which there are), `sending` (begins
 * requests, gives back what cannot be sent) by `precedence` (who is next), `slots` and `memory` (how
 * much at once), `reader` (what comes back from the store), `agenda` (when something is next due, send
 * times of rate limits) and `breakers`. No mover, and no polling: only once a minute the janitor
 * (engine/janitor.ts) looks for what memory was not told.
 *
 * It never sends by itself: `run` is handed in, and tells through `finished` when a slot is free. It is
 * long because all that can happen to a lane from outside is told here.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { type EndpointFlow, heldUntil } from '../model/flow.ts'
import type { Claim } from '../storage/claims.ts'
import type { ReleaseRecord } from '../storage/commit-records.ts'
import type { Store } from '../storage/storage.ts'
import { Agenda } from './agenda.ts'
import { Breakers, type Verdict } from './breakers.ts'
import { never } from './due-heap.ts'
import { applyLimits, type Lane, type LaneLimits } from './lane.ts'
import { Lanes } from './lanes.ts'
import { Memory, type MemoryLimits } from './memory.ts'
import { Precedence } from './precedence.ts'
import { Reader } from './reader.ts'
import { Sending } from './sending.ts'
import { Slots } from './slots.ts'
import type { Telling } from './telling.ts'

export interface SchedulerOptions extends MemoryLimits {
  /** Requests under way, all endpoints together. */
  readonly maxConcurrency: number
  /** Largest body of a batch. */
  readonly maxBatchBytes: number
  /** False: nothing is claimed, kept or sent here; other processes do. */
  readonly delivers: boolean
}

export interface SchedulerTools {
  readonly store: Pick<Store, 'claim' | 'changeBreaker' | 'takeSendTimes'>
  readonly clock: Clock
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  readonly limits: (endpoint: EndpointRecord) => LaneLimits
  /** As far as is known. */
  readonly flow: (endpointKey: string) => EndpointFlow
  /** This process has changed the breaker of an endpoint. */
  readonly breakerChanged: (flow: EndpointFlow) => void
  /** Starts an attempt; `finished(claim)` must follow exactly once. Must not throw. */
  readonly run: (claim: Claim, endpoint: EndpointRecord) => void
  readonly release: (record: ReleaseRecord, endpointKey: string) => void
  /** It was cancelled while it was on its way to memory: it goes back. Asked once of each. */
  readonly isCancelled: (deliveryId: string) => boolean
  /** True while outcomes pile up unrecorded: nothing new starts. */
  readonly congested: () => boolean
  /** How claims of due deliveries go. */
  readonly claims: Telling
  /** The same of breakers and send times. */
  readonly flows: Telling
  /** A delivery of an endpoint that is gone or disabled went back to the store: it must be ended. */
  readonly orphaned: (endpointKey: string) => void
  /** Something has come to rest: see `isQuiet` and `isDrained`. */
  readonly quiet: () => void
}

export class Scheduler {
  readonly #tools: SchedulerTools
  readonly #options: SchedulerOptions
  readonly #lanes: Lanes
  readonly #slots: Slots
  readonly #memory: Memory
  readonly #precedence: Precedence
  readonly #reader: Reader
  readonly #breakers: Breakers
  readonly #agenda: Agenda
  readonly #sending: Sending

  constructor(tools: SchedulerTools, options: SchedulerOptions) {
    this.#tools = tools
    this.#options = options
    const { store, clock, flow, flows } = tools
    this.#lanes = new Lanes(tools)
    this.#memory = new Memory(options)
    this.#slots = new Slots(options.maxConcurrency, this.#lanes)
    this.#precedence = new Precedence(this.#slots)
    const rested = () => {
      if (this.#slots.active === 0) tools.quiet()
    }
    this.#reader = this.#createReader(rested)
    this.#breakers = new Breakers({
      store,
      clock,
      flow,
      flows,
      changed: (lane) => this.#breakerChanged(lane),
      tell: tools.breakerChanged,
      rested,
    })
    this.#agenda = new Agenda({
      store,
      clock,
      flows,
      reader: this.#reader,
      breakers: this.#breakers,
      precedence: this.#precedence,
      isStopped: () => this.#sending.isStopped,
      pump: () => this.#sending.pump(),
      rested,
    })
    this.#sending = this.#createSending()
  }

  #createReader(rested: () => void): Reader {
    const { store, clock, claims, congested } = this.#tools
    return new Reader({
      store,
      clock,
      memory: this.#memory,
      maxBatchBytes: this.#options.maxBatchBytes,
      blocked: () => this.#sending.isStopped || congested(),
      claims,
      take: (claim) => this.#sending.put(this.#lanes.open(claim.endpointKey), claim),
      over: (lane) => {
        if (lane.ready.length === 0) this.#breakers.cannotProbe(lane)
        this.#agenda.watch(lane)
        this.#forget(lane)
      },
      watch: (lane) => this.#agenda.watch(lane),
      rested,
    })
  }

  #createSending(): Sending {
    const { clock, endpoint, run, release, isCancelled, congested } = this.#tools
    return new Sending({
      clock,
      memory: this.#memory,
      slots: this.#slots,
      precedence: this.#precedence,
      reader: this.#reader,
      agenda: this.#agenda,
      endpoint,
      run,
      release,
      isCancelled,
      congested,
      expired: (lane) => this.#forget(lane),
    })
  }

  get active(): number {
    return this.#slots.active
  }

  /** When something is next due in the store; `never` when nothing is. */
  get nextDueAtMs(): number {
    return this.#agenda.nextAtMs
  }

  /** Since when something has waited in memory although its endpoint would take it; `never`: nothing. */
  get waitingSinceMs(): number {
    const nowMs = this.#tools.clock.nowMs()
    let sinceMs = never
    for (const lane of this.#lanes) sinceMs = Math.min(sinceMs, lane.waitingSinceMs(nowMs))
    return sinceMs
  }

  /** No request is under way, and none can come of a claim that is. */
  get isInactive(): boolean {
    return this.#slots.active === 0 && !this.#reader.isClaiming
  }

  /** Nothing is under way, ready, being claimed or due now. */
  get isQuiet(): boolean {
    return (
      this.#slots.active === 0 &&
      this.#reader.isQuiet &&
      this.#agenda.isQuiet &&
      this.#breakers.isQuiet &&
      this.#memory.held === this.#sending.waitingForTime() &&
      this.nextDueAtMs > this.#tools.clock.nowMs()
    )
  }

  /** Quiet, and nothing is due later either; what paused endpoints hold does not count. */
  get isDrained(): boolean {
    return this.isQuiet && this.nextDueAtMs === never
  }

  start(): void {
    if (!this.#options.delivers) return
    this.#sending.start()
    this.wake()
  }

  /** Starts nothing more and gives back what has not been started. */
  stop(): void {
    this.#sending.stop()
    this.#agenda.stop()
    this.#reader.stop()
    this.#breakers.stop()
    for (const lane of this.#lanes) this.#sending.empty(lane)
  }

  /**
   * What waits in memory belongs to another process now: it goes back, which changes nothing where
   * that process has it, and what is due is asked for again.
   */
  disown(): void {
    for (const lane of this.#lanes) this.#sending.empty(lane)
  }

  // ── what arrives ───────────────────────────────────────────────────────────────────────────────

  /**
   * Keeps a place for a delivery that is about to be committed. False when memory is full, or when
   * older deliveries of the lane wait in the store: it must not overtake those.
   */
  reserve(endpoint: EndpointRecord): boolean {
    if (this.#sending.isStopped) return false
    const lane = this.#lanes.open(endpoint.key, endpoint)
    if (lane.batchSize !== null || this.#memory.isFull(lane)) return false
    const nowMs = this.#tools.clock.nowMs()
    if (lane.storedDueMs <= nowMs || lane.claiming || lane.isBlocked(nowMs)) return false
    lane.reserved += 1
    this.#memory.reserve()
    return true
  }

  unreserve(endpointKey: string): void {
    const lane = this.#lanes.find(endpointKey)
    if (lane === undefined) return
    lane.reserved -= 1
    this.#memory.unreserve()
    this.#agenda.watch(lane)
    this.#forget(lane)
  }

  /** A reserved delivery is committed: send it when the lane's turn comes. */
  admit(claim: Claim): void {
    const lane = this.#lanes.open(claim.endpointKey)
    lane.reserved -= 1
    this.#memory.unreserve()
    this.#sending.put(lane, claim)
  }

  /**
   * An unowned delivery of this endpoint is in the store and due at that time.
   *
   * @param loose it waits to be batched
   */
  stored(endpointKey: string, dueAtMs: number, loose = false): void {
    const endpoint = this.#tools.endpoint(endpointKey)
    if (endpoint === undefined || endpoint.status === 'disabled') {
      this.#tools.orphaned(endpointKey)
      return
    }
    if (!this.#options.delivers) return
    const lane = this.#lanes.open(endpointKey, endpoint)
    if (lane.claiming && dueAtMs < lane.storedDuringClaimMs) lane.storedDuringClaimMs = dueAtMs
    const before = lane.claimAtMs
    if (loose && lane.batchSize !== null) {
      lane.loose += 1
      if (lane.claiming) lane.looseDuringClaim += 1
    }
    if (dueAtMs < lane.storedDueMs) lane.storedDueMs = dueAtMs
    if (lane.claimAtMs < before) this.#agenda.watch(lane)
  }

  /** What was released is written: it is due in the store, or what waited behind it is. */
  released(endpointKey: string): void {
    if (!this.#sending.isStopped) this.stored(endpointKey, this.#tools.clock.nowMs())
  }

  /** A backlog from before this process: its endpoint is met as after an outage. */
  startSlowly(endpointKey: string): void {
    this.#lanes.open(endpointKey).startSlowly(true)
  }

  /**
   * Deliveries have vanished from the store: asks it again when the next one is due, also where nothing
   * may be sent now, so that nobody waits for what is gone.
   */
  reread(endpointKey: string): void {
    const lane = this.#lanes.find(endpointKey)
    if (lane !== undefined) this.#reread(lane)
  }

  rereadAll(): void {
    for (const lane of this.#lanes) this.#reread(lane)
  }

  #reread(lane: Lane): void {
    if (lane.storedDueMs === never && lane.loose === 0 && !lane.claiming) return
    lane.mustLook = true
    this.#agenda.watch(lane)
  }

  /** Gives one delivery back that waits in memory. @returns false when none does */
  giveBack(endpointKey: string, deliveryId: string): boolean {
    const lane = this.#lanes.find(endpointKey)
    if (lane === undefined || !this.#sending.giveBack(lane, deliveryId)) return false
    this.#forget(lane)
    return true
  }

  /** The same of many at once. @returns those that do */
  giveBackSome(endpointKey: string, deliveryIds: ReadonlySet<string>): string[] {
    const lane = this.#lanes.find(endpointKey)
    if (lane === undefined) return []
    const given = this.#sending.giveBackSome(lane, deliveryIds)
    this.#forget(lane)
    return given
  }

  /** A claim is under way that may bring deliveries of this endpoint. */
  isClaiming(endpointKey: string): boolean {
    return this.#lanes.find(endpointKey)?.claiming ?? false
  }

  /** What is stored of an endpoint's hold and breaker, whoever changed it. */
  flowChanged(flow: EndpointFlow): void {
    const lane = this.#lanes.find(flow.endpointKey)
    if (lane === undefined) return
    const heldUntilMs = heldUntil(lane, flow)
    if (heldUntilMs < lane.heldUntilMs) this.#lift(lane, heldUntilMs)
    else this.hold(flow.endpointKey, heldUntilMs)
    if (!lane.isChanging) this.#breakers.adopt(lane, flow.breaker)
  }

  #lift(lane: Lane, heldUntilMs: number): void {
    lane.heldUntilMs = heldUntilMs
    this.#agenda.watch(lane)
    this.#precedence.join(lane)
    this.#sending.pump()
  }

  /**
   * This process's shares are others.
   *
   * @returns whether no more than that is under way
   */
  sharesChanged(): boolean {
    let isWithin = true
    for (const lane of this.#lanes) {
      const endpoint = this.#tools.endpoint(lane.endpointKey)
      if (endpoint === undefined) continue
      const { concurrency, isShared } = this.#tools.limits(endpoint)
      lane.isShared = isShared
      if (lane.active > concurrency) isWithin = false
      if (lane.concurrency === concurrency) continue
      lane.concurrency = concurrency
      this.#leave(lane)
      this.#agenda.watch(lane)
      this.#precedence.join(lane)
    }
    this.#sending.pump()
    return isWithin
  }

  /** What this process cannot send soon any more, or at all, is left to the others. */
  #leave(lane: Lane): void {
    if (lane.ready.length > 2 * this.#memory.allowance(lane)) this.#sending.empty(lane)
  }

  /** Nothing is sent to this endpoint before then. */
  hold(endpointKey: string, untilMs: number): void {
    const lane = this.#lanes.open(endpointKey)
    if (untilMs <= lane.heldUntilMs) return
    lane.heldUntilMs = untilMs
    this.#sending.empty(lane)
    this.#agenda.watch(lane)
  }

  /** Begins nothing more for this endpoint until each `suspend` has had its `unsuspend`. */
  suspend(endpointKey: string): void {
    const lane = this.#lanes.open(endpointKey)
    lane.suspensions += 1
    this.#sending.empty(lane)
    this.#reader.drop(lane)
  }

  unsuspend(endpointKey: string): void {
    const lane = this.#lanes.find(endpointKey)
    if (lane === undefined || lane.suspensions === 0) return
    lane.suspensions -= 1
    this.#agenda.watch(lane)
    this.#forget(lane)
  }

  /** The endpoint changed: other limits, paused, resumed, disabled or removed. */
  refresh(endpointKey: string): void {
    const lane = this.#lanes.find(endpointKey)
    const endpoint = this.#tools.endpoint(endpointKey)
    if (lane === undefined) return
    if (endpoint === undefined || endpoint.status === 'disabled') {
      lane.paused = true
      this.#sending.empty(lane)
      this.#reader.drop(lane)
      lane.storedDueMs = never
      lane.mustLook = false
      lane.loose = 0
      this.#forget(lane)
      this.#tools.quiet()
      return
    }
    applyLimits(lane, endpoint, this.#tools.limits(endpoint))
    if (lane.paused) {
      this.#sending.empty(lane)
      this.#reader.drop(lane)
      this.#tools.quiet()
      return
    }
    if (lane.isShared) this.#leave(lane)
    this.#agenda.watch(lane)
    this.#precedence.join(lane)
    this.#sending.pump()
  }

  /** An attempt has ended; its slot is free. */
  finished(
    claim: Claim,
    verdict: Verdict = 'neither',
    startedAtMs = 0,
    timedOut: boolean | null = null,
  ): void {
    const lane = this.#lanes.open(claim.endpointKey)
    const nowMs = this.#tools.clock.nowMs()
    this.#slots.ended(lane, timedOut, nowMs)
    if (lane.isShared && startedAtMs > 0) lane.attempted(nowMs - startedAtMs)
    if (verdict !== 'up' || lane.isInTrouble) {
      this.#breakers.learned(lane, claim, verdict, startedAtMs)
    }
    this.#precedence.join(lane)
    this.#agenda.want(lane)
    this.#sending.pump()
    this.#forget(lane)
    if (this.#slots.active === 0) this.#tools.quiet()
  }

  /** Begins all that may begin now. */
  pump(): void {
    this.#sending.pump()
  }

  /** What the store could not be asked for is asked for again, without a pause. */
  hurry(): void {
    this.#reader.hurry()
    this.#agenda.hurry()
    this.#breakers.hurry()
  }

  /** Looks at the clock: what has become due is asked for. */
  wake(): void {
    this.#agenda.wake()
  }

  #breakerChanged(lane: Lane): void {
    if (lane.breaker.state !== 'closed') this.#sending.empty(lane)
    this.#agenda.watch(lane)
    this.#precedence.join(lane)
    this.#sending.pump()
    this.#forget(lane)
  }

  /** Ten thousand endpoints that are idle take no memory here. */
  #forget(lane: Lane): void {
    if (!lane.isIdle || lane.heldUntilMs > this.#tools.clock.nowMs()) return
    if (this.#precedence.has(lane)) return
    this.#lanes.delete(lane)
    this.#reader.drop(lane)
  }
}
