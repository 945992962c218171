/**
 * Gives lanes their turns. It owns the lanes: which deliveries are claimed, how many requests run per
 * endpoint and in all. Its parts: `turns` (who is next), `memory` (how much a lane may hold), `reader`
 * (what comes back from the store), `alarm` (when something is due next), `pacer` (send times of
 * rate limits) and `breakers`. No mover, and no polling: only once a minute the janitor (engine/janitor.ts) looks for what memory was not told.
 *
 * It never sends by itself: `run` is handed in, and tells through `finished` when a slot is free.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointFlow } from '../model/flow.ts'
import type { Claim } from '../storage/claims.ts'
import type { ReleaseRecord } from '../storage/commit-records.ts'
import type { Store } from '../storage/storage.ts'
import { Alarm } from './alarm.ts'
import { Breakers, type Verdict } from './breakers.ts'
import { applyFlow, applyLimits, Lane, type LaneLimits, never } from './lane.ts'
import { Memory, type MemoryLimits } from './memory.ts'
import type { Pace } from './pace.ts'
import { Pacer } from './pacer.ts'
import { Reader } from './reader.ts'
import { Slots, slowAfterMs } from './slots.ts'
import type { Telling } from './telling.ts'
import { Turns } from './turns.ts'

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
  readonly release: (record: ReleaseRecord) => void
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
  readonly #lanes = new Map<string, Lane>()
  readonly #turns = new Turns()
  /** Lanes that answer nothing: the others come first. */
  readonly #stalledTurns = new Turns()
  readonly #slots: Slots
  readonly #memory: Memory
  readonly #reader: Reader
  readonly #alarm: Alarm<Lane>
  readonly #sendAlarm: Alarm<Pace>
  readonly #pacer: Pacer
  readonly #breakers: Breakers
  /** Lanes with a rate limit that may have something to send. */
  readonly #paced = new Set<Lane>()
  #cancelLook: (() => void) | null = null
  #begun = 0
  #pumping = false
  #stopped = true

  constructor(tools: SchedulerTools, options: SchedulerOptions) {
    this.#tools = tools
    this.#options = options
    this.#memory = new Memory(options)
    this.#slots = new Slots(options.maxConcurrency, {
      [Symbol.iterator]: () => this.#lanes.values(),
    })
    this.#alarm = new Alarm(tools.clock, () => this.wake())
    this.#sendAlarm = new Alarm(tools.clock, () => this.wake())
    const rested = () => {
      if (this.#slots.active === 0) tools.quiet()
    }
    const { store, clock, flow, flows } = tools
    this.#pacer = new Pacer({
      store,
      clock,
      flows,
      paced: (lane) => {
        this.#join(lane)
        this.pump()
        this.#pace(lane)
      },
      rested,
    })
    this.#breakers = new Breakers({
      store,
      clock,
      flow,
      flows,
      changed: (lane) => this.#breakerChanged(lane),
      tell: tools.breakerChanged,
      rested,
    })
    this.#reader = new Reader({
      store: tools.store,
      clock: tools.clock,
      memory: this.#memory,
      maxBatchBytes: options.maxBatchBytes,
      blocked: () => this.#stopped || tools.congested(),
      claims: tools.claims,
      take: (claim) => this.#enqueue(this.#lane(claim.endpointKey), claim),
      over: (lane) => {
        if (lane.ready.length === 0) this.#breakers.cannotProbe(lane)
        this.#watch(lane)
        this.#forget(lane)
      },
      watch: (lane) => this.#watch(lane),
      rested,
    })
  }

  get active(): number {
    return this.#slots.active
  }

  /** When something is next due in the store; `never` when nothing is. */
  get nextDueAtMs(): number {
    return Math.min(this.#alarm.nextAtMs, this.#sendAlarm.nextAtMs)
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
      this.#pacer.isQuiet &&
      this.#breakers.isQuiet &&
      this.#memory.held === this.#waitingForTime() &&
      this.nextDueAtMs > this.#tools.clock.nowMs()
    )
  }

  /** Quiet, and nothing is due later either; what paused endpoints hold does not count. */
  get isDrained(): boolean {
    return this.isQuiet && this.nextDueAtMs === never
  }

  /** Deliveries in memory whose send time has not come. */
  #waitingForTime(): number {
    const nowMs = this.#tools.clock.nowMs()
    let waiting = 0
    for (const lane of this.#paced) {
      if (lane.ready.length === 0) this.#paced.delete(lane)
      else if (lane.pace !== null && !lane.pace.isTime(nowMs)) waiting += lane.ready.length
    }
    return waiting
  }

  start(): void {
    if (!this.#options.delivers) return
    this.#stopped = false
    this.wake()
  }

  /** Starts nothing more and gives back what has not been started. */
  stop(): void {
    this.#stopped = true
    this.#alarm.cancel()
    this.#sendAlarm.cancel()
    this.#reader.stop()
    this.#pacer.stop()
    this.#breakers.stop()
    this.#cancelLook?.()
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
    if (lane.batchSize !== null || this.#memory.isFull(lane)) return false
    const nowMs = this.#tools.clock.nowMs()
    if (lane.storedDueMs <= nowMs || lane.claiming || lane.isBlocked(nowMs)) return false
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
    if (!this.#options.delivers) return
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

  /** A backlog from before this process: its endpoint is met as after an outage. */
  startSlowly(endpointKey: string): void {
    this.#lane(endpointKey).startSlowly(true)
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

  /** What is stored of an endpoint's hold and breaker, whoever changed it. */
  flowChanged({ endpointKey, heldUntilMs, breaker }: EndpointFlow): void {
    const lane = this.#lanes.get(endpointKey)
    if (lane === undefined) return
    this.hold(endpointKey, heldUntilMs)
    if (!lane.isChanging) this.#breakers.adopt(lane, breaker)
  }

  /**
   * This process's shares are others.
   *
   * @returns whether no more than that is under way
   */
  sharesChanged(): boolean {
    let isWithin = true
    for (const [key, lane] of this.#lanes) {
      const endpoint = this.#tools.endpoint(key)
      if (endpoint === undefined) continue
      const { concurrency } = this.#tools.limits(endpoint)
      if (lane.active > concurrency) isWithin = false
      if (lane.concurrency === concurrency) continue
      lane.concurrency = concurrency
      if (concurrency === 0) this.#empty(lane)
      this.#watch(lane)
      this.#join(lane)
    }
    this.pump()
    return isWithin
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
    this.#join(lane)
    this.pump()
  }

  /** An attempt has ended; its slot is free. */
  finished(
    claim: Claim,
    verdict: Verdict = 'neither',
    startedAtMs = 0,
    timedOut: boolean | null = null,
  ): void {
    const lane = this.#lane(claim.endpointKey)
    this.#slots.ended(lane, timedOut, this.#tools.clock.nowMs())
    if (verdict !== 'up' || lane.isInTrouble) {
      this.#breakers.learned(lane, claim, verdict, startedAtMs)
    }
    this.#join(lane)
    this.#want(lane)
    this.pump()
    this.#forget(lane)
    if (this.#slots.active === 0) this.#tools.quiet()
  }

  // ── sending in turns ───────────────────────────────────────────────────────────────────────────

  pump(): void {
    if (this.#pumping || this.#stopped) return
    this.#pumping = true
    const nowMs = this.#tools.clock.nowMs()
    while (!this.#tools.congested()) {
      if (this.#slots.isFull(nowMs)) {
        this.#lookLater()
        break
      }
      const lane = this.#next()
      if (lane === undefined) break
      if (lane.canSend(nowMs)) this.#startOne(lane, nowMs)
      if (lane.canSend(nowMs)) this.#join(lane)
      else if (lane.pace !== null) this.#pace(lane)
    }
    this.#pumping = false
    this.#reader.ask()
  }

  #join(lane: Lane): void {
    if (lane.ready.length === 0 || lane.active >= lane.mostActive) return
    if (lane.isStalled) {
      this.#stalledTurns.join(lane)
      return
    }
    this.#stalledTurns.leave(lane)
    this.#turns.join(lane)
  }

  /** The others first, and stalled lanes in every eighth turn, as far as they may begin anything. */
  #next(): Lane | undefined {
    const stalledFirst = this.#begun % 8 === 7
    const lane = stalledFirst ? this.#nextStalled() : undefined
    if (lane !== undefined) return lane
    for (;;) {
      const lane = this.#turns.next()
      if (lane === undefined) return this.#nextStalled()
      if (this.#slots.mayBegin(lane)) return lane
      // It has stalled since it joined.
      this.#join(lane)
    }
  }

  #nextStalled(): Lane | undefined {
    const lane = this.#stalledTurns.next()
    if (lane === undefined || this.#slots.mayBegin(lane)) return lane
    this.#stalledTurns.join(lane)
    return undefined
  }

  /** Everything is taken: by lanes that hang, perhaps, which only time tells. */
  #lookLater(): void {
    if (this.#cancelLook !== null || this.#turns.size === 0) return
    this.#cancelLook = this.#tools.clock.setTimer(() => {
      this.#cancelLook = null
      this.pump()
    }, slowAfterMs / 2)
  }

  #startOne(lane: Lane, nowMs: number): void {
    const claim = lane.begin()
    if (claim === undefined) return
    this.#memory.remove(claim)
    const endpoint = this.#tools.endpoint(lane.endpointKey)
    if (endpoint === undefined || endpoint.status === 'disabled') {
      this.#giveBack(claim)
      return
    }
    if (claim.expiresAtMs !== undefined && claim.expiresAtMs <= nowMs) {
      this.#expire(lane, claim)
      return
    }
    this.#slots.began(lane, nowMs)
    this.#begun += 1
    this.#tools.run(claim, endpoint)
  }

  #enqueue(lane: Lane, claim: Claim): void {
    if (this.#stopped || lane.isBlocked(this.#tools.clock.nowMs())) {
      this.#giveBack(claim)
      return
    }
    lane.ready.push(claim)
    this.#memory.add(claim)
    if (lane.pace !== null) this.#paced.add(lane)
    this.#join(lane)
    this.pump()
  }

  /** Back to the store as not attempted. */
  #giveBack(claim: Claim): void {
    this.#tools.release({ deliveryId: claim.deliveryId, token: claim.token, dueAtMs: null })
    if (!this.#stopped) this.stored(claim.endpointKey, this.#tools.clock.nowMs())
  }

  #expire(lane: Lane, { deliveryId, token }: Claim): void {
    const dueAtMs = this.#tools.clock.nowMs()
    this.#tools.release({ deliveryId, token, dueAtMs, cancelled: 'expired' })
    this.#want(lane)
    this.#forget(lane)
  }

  #empty(lane: Lane): void {
    for (const claim of lane.ready.takeAll()) {
      this.#memory.remove(claim)
      this.#giveBack(claim)
    }
  }

  // ── rate limits and breakers ───────────────────────────────────────────────────────────────────

  /** Sees to it that the lane has send times, and is woken for the next. */
  #pace(lane: Lane): void {
    const { pace } = lane
    if (pace === null) return
    const nowMs = this.#tools.clock.nowMs()
    if (pace.missing(nowMs) > 0) this.#pacer.want(lane)
    const atMs = pace.alarmAtMs
    // A time that has come is used when a request has ended.
    if (atMs !== never && atMs > nowMs) this.#sendAlarm.watch(pace)
  }

  #breakerChanged(lane: Lane): void {
    if (lane.breaker.state !== 'closed') this.#empty(lane)
    this.#watch(lane)
    this.#join(lane)
    this.pump()
    this.#forget(lane)
  }

  // ── reading back from the store ────────────────────────────────────────────────────────────────

  /** Looks at the clock: lanes that have become due are asked for, the timer waits for the next. */
  wake(): void {
    if (this.#stopped) return
    const nowMs = this.#tools.clock.nowMs()
    for (;;) {
      const lane = this.#alarm.takeDue(nowMs)
      if (lane === undefined) break
      this.#ask(lane)
      this.#join(lane)
    }
    for (;;) {
      const pace = this.#sendAlarm.takeDue(nowMs)
      if (pace === undefined) break
      this.#join(pace.lane)
      // Times may have passed unused while all requests were under way.
      this.#pace(pace.lane)
    }
    this.pump()
    if (this.#stopped) return
    this.#alarm.arm()
    this.#sendAlarm.arm()
  }

  #watch(lane: Lane): void {
    const atMs = lane.claimAtMs
    if (atMs === never) return
    if (atMs <= this.#tools.clock.nowMs()) {
      this.#ask(lane)
      this.#reader.ask()
      return
    }
    this.#alarm.watch(lane)
  }

  /** A lane that runs low and has due deliveries in the store asks for them. */
  #want(lane: Lane): void {
    if (lane.claimAtMs <= this.#tools.clock.nowMs()) this.#ask(lane)
  }

  /** For deliveries; or, while the breaker is not closed, whether it may probe with one. */
  #ask(lane: Lane): void {
    if (lane.breaker.state === 'closed' || lane.probe === 'next') this.#reader.want(lane)
    else if (!this.#stopped) this.#breakers.askToProbe(lane)
  }

  // ── lanes ──────────────────────────────────────────────────────────────────────────────────────

  #lane(endpointKey: string, known?: EndpointRecord): Lane {
    let lane = this.#lanes.get(endpointKey)
    if (lane !== undefined) return lane
    const endpoint = known ?? this.#tools.endpoint(endpointKey)
    lane = new Lane(endpointKey, endpoint?.tenantId ?? '')
    if (endpoint === undefined || endpoint.status === 'disabled') lane.paused = true
    else applyLimits(lane, endpoint, this.#tools.limits(endpoint))
    applyFlow(lane, this.#tools.flow(endpointKey))
    this.#lanes.set(endpointKey, lane)
    return lane
  }

  #hasTurn(lane: Lane): boolean {
    return this.#turns.has(lane) || this.#stalledTurns.has(lane)
  }

  /** Ten thousand endpoints that are idle take no memory here. */
  #forget(lane: Lane): void {
    if (lane.isIdle && lane.heldUntilMs <= this.#tools.clock.nowMs() && !this.#hasTurn(lane)) {
      this.#lanes.delete(lane.endpointKey)
      this.#reader.drop(lane)
    }
  }
}
