/**
 * Absolute deadlines of attempts. Attempts with the same time limit expire in the order in which
 * they began, so each limit has one list and one timer for its head: a deadline costs two pointers,
 * where a timer of its own costs an object and its place in Node's lists.
 */
import type { SetTimer } from './attempt-request.ts'

export interface Expiring {
  /** Of the monotonic clock. */
  deadlineMs: number
  before: Expiring | null
  after: Expiring | null
  expire(): void
}

/** Has a timer as long as it exists; without entries it goes when that one fires. */
interface Lane {
  head: Expiring | null
  tail: Expiring | null
  cancel: () => void
}

export class Deadlines {
  readonly #lanes = new Map<number, Lane>()
  readonly #monotonicMs: () => number
  readonly #setTimer: SetTimer

  constructor(monotonicMs: () => number, setTimer: SetTimer) {
    this.#monotonicMs = monotonicMs
    this.#setTimer = setTimer
  }

  add(timeoutMs: number, nowMs: number, entry: Expiring): void {
    let lane = this.#lanes.get(timeoutMs)
    if (lane === undefined) {
      lane = { head: null, tail: null, cancel: () => {} }
      this.#lanes.set(timeoutMs, lane)
      this.#arm(timeoutMs, lane, timeoutMs)
    }
    entry.deadlineMs = nowMs + timeoutMs
    entry.before = lane.tail
    entry.after = null
    if (lane.tail === null) lane.head = entry
    else lane.tail.after = entry
    lane.tail = entry
  }

  remove(timeoutMs: number, entry: Expiring): void {
    const lane = this.#lanes.get(timeoutMs)
    if (lane === undefined) return
    if (entry.before === null) lane.head = entry.after
    else entry.before.after = entry.after
    if (entry.after === null) lane.tail = entry.before
    else entry.after.before = entry.before
    entry.before = null
    entry.after = null
  }

  /** Cancels every timer; entries still in it never expire. */
  clear(): void {
    for (const lane of this.#lanes.values()) lane.cancel()
    this.#lanes.clear()
  }

  #arm(timeoutMs: number, lane: Lane, delayMs: number): void {
    lane.cancel = this.#setTimer(() => this.#fire(timeoutMs, lane), delayMs)
  }

  #fire(timeoutMs: number, lane: Lane): void {
    const nowMs = this.#monotonicMs()
    // An expired entry removes itself. The lane counts as armed meanwhile: what is added by the way
    // must not arm a timer that is later than the one for those before it.
    while (lane.head !== null && lane.head.deadlineMs <= nowMs) lane.head.expire()
    if (lane.head === null) this.#lanes.delete(timeoutMs)
    // Rounded up: a timer that fires a fraction early would only be armed again.
    else this.#arm(timeoutMs, lane, Math.ceil(lane.head.deadlineMs - nowMs))
  }
}
