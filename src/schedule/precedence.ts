/**
 * Which lane begins a request next: those that answer take turns, and stalled ones, which would hold
 * up the others, come in every eighth turn and when nobody else wants one.
 */
import type { Lane } from './lane.ts'
import type { Slots } from './slots.ts'
import { Turns } from './turns.ts'

const stalledEvery = 8

export class Precedence {
  readonly #slots: Slots
  readonly #turns = new Turns()
  readonly #stalledTurns = new Turns()

  constructor(slots: Slots) {
    this.#slots = slots
  }

  /** A lane that answers waits for its turn. */
  get isAnyWaiting(): boolean {
    return this.#turns.size > 0
  }

  has(lane: Lane): boolean {
    return this.#turns.has(lane) || this.#stalledTurns.has(lane)
  }

  /** If it has something to send and may. */
  join(lane: Lane): void {
    if (lane.ready.length === 0 || lane.active >= lane.mostActive) return
    if (lane.isStalled) {
      this.#stalledTurns.join(lane)
      return
    }
    this.#stalledTurns.leave(lane)
    this.#turns.join(lane)
  }

  /** Takes out the lane whose turn it is. */
  next(): Lane | undefined {
    const stalledFirst = this.#slots.begun % stalledEvery === stalledEvery - 1
    const lane = stalledFirst ? this.#nextStalled() : undefined
    if (lane !== undefined) return lane
    for (;;) {
      const lane = this.#turns.next()
      if (lane === undefined) return this.#nextStalled()
      if (this.#slots.mayBegin(lane)) return lane
      // It has stalled since it joined.
      this.join(lane)
    }
  }

  #nextStalled(): Lane | undefined {
    const lane = this.#stalledTurns.next()
    if (lane === undefined || this.#slots.mayBegin(lane)) return lane
    this.#stalledTurns.join(lane)
    return undefined
  }
}
