/** When which lane's next stored delivery is due, and the one timer that waits for the first. */
import type { Clock } from '../model/clock.ts'
import { DueHeap } from './due-heap.ts'
import { type Lane, never } from './lane.ts'

export class Alarm {
  readonly #clock: Clock
  readonly #ring: () => void
  readonly #due = new DueHeap<Lane>()
  #armed = false
  #timerAtMs = never
  #cancelTimer: (() => void) | null = null

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock
    this.#ring = ring
  }

  /** `never` when nothing is due any more. */
  get nextAtMs(): number {
    for (;;) {
      const first = this.#due.first
      if (first === undefined) return never
      if (first.item.claimAtMs === first.atMs) return first.atMs
      this.#pop()
      this.#push(first.item)
    }
  }

  /** Remembers when the lane is due; the timer is set only once somebody has armed it. */
  watch(lane: Lane): void {
    this.#push(lane)
    if (this.#armed && lane.claimAtMs < this.#timerAtMs) this.arm()
  }

  /** The next lane that is due by then. */
  takeDue(nowMs: number): Lane | undefined {
    return this.nextAtMs <= nowMs ? this.#pop() : undefined
  }

  arm(): void {
    this.#armed = true
    const atMs = this.nextAtMs
    if (atMs === this.#timerAtMs && this.#cancelTimer !== null) return
    this.#clear()
    this.#timerAtMs = atMs
    if (atMs === never) return
    this.#cancelTimer = this.#clock.setTimer(
      () => {
        this.#cancelTimer = null
        this.#timerAtMs = never
        this.#ring()
      },
      Math.max(0, atMs - this.#clock.nowMs()),
    )
  }

  cancel(): void {
    this.#armed = false
    this.#clear()
  }

  #clear(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
    this.#timerAtMs = never
  }

  /** An entry that is too early will do: it is put right when it surfaces. */
  #push(lane: Lane): void {
    const atMs = lane.claimAtMs
    if (atMs >= lane.watchedAtMs) return
    lane.watchedAtMs = atMs
    this.#due.push(atMs, lane)
  }

  #pop(): Lane | undefined {
    const entry = this.#due.pop()
    if (entry === undefined) return undefined
    if (entry.atMs === entry.item.watchedAtMs) entry.item.watchedAtMs = never
    return entry.item
  }
}
