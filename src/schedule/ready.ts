/**
 * What a lane may send: what is fresh before what was tried or is sent again by hand, because an
 * endpoint that has failed for an hour, or is being repaired, should still get news at once. One in
 * four is of the others all the same.
 */
import type { Claim } from '../storage/claims.ts'
import { never } from './due-heap.ts'
import { Queue } from './queue.ts'

const freshInARow = 3

export class Ready {
  readonly #fresh = new Queue<Claim>()
  readonly #retries = new Queue<Claim>()
  #freshInARow = 0

  get length(): number {
    return this.#fresh.length + this.#retries.length
  }

  /** Since when the first of them has waited; `never` when none does. */
  get sinceMs(): number {
    const fresh = this.#fresh.first?.takenAtMs ?? never
    return Math.min(fresh, this.#retries.first?.takenAtMs ?? never)
  }

  push(claim: Claim): void {
    if (claim.isFresh) this.#fresh.push(claim)
    else this.#retries.push(claim)
  }

  shift(): Claim | undefined {
    const isRetry =
      this.#retries.length > 0 && (this.#fresh.length === 0 || this.#freshInARow >= freshInARow)
    this.#freshInARow = isRetry ? 0 : this.#freshInARow + 1
    return isRetry ? this.#retries.shift() : this.#fresh.shift()
  }

  /** Takes the first that fits out of its middle: linear, for what is seldom done. */
  remove(fits: (claim: Claim) => boolean): Claim | undefined {
    return this.#fresh.remove(fits) ?? this.#retries.remove(fits)
  }

  /** Empties it. */
  takeAll(): Claim[] {
    return [...this.#fresh.takeAll(), ...this.#retries.takeAll()]
  }
}
