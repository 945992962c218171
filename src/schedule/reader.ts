/**
 * Reads due deliveries back from the store for lanes that have room: one claim at a time, for many
 * lanes, in turns. What it gets it hands on; it sends nothing and frees nothing.
 */
import type { Clock } from '../model/clock.ts'
import { isTransientStorageError } from '../model/errors.ts'
import type { Claim, ClaimResult, LaneRoom } from '../storage/claims.ts'
import type { Store } from '../storage/storage.ts'
import { never } from './due-heap.ts'
import type { Lane } from './lane.ts'
import type { Memory } from './memory.ts'
import type { Telling } from './telling.ts'
import { Turns } from './turns.ts'

export interface ReaderTools {
  readonly store: Pick<Store, 'claim'>
  readonly clock: Clock
  readonly memory: Memory
  /** Largest body of a batch. */
  readonly maxBatchBytes: number
  /** Nothing new may start, so nothing is claimed. */
  readonly blocked: () => boolean
  readonly claims: Telling
  readonly take: (claim: Claim) => void
  /** The lane's claim is over: look when it needs the next one. */
  readonly over: (lane: Lane) => void
  readonly watch: (lane: Lane) => void
  /** A claim is over, and all that came of it is handed on. */
  readonly rested: () => void
}

const lanesPerClaim = 128
const rowsPerClaim = 512
/** When the store cannot be asked, nothing is asked for this long. */
const claimRetryMs = 200
/** When it can, but not about this one lane. */
const poisonedRetryMs = 5_000

export class Reader {
  readonly #tools: ReaderTools
  /** Lanes whose stored deliveries are due, in turns. */
  readonly #wanting = new Turns()
  #claiming = false
  #stopped = false
  #cancelRetry: (() => void) | null = null

  constructor(tools: ReaderTools) {
    this.#tools = tools
  }

  get isClaiming(): boolean {
    return this.#claiming
  }

  get isQuiet(): boolean {
    return !this.#claiming && this.#wanting.size === 0
  }

  want(lane: Lane): void {
    this.#wanting.join(lane)
  }

  drop(lane: Lane): void {
    this.#wanting.leave(lane)
  }

  /** Asks again now, if it waits for that. */
  hurry(): void {
    this.#cancelRetry?.()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelRetry?.()
  }

  /** Asks the store, unless it is being asked already. */
  ask(): void {
    if (this.#claiming || this.#wanting.size === 0 || this.#tools.blocked()) return
    const nowMs = this.#tools.clock.nowMs()
    const lanes: Lane[] = []
    const rooms = this.#rooms(lanes, nowMs)
    if (rooms.length === 0) return
    this.#claiming = true
    this.#tools.store.claim(rooms, nowMs).then(
      (result) => this.#claimed(lanes, result),
      (error: unknown) => this.#failed(lanes, error),
    )
  }

  #rooms(lanes: Lane[], nowMs: number): LaneRoom[] {
    const rooms: LaneRoom[] = []
    let rows = rowsPerClaim
    const asking = Math.min(this.#wanting.size, lanesPerClaim)
    const share = Math.max(4, Math.floor(rowsPerClaim / asking))
    const alone: Lane[] = []
    // Whoever is asked for now comes behind the others, who wait until all have had a turn.
    while (rows > 0 && lanes.length < lanesPerClaim) {
      const lane = this.#wanting.next()
      if (lane === undefined) break
      if (lane.claimAtMs > nowMs) {
        // Held or emptied since it asked.
        this.#tools.watch(lane)
        continue
      }
      if (lane.claimAlone && lanes.length > 0) {
        alone.push(lane)
        continue
      }
      // A probe is one request.
      const most = lane.probe === 'next' ? 1 : share
      const room = lane.isBlocked(nowMs) ? 0 : this.#tools.memory.room(lane)
      const limit = Math.max(0, Math.min(room, most, rows))
      if (limit === 0 && !lane.mustLook) {
        // It asks again when one of its requests has ended. Left in here, ten thousand full lanes
        // would be looked at for every delivery: 145 µs instead of 2.
        continue
      }
      rows -= limit
      lane.claiming = true
      lane.mustLook = false
      lanes.push(lane)
      const { endpointKey, storedDueMs: headMs } = lane
      rooms.push({ endpointKey, limit, batch: this.#batchOf(lane), headMs })
      if (lane.claimAlone) break
    }
    for (const lane of alone) this.#wanting.join(lane)
    return rooms
  }

  #batchOf(lane: Lane): LaneRoom['batch'] {
    if (lane.batchSize === null) return null
    return { size: lane.batchSize, maxBytes: this.#tools.maxBatchBytes }
  }

  #claimed(lanes: readonly Lane[], { claims, heads }: ClaimResult): void {
    this.#claiming = false
    this.#tools.claims.worked()
    const dueAtMs = new Map(heads.map((head) => [head.endpointKey, head.dueAtMs]))
    for (const lane of lanes) {
      lane.claiming = false
      // What was stored while the claim ran may or may not be in its answer: the earlier one holds.
      const headMs = dueAtMs.get(lane.endpointKey) ?? never
      lane.storedDueMs = Math.min(headMs, lane.storedDuringClaimMs)
      lane.storedDuringClaimMs = never
      lane.claimAlone = false
      lane.loose = looseAfter(lane, claims)
      lane.looseDuringClaim = 0
    }
    for (const claim of claims) this.#tools.take(claim)
    for (const lane of lanes) this.#tools.over(lane)
    this.ask()
    this.#tools.rested()
  }

  #failed(lanes: readonly Lane[], error: unknown): void {
    for (const lane of lanes) {
      lane.claiming = false
      lane.storedDuringClaimMs = never
      lane.looseDuringClaim = 0
      lane.mustLook = true
    }
    this.#tools.claims.failed(error)
    const again = () => {
      this.#cancelRetry = null
      for (const lane of lanes) this.#tools.watch(lane)
      this.#claiming = false
      this.ask()
      this.#tools.rested()
    }
    if (!this.#stopped && isTransientStorageError(error)) {
      // The lanes keep their due times; another try comes with the pause, not in a tight loop.
      const cancel = this.#tools.clock.setTimer(again, claimRetryMs)
      this.#cancelRetry = () => {
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
