/** When which lane needs attention next, and the one timer that waits for the first. */
import type { Clock } from '../model/clock.ts'
import { DueHeap, never } from './due-heap.ts'

export interface Watched {
  /** When it needs attention; `never` when it does not. */
  readonly alarmAtMs: number
  /** The earliest entry of it that the heap holds. */
  watchedAtMs: number
}

export class Alarm<Item extends Watched> {
  readonly #clock: Clock
  readonly #ring: () => void
  readonly #due = new DueHeap<Item>()
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
      if (first.item.alarmAtMs === first.atMs) return first.atMs
      this.#pop()
      this.#push(first.item)
    }
  }

  /** Remembers when it is due; the timer is set only once somebody has armed it. */
  watch(item: Item): void {
    this.#push(item)
    if (this.#armed && item.alarmAtMs < this.#timerAtMs) this.arm()
  }

  /** The next that is due by then. */
  takeDue(nowMs: number): Item | undefined {
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
  #push(item: Item): void {
    const atMs = item.alarmAtMs
    if (atMs >= item.watchedAtMs) return
    item.watchedAtMs = atMs
    this.#due.push(atMs, item)
  }

  #pop(): Item | undefined {
    const entry = this.#due.pop()
    if (entry === undefined) return undefined
    if (entry.atMs === entry.item.watchedAtMs) entry.item.watchedAtMs = never
    return entry.item
  }
}
