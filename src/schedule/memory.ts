/** What lanes hold in memory, all together, and how much of it one of them may take. */
import type { Claim } from '../storage/claims.ts'
import type { Lane } from './lane.ts'

export interface MemoryLimits {
  /** Deliveries in memory per lane; what does not fit stays in the store. */
  readonly laneCapacity: number
  /** Deliveries in memory, all lanes together. */
  readonly memoryCapacity: number
  /** Bodies in memory, all lanes together. */
  readonly memoryBytes: number
}

export class Memory {
  readonly #limits: MemoryLimits
  #held = 0
  #bytes = 0

  constructor(limits: MemoryLimits) {
    this.#limits = limits
  }

  get held(): number {
    return this.#held
  }

  reserve(): void {
    this.#held += 1
  }

  unreserve(): void {
    this.#held -= 1
  }

  add(claim: Claim): void {
    this.#held += 1
    this.#bytes += claim.body.length
  }

  remove(claim: Claim): void {
    this.#held -= 1
    this.#bytes -= claim.body.length
  }

  /**
   * How much one lane may hold: half of what is free, so that no number of dead endpoints can fill
   * it all, but always enough to keep its requests going. With a rate limit, or where other processes
   * send to its endpoint, what it may send in a second.
   */
  allowance(lane: Lane): number {
    const { memoryCapacity, memoryBytes, laneCapacity } = this.#limits
    const freeShare = Math.min(1 - this.#held / memoryCapacity, 1 - this.#bytes / memoryBytes)
    const most = Math.min(laneCapacity, lane.mostHeld, lane.pace?.most ?? laneCapacity)
    return Math.min(most, Math.max(lane.concurrency, (freeShare * memoryCapacity) / 2))
  }

  isFull(lane: Lane): boolean {
    return lane.held >= this.allowance(lane)
  }

  /** Not for every freed place: a claim of many rows costs little more than a claim of one. */
  room(lane: Lane): number {
    const allowance = this.allowance(lane)
    return lane.held > allowance / 2 ? 0 : Math.max(0, Math.ceil(allowance - lane.held))
  }
}
