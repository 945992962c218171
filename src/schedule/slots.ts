/**
 * Requests under way, all endpoints together, and who may begin another. Endpoints that hang must not
 * keep the others from being sent. A lane is stalled when its last attempt timed out, or when it has
 * had no answer for a second while requests are under way:
 *
 * - stalled lanes begin nothing more while they hold half of all slots;
 * - what they hold beyond half does not count. So thousands that begin to hang at one moment hold up
 *   the others for a second, and at the worst twice as many requests are under way as
 *   `maxConcurrency` says.
 */
import type { Lane } from './lane.ts'

/** An endpoint that answers nothing for so long while requests are under way is slow. */
export const slowAfterMs = 1_000
/** Looking for those costs a look at every lane. */
const lookEveryMs = 100

export class Slots {
  readonly #max: number
  readonly #lanes: Iterable<Lane>
  #active = 0
  #begun = 0
  /** Requests under way of stalled lanes. */
  #stalled = 0
  #lookedAtMs = Number.NEGATIVE_INFINITY

  /** @param lanes all there are */
  constructor(maxConcurrency: number, lanes: Iterable<Lane>) {
    this.#max = maxConcurrency
    this.#lanes = lanes
  }

  get active(): number {
    return this.#active
  }

  /** Requests since the start. */
  get begun(): number {
    return this.#begun
  }

  /** Nobody may begin another. */
  isFull(nowMs: number): boolean {
    if (this.#active < this.#max) return false
    this.#lookForSlow(nowMs)
    return this.#quickSlots <= 0
  }

  mayBegin(lane: Lane): boolean {
    if (lane.isStalled) return this.#stalled < this.#half && this.#active < this.#max
    return this.#quickSlots > 0
  }

  began(lane: Lane, nowMs: number): void {
    if (lane.active === 0) lane.quietSinceMs = nowMs
    lane.active += 1
    this.#active += 1
    this.#begun += 1
    if (lane.isStalled) this.#stalled += 1
  }

  /** @param timedOut null when the attempt says nothing about that */
  ended(lane: Lane, timedOut: boolean | null, nowMs: number): void {
    this.#uncount(lane)
    lane.active -= 1
    this.#active -= 1
    lane.quietSinceMs = nowMs
    lane.isSlow = false
    if (timedOut !== null) lane.hasTimedOut = timedOut
    this.#count(lane)
  }

  get #half(): number {
    return Math.max(1, this.#max >> 1)
  }

  /** For lanes that answer. */
  get #quickSlots(): number {
    const aside = Math.max(0, this.#stalled - this.#half)
    return Math.min(this.#max + aside, 2 * this.#max) - this.#active
  }

  #lookForSlow(nowMs: number): void {
    if (nowMs - this.#lookedAtMs < lookEveryMs) return
    this.#lookedAtMs = nowMs
    for (const lane of this.#lanes) {
      if (lane.active === 0 || lane.isSlow || nowMs - lane.quietSinceMs < slowAfterMs) continue
      this.#uncount(lane)
      lane.isSlow = true
      this.#count(lane)
    }
  }

  #count(lane: Lane): void {
    if (lane.isStalled) this.#stalled += lane.active
  }

  #uncount(lane: Lane): void {
    if (lane.isStalled) this.#stalled -= lane.active
  }
}
