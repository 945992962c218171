/**
 * Gives lanes their turns. It owns the lanes: which deliveries are claimed, how many requests run per
 * endpoint and in all. Its parts: `turns` (who is next), `memory` (how much a lane may hold), `reader`
 * (what comes back from the store) and `alarm` (when something is due next). No mover, and
 * no polling: only once a minute the janitor (engine/janitor.ts) looks for what memory was not told.
 *
 * It never sends by itself: `run` is handed in, and tells through `finished` when a slot is free.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Claim, ReleaseRecord, Store } from '../storage/storage.ts'
import { Alarm } from './alarm.ts'
import { applyLimits, Lane, type LaneLimits, never } from './lane.ts'
import { Memory, type MemoryLimits } from './memory.ts'
import { Reader } from './reader.ts'
import { Turns } from './turns.ts'

export interface SchedulerOptions extends MemoryLimits {
  /** Requests under way, all endpoints together. */
  readonly maxConcurrency: number
  /** Largest body of a batch. */
  readonly maxBatchBytes: number
}

export interface SchedulerTools {
  readonly store: Pick<Store, 'claim'>
  readonly clock: Clock
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  readonly limits: (endpoint: EndpointRecord) => LaneLimits
  /** Starts an attempt; `finished(claim)` must follow exactly once. Must not throw. */
  readonly run: (claim: Claim, endpoint: EndpointRecord) => void
  readonly release: (record: ReleaseRecord) => void
  /** True while outcomes pile up unrecorded: nothing new starts. */
  readonly congested: () => boolean
  readonly claimFailed: (error: unknown) => void
  /** A delivery of an endpoint that is gone or disabled went back to the store: it must be ended. */
  readonly orphaned: (endpointKey: string) => void
  /** Something has come to rest: see `isQuiet` and `isDrained`. */
  readonly quiet: () => void
}

export class Scheduler {
  readonly #tools: SchedulerTools
  readonly #options: SchedulerOptions
  readonly #lanes = new Map<string, Lane>()
  readonly #turns = new Turns()
  readonly #memory: Memory
  readonly #reader: Reader
  readonly #alarm: Alarm
  #active = 0
  #pumping = false
  #stopped = true

  constructor(tools: SchedulerTools, options: SchedulerOptions) {
    this.#tools = tools
    this.#options = options
    this.#memory = new Memory(options)
    this.#alarm = new Alarm(tools.clock, () => this.wake())
    this.#reader = new Reader({
      store: tools.store,
      clock: tools.clock,
      memory: this.#memory,
      maxBatchBytes: options.maxBatchBytes,
      blocked: () => this.#stopped || tools.congested(),
      claimFailed: tools.claimFailed,
      take: (claim) => this.#enqueue(this.#lane(claim.endpointKey), claim),
      over: (lane) => {
        this.#watch(lane)
        this.#forget(lane)
      },
      watch: (lane) => this.#watch(lane),
      rested: () => {
        if (this.#active === 0) tools.quiet()
      },
    })
  }

  get active(): number {
    return this.#active
  }

  /** When something is next due in the store; `never` when nothing is. */
  get nextDueAtMs(): number {
    return this.#alarm.nextAtMs
  }

  /** No request is under way, and none can come of a claim that is. */
  get isInactive(): boolean {
    return this.#active === 0 && !this.#reader.isClaiming
  }

  /** Nothing is under way, ready, being claimed or due now. */
  get isQuiet(): boolean {
    return (
      this.#active === 0 &&
      this.#reader.isQuiet &&
      this.#memory.isEmpty &&
      this.nextDueAtMs > this.#tools.clock.nowMs()
    )
  }

  /** Quiet, and nothing is due later either; what paused endpoints hold does not count. */
  get isDrained(): boolean {
    return this.isQuiet && this.nextDueAtMs === never
  }

  start(): void {
    this.#stopped = false
    this.wake()
  }

  /** Starts nothing more and gives back what has not been started. */
  stop(): void {
    this.#stopped = true
    this.#alarm.cancel()
    this.#reader.stop()
    for (const lane of this.#lanes.values()) this.#empty(lane)
  }

  /**
   * What waits in memory belongs to another process now: it goes back, which changes nothing where
   * that process has it, and what is due is asked for again.
   */
  disown(): void {
    for (const lane of this.#lanes.values()) this.#empty(lane)
  }

  // ── what arrives ───────────────────────────────────────────────────────────────────────────────

  /**
   * Keeps a place for a delivery that is about to be committed. False when memory is full, or when
   * older deliveries of the lane wait in the store: it must not overtake those.
   */
  reserve(endpoint: EndpointRecord): boolean {
    if (this.#stopped) return false
    const lane = this.#lane(endpoint.key, endpoint)
    if (lane.isClosed || lane.batchSize !== null || this.#memory.isFull(lane)) return false
    const nowMs = this.#tools.clock.nowMs()
    if (lane.storedDueMs <= nowMs || lane.claiming || lane.heldUntilMs > nowMs) return false
    lane.reserved += 1
    this.#memory.reserve()
    return true
  }

  unreserve(endpointKey: string): void {
    const lane = this.#lanes.get(endpointKey)
    if (lane === undefined) return
    lane.reserved -= 1
    this.#memory.unreserve()
    this.#watch(lane)
    this.#forget(lane)
  }

  /** A reserved delivery is committed: send it when the lane's turn comes. */
  admit(claim: Claim): void {
    const lane = this.#lane(claim.endpointKey)
    lane.reserved -= 1
    this.#memory.unreserve()
    this.#enqueue(lane, claim)
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
    const lane = this.#lane(endpointKey, endpoint)
    if (lane.claiming && dueAtMs < lane.storedDuringClaimMs) lane.storedDuringClaimMs = dueAtMs
    const before = lane.claimAtMs
    if (loose && lane.batchSize !== null) {
      lane.loose += 1
      if (lane.claiming) lane.looseDuringClaim += 1
    }
    if (dueAtMs < lane.storedDueMs) lane.storedDueMs = dueAtMs
    if (lane.claimAtMs < before) this.#watch(lane)
  }

  /** Deliveries have vanished from the store: asks it again when each lane's next one is due. */
  reread(): void {
    const nowMs = this.#tools.clock.nowMs()
    for (const lane of this.#lanes.values()) {
      if (lane.storedDueMs !== never) this.stored(lane.endpointKey, nowMs)
    }
  }

  /** Gives one delivery back that waits in memory. @returns false when none does */
  giveBack(endpointKey: string, deliveryId: string): boolean {
    const lane = this.#lanes.get(endpointKey)
    const claim = lane?.ready.remove((one) => one.deliveryId === deliveryId)
    if (lane === undefined || claim === undefined) return false
    this.#memory.remove(claim)
    this.#giveBack(claim)
    this.#forget(lane)
    return true
  }

  /** A claim is under way that may bring deliveries of this endpoint. */
  isClaiming(endpointKey: string): boolean {
    return this.#lanes.get(endpointKey)?.claiming ?? false
  }

  /** Nothing is sent to this endpoint before then. */
  hold(endpointKey: string, untilMs: number): void {
    const lane = this.#lane(endpointKey)
    if (untilMs <= lane.heldUntilMs) return
    lane.heldUntilMs = untilMs
    this.#empty(lane)
    this.#watch(lane)
  }

  /**
   * Begins nothing more for this endpoint, until `unsuspend` or a refresh to disabled.
   *
   * @returns false when it was so already
   */
  suspend(endpointKey: string): boolean {
    const lane = this.#lane(endpointKey)
    if (lane.suspended) return false
    lane.suspended = true
    this.#empty(lane)
    this.#reader.drop(lane)
    return true
  }

  unsuspend(endpointKey: string): void {
    const lane = this.#lanes.get(endpointKey)
    if (lane === undefined || !lane.suspended) return
    lane.suspended = false
    this.#watch(lane)
    this.#forget(lane)
  }

  /** The endpoint changed: other limits, paused, resumed, disabled or removed. */
  refresh(endpointKey: string): void {
    const lane = this.#lanes.get(endpointKey)
    const endpoint = this.#tools.endpoint(endpointKey)
    if (lane === undefined) return
    if (endpoint === undefined || endpoint.status === 'disabled') {
      lane.paused = true
      this.#empty(lane)
      this.#reader.drop(lane)
      lane.storedDueMs = never
      lane.loose = 0
      lane.suspended = false
      this.#forget(lane)
      this.#tools.quiet()
      return
    }
    applyLimits(lane, endpoint, this.#tools.limits(endpoint))
    if (lane.paused) {
      this.#empty(lane)
      this.#reader.drop(lane)
      this.#tools.quiet()
      return
    }
    this.#watch(lane)
    this.#turns.join(lane)
    this.pump()
  }

  /** An attempt has ended; its slot is free. */
  finished(claim: Claim): void {
    const lane = this.#lane(claim.endpointKey)
    lane.active -= 1
    this.#active -= 1
    this.#turns.join(lane)
    this.#want(lane)
    this.pump()
    this.#forget(lane)
    if (this.#active === 0) this.#tools.quiet()
  }

  // ── sending in turns ───────────────────────────────────────────────────────────────────────────

  pump(): void {
    if (this.#pumping || this.#stopped) return
    this.#pumping = true
    const nowMs = this.#tools.clock.nowMs()
    while (this.#active < this.#options.maxConcurrency && !this.#tools.congested()) {
      const lane = this.#turns.next()
      if (lane === undefined) break
      if (lane.canSend(nowMs)) this.#startOne(lane)
      if (lane.canSend(nowMs)) this.#turns.join(lane)
    }
    this.#pumping = false
    this.#reader.ask()
  }

  #startOne(lane: Lane): void {
    const claim = lane.ready.shift()
    if (claim === undefined) return
    this.#memory.remove(claim)
    const endpoint = this.#tools.endpoint(lane.endpointKey)
    if (endpoint === undefined || endpoint.status === 'disabled') {
      this.#giveBack(claim)
      return
    }
    lane.active += 1
    this.#active += 1
    this.#tools.run(claim, endpoint)
  }

  #enqueue(lane: Lane, claim: Claim): void {
    if (this.#stopped || lane.isClosed || lane.heldUntilMs > this.#tools.clock.nowMs()) {
      this.#giveBack(claim)
      return
    }
    lane.ready.push(claim)
    this.#memory.add(claim)
    this.#turns.join(lane)
    this.pump()
  }

  /** Back to the store as not attempted. */
  #giveBack(claim: Claim): void {
    const dueAtMs = this.#tools.clock.nowMs()
    this.#tools.release({ deliveryId: claim.deliveryId, token: claim.token, dueAtMs })
    if (!this.#stopped) this.stored(claim.endpointKey, dueAtMs)
  }

  #empty(lane: Lane): void {
    for (const claim of lane.ready.takeAll()) {
      this.#memory.remove(claim)
      this.#giveBack(claim)
    }
  }

  // ── reading back from the store ────────────────────────────────────────────────────────────────

  /** Looks at the clock: lanes that have become due are asked for, the timer waits for the next. */
  wake(): void {
    if (this.#stopped) return
    const nowMs = this.#tools.clock.nowMs()
    for (;;) {
      const lane = this.#alarm.takeDue(nowMs)
      if (lane === undefined) break
      this.#reader.want(lane)
      this.#turns.join(lane)
    }
    this.pump()
    if (!this.#stopped) this.#alarm.arm()
  }

  #watch(lane: Lane): void {
    const atMs = lane.claimAtMs
    if (atMs === never) return
    if (atMs <= this.#tools.clock.nowMs()) {
      this.#reader.want(lane)
      this.#reader.ask()
      return
    }
    this.#alarm.watch(lane)
  }

  /** A lane that runs low and has due deliveries in the store asks for them. */
  #want(lane: Lane): void {
    if (lane.claimAtMs <= this.#tools.clock.nowMs()) this.#reader.want(lane)
  }

  // ── lanes ──────────────────────────────────────────────────────────────────────────────────────

  #lane(endpointKey: string, known?: EndpointRecord): Lane {
    let lane = this.#lanes.get(endpointKey)
    if (lane !== undefined) return lane
    lane = new Lane(endpointKey)
    const endpoint = known ?? this.#tools.endpoint(endpointKey)
    if (endpoint === undefined || endpoint.status === 'disabled') lane.paused = true
    else applyLimits(lane, endpoint, this.#tools.limits(endpoint))
    this.#lanes.set(endpointKey, lane)
    return lane
  }

  /** Ten thousand endpoints that are idle take no memory here. */
  #forget(lane: Lane): void {
    if (lane.isIdle && lane.heldUntilMs <= this.#tools.clock.nowMs() && !lane.inCircle) {
      this.#lanes.delete(lane.endpointKey)
      this.#reader.drop(lane)
    }
  }
}
