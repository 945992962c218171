/**
 * Gives lanes their turns. It owns what is in memory: which deliveries are claimed, how many
 * requests run per endpoint and in all, and when the store has to be asked for more. One timer waits
 * for the next due time; there is no polling and no mover process.
 *
 * It never sends by itself: `run` is handed in, and tells through `finished` when a slot is free.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { isTransientStorageError } from '../model/errors.ts'
import type { Claim, LaneRoom, ReleaseRecord, Store } from '../storage/storage.ts'
import { DueHeap } from './due-heap.ts'
import { applyLimits, Lane, type LaneLimits, never } from './lane.ts'

export interface SchedulerOptions {
  /** Requests under way, all endpoints together. */
  readonly maxConcurrency: number
  /** Deliveries in memory per lane; what does not fit stays in the store. */
  readonly laneCapacity: number
  /** Deliveries in memory, all lanes together. */
  readonly memoryCapacity: number
  /** Bodies in memory, all lanes together. */
  readonly memoryBytes: number
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

const lanesPerClaim = 128
const rowsPerClaim = 512
/** When the store cannot be asked, nothing is asked for this long. */
const claimRetryMs = 200
/** When it can, but not about this one lane. */
const poisonedRetryMs = 5_000

export class Scheduler {
  readonly #tools: SchedulerTools
  readonly #options: SchedulerOptions
  readonly #lanes = new Map<string, Lane>()
  /** Lanes that may be able to send, in turns. */
  #circle: Lane[] = []
  #circleHead = 0
  readonly #due = new DueHeap<Lane>()
  /** Lanes whose stored deliveries are due, in turns. */
  readonly #wanting = new Set<Lane>()
  #active = 0
  #held = 0
  #heldBytes = 0
  #claiming = false
  #pumping = false
  #stopped = true
  #timerAtMs = never
  #cancelTimer: (() => void) | null = null
  #cancelClaimRetry: (() => void) | null = null

  constructor(tools: SchedulerTools, options: SchedulerOptions) {
    this.#tools = tools
    this.#options = options
  }

  get active(): number {
    return this.#active
  }

  /** When something is next due in the store; `never` when nothing is. */
  get nextDueAtMs(): number {
    for (;;) {
      const first = this.#due.first
      if (first === undefined) return never
      if (first.item.claimAtMs === first.atMs) return first.atMs
      this.#unwatch()
      this.#watchLater(first.item)
    }
  }

  /** No request is under way, and none can come of a claim that is. */
  get isInactive(): boolean {
    return this.#active === 0 && !this.#claiming
  }

  /** Nothing is under way, ready, being claimed or due now. */
  get isQuiet(): boolean {
    return (
      this.#active === 0 &&
      !this.#claiming &&
      this.#wanting.size === 0 &&
      this.#held === 0 &&
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
    this.#cancelTimer?.()
    this.#cancelTimer = null
    this.#timerAtMs = never
    this.#cancelClaimRetry?.()
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
    if (lane.isClosed || lane.batchSize !== null || this.#isFull(lane)) return false
    const nowMs = this.#tools.clock.nowMs()
    if (lane.storedDueMs <= nowMs || lane.claiming || lane.heldUntilMs > nowMs) return false
    lane.reserved += 1
    this.#held += 1
    return true
  }

  unreserve(endpointKey: string): void {
    const lane = this.#lanes.get(endpointKey)
    if (lane === undefined) return
    lane.reserved -= 1
    this.#held -= 1
    this.#forget(lane)
  }

  /** A reserved delivery is committed: send it when the lane's turn comes. */
  admit(claim: Claim): void {
    const lane = this.#lane(claim.endpointKey)
    lane.reserved -= 1
    this.#held -= 1
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

  /** Nothing is sent to this endpoint before then. */
  hold(endpointKey: string, untilMs: number): void {
    const lane = this.#lane(endpointKey)
    if (untilMs <= lane.heldUntilMs) return
    lane.heldUntilMs = untilMs
    this.#empty(lane)
    this.#watch(lane)
  }

  /** Begins nothing more for this endpoint, until `unsuspend` or a refresh to disabled. */
  suspend(endpointKey: string): void {
    const lane = this.#lane(endpointKey)
    if (lane.suspended) return
    lane.suspended = true
    this.#empty(lane)
    this.#wanting.delete(lane)
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
      this.#wanting.delete(lane)
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
      this.#wanting.delete(lane)
      this.#tools.quiet()
      return
    }
    this.#watch(lane)
    this.#join(lane)
    this.pump()
  }

  /** An attempt has ended; its slot is free. */
  finished(claim: Claim): void {
    const lane = this.#lane(claim.endpointKey)
    lane.active -= 1
    this.#active -= 1
    this.#join(lane)
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
      const lane = this.#nextInCircle()
      if (lane === undefined) break
      if (lane.canSend(nowMs)) this.#startOne(lane)
      if (lane.canSend(nowMs)) this.#join(lane)
    }
    this.#pumping = false
    this.#claimWanted()
  }

  #startOne(lane: Lane): void {
    const claim = lane.ready.shift()
    if (claim === undefined) return
    this.#held -= 1
    this.#heldBytes -= claim.body.length
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
    this.#held += 1
    this.#heldBytes += claim.body.length
    this.#join(lane)
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
      this.#held -= 1
      this.#heldBytes -= claim.body.length
      this.#giveBack(claim)
    }
  }

  #join(lane: Lane): void {
    if (lane.inCircle || lane.ready.length === 0 || lane.active >= lane.concurrency) return
    lane.inCircle = true
    this.#circle.push(lane)
  }

  #nextInCircle(): Lane | undefined {
    const lane = this.#circle[this.#circleHead]
    if (lane === undefined) {
      this.#circle = []
      this.#circleHead = 0
      return undefined
    }
    this.#circleHead += 1
    if (this.#circleHead > 1_024 && this.#circleHead * 2 > this.#circle.length) {
      this.#circle = this.#circle.slice(this.#circleHead)
      this.#circleHead = 0
    }
    lane.inCircle = false
    return lane
  }

  // ── reading back from the store ────────────────────────────────────────────────────────────────

  /** Looks at the clock: lanes that have become due are asked for, the timer waits for the next. */
  wake(): void {
    if (this.#stopped) return
    const nowMs = this.#tools.clock.nowMs()
    while (this.nextDueAtMs <= nowMs) {
      const lane = this.#unwatch()
      if (lane === undefined) break
      this.#wanting.add(lane)
      this.#join(lane)
    }
    this.pump()
    this.#arm()
  }

  #watch(lane: Lane): void {
    const atMs = lane.claimAtMs
    if (atMs === never) return
    if (atMs <= this.#tools.clock.nowMs()) {
      this.#wanting.add(lane)
      this.#claimWanted()
      return
    }
    this.#watchLater(lane)
    if (atMs < this.#timerAtMs) this.#arm()
  }

  /** An entry that is too early will do: it is put right when it surfaces. */
  #watchLater(lane: Lane): void {
    const atMs = lane.claimAtMs
    if (atMs >= lane.watchedAtMs) return
    lane.watchedAtMs = atMs
    this.#due.push(atMs, lane)
  }

  #unwatch(): Lane | undefined {
    const entry = this.#due.pop()
    if (entry?.atMs === entry?.item.watchedAtMs && entry) entry.item.watchedAtMs = never
    return entry?.item
  }

  #arm(): void {
    const atMs = this.nextDueAtMs
    if (this.#stopped || (atMs === this.#timerAtMs && this.#cancelTimer !== null)) return
    this.#cancelTimer?.()
    this.#cancelTimer = null
    this.#timerAtMs = atMs
    if (atMs === never) return
    this.#cancelTimer = this.#tools.clock.setTimer(
      () => {
        this.#cancelTimer = null
        this.#timerAtMs = never
        this.wake()
      },
      Math.max(0, atMs - this.#tools.clock.nowMs()),
    )
  }

  /** A lane that runs low and has due deliveries in the store asks for them. */
  #want(lane: Lane): void {
    if (lane.claimAtMs <= this.#tools.clock.nowMs()) this.#wanting.add(lane)
  }

  #room(lane: Lane): number {
    const allowance = this.#allowance(lane)
    // Not for every freed place: a claim of many rows costs little more than a claim of one.
    return lane.held > allowance / 2 ? 0 : Math.max(0, Math.ceil(allowance - lane.held))
  }

  /**
   * How much of the memory one lane may hold: half of what is free, so that no number of dead
   * endpoints can fill it all, but always enough to keep its requests going.
   */
  #allowance(lane: Lane): number {
    const { memoryCapacity, memoryBytes, laneCapacity } = this.#options
    const freeShare = Math.min(1 - this.#held / memoryCapacity, 1 - this.#heldBytes / memoryBytes)
    return Math.min(laneCapacity, Math.max(lane.concurrency, (freeShare * memoryCapacity) / 2))
  }

  #claimWanted(): void {
    if (this.#claiming || this.#stopped || this.#wanting.size === 0) return
    if (this.#tools.congested()) return
    const rooms: LaneRoom[] = []
    const lanes: Lane[] = []
    let rows = rowsPerClaim
    const share = Math.max(
      4,
      Math.floor(rowsPerClaim / Math.min(this.#wanting.size, lanesPerClaim)),
    )
    const nowMs = this.#tools.clock.nowMs()
    for (const lane of this.#wanting) {
      if (rows <= 0 || lanes.length >= lanesPerClaim) break
      if (lane.claimAtMs > nowMs) {
        // Held or emptied since it asked.
        this.#wanting.delete(lane)
        this.#watch(lane)
        continue
      }
      if (lane.claimAlone && lanes.length > 0) continue
      const limit = Math.min(this.#room(lane), share, rows)
      if (limit <= 0) continue
      // Behind the others: whoever was asked for now waits until all have had a turn.
      this.#wanting.delete(lane)
      rows -= limit
      lane.claiming = true
      lanes.push(lane)
      rooms.push({ endpointKey: lane.endpointKey, limit, batch: this.#batchOf(lane) })
      if (lane.claimAlone) break
    }
    if (rooms.length === 0) return
    this.#claiming = true
    this.#tools.store.claim(rooms, nowMs).then(
      (result) => this.#claimed(lanes, result.claims, result.heads),
      (error: unknown) => this.#claimFailed(lanes, error),
    )
  }

  #batchOf(lane: Lane): LaneRoom['batch'] {
    if (lane.batchSize === null) return null
    return { size: lane.batchSize, maxBytes: this.#options.maxBatchBytes }
  }

  #claimed(
    lanes: readonly Lane[],
    claims: readonly Claim[],
    heads: readonly { endpointKey: string; dueAtMs: number | null }[],
  ): void {
    this.#claiming = false
    for (const lane of lanes) lane.claiming = false
    for (const head of heads) {
      const lane = this.#lane(head.endpointKey)
      // What was stored while the claim ran may or may not be in its answer: the earlier one holds.
      lane.storedDueMs = Math.min(head.dueAtMs ?? never, lane.storedDuringClaimMs)
      lane.storedDuringClaimMs = never
      lane.claimAlone = false
      lane.loose = looseAfter(lane, claims)
      lane.looseDuringClaim = 0
    }
    for (const claim of claims) this.#enqueue(this.#lane(claim.endpointKey), claim)
    for (const lane of lanes) {
      this.#watch(lane)
      this.#forget(lane)
    }
    this.#claimWanted()
    if (this.#active === 0) this.#tools.quiet()
  }

  #claimFailed(lanes: readonly Lane[], error: unknown): void {
    for (const lane of lanes) {
      lane.claiming = false
      lane.storedDuringClaimMs = never
      lane.looseDuringClaim = 0
    }
    this.#tools.claimFailed(error)
    const again = () => {
      this.#cancelClaimRetry = null
      for (const lane of lanes) this.#watch(lane)
      this.#claiming = false
      this.#claimWanted()
      if (this.#active === 0) this.#tools.quiet()
    }
    if (!this.#stopped && isTransientStorageError(error)) {
      // The lanes keep their due times; another try comes with the pause, not in a tight loop.
      const cancel = this.#tools.clock.setTimer(again, claimRetryMs)
      this.#cancelClaimRetry = () => {
        cancel()
        again()
      }
      return
    }
    // A row of one lane that cannot be read must not keep the other 127 from being sent.
    const [first] = lanes
    if (lanes.length === 1 && first !== undefined) {
      first.claimNotBeforeMs = this.#tools.clock.nowMs() + poisonedRetryMs
    }
    for (const lane of lanes) lane.claimAlone = true
    again()
  }

  // ── lanes ──────────────────────────────────────────────────────────────────────────────────────

  #isFull(lane: Lane): boolean {
    return lane.held >= this.#allowance(lane)
  }

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
      this.#wanting.delete(lane)
    }
  }
}

/**
 * Loose deliveries left after a claim. What it tells about their number corrects a wrong count: a
 * batch with room left over took all there were, and when none was sealed there are too few for one.
 */
function looseAfter(lane: Lane, claims: readonly Claim[]): number {
  const size = lane.batchSize
  if (size === null) return 0
  let sealed = 0
  let tookAll = false
  for (const { endpointKey, members, token } of claims) {
    // A token above 1 is a batch sealed before, by itself or given back.
    if (endpointKey !== lane.endpointKey || members === null || token > 1) continue
    sealed += members.length
    tookAll ||= members.length < size
  }
  const before = lane.loose - lane.looseDuringClaim
  const left = tookAll ? 0 : sealed === 0 ? Math.min(before, size - 1) : before - sealed
  return Math.max(0, left) + lane.looseDuringClaim
}
