/**
 * Where claims begin to look in each lane. Behind a transaction that is open for long, the index keeps
 * an entry of every delivery that was claimed since, and all of them are before the first that is due:
 * 200,000 cost 40 ms in every claim. So a claim begins a little below the head that memory knows.
 *
 * What is older than that (taken over, committed late) the poll of every second tells of, and once a
 * minute a lane is looked at from its beginning. Of what this process gives back it is told.
 */
import type { LaneRoom } from '../claims.ts'

const mostBelowMs = 10_000
const leastBelowMs = 1_000
/** Claims that take longer meet entries of the past, mostly: they look at fewer from then on. */
const slowMs = 30
const fastMs = 15
const noFloorEveryMs = 60_000
const maxFloors = 20_000

export class Floors {
  /** When each lane was last looked at without a floor. */
  readonly #wholeAtMs = new Map<string, number>()
  /** The oldest that was given back since its lane was last looked at. */
  readonly #givenBackMs = new Map<string, number>()
  #belowMs = mostBelowMs

  of(room: LaneRoom, nowMs: number): number {
    const givenBackMs = this.#givenBackMs.get(room.endpointKey) ?? Number.POSITIVE_INFINITY
    this.#givenBackMs.delete(room.endpointKey)
    return Math.min(givenBackMs, this.#ofHead(room, nowMs))
  }

  /** One of this lane is due since then again. */
  gaveBack(endpointKey: string, dueAtMs: number): void {
    const knownMs = this.#givenBackMs.get(endpointKey) ?? Number.POSITIVE_INFINITY
    if (dueAtMs < knownMs) this.#givenBackMs.set(endpointKey, dueAtMs)
  }

  #ofHead({ endpointKey, headMs }: LaneRoom, nowMs: number): number {
    const wholeAtMs = this.#wholeAtMs.get(endpointKey) ?? Number.NEGATIVE_INFINITY
    const isRecent = nowMs >= wholeAtMs && nowMs - wholeAtMs < noFloorEveryMs
    if (headMs !== undefined && isRecent) return Math.floor(Math.min(headMs, nowMs)) - this.#belowMs
    if (this.#wholeAtMs.size >= maxFloors) this.#wholeAtMs.clear()
    this.#wholeAtMs.set(endpointKey, nowMs)
    return 0
  }

  /** @param ms of the last claim */
  took(ms: number): void {
    if (ms > slowMs) this.#belowMs = Math.max(leastBelowMs, this.#belowMs / 2)
    else if (ms < fastMs) this.#belowMs = Math.min(mostBelowMs, this.#belowMs * 2)
  }
}
