/** The send times that one rate-limited lane has, and the lane's place in the alarm for them. */

import type { RateLimit } from '../model/flow.ts'
import { sendIntervalMs, takenAheadMs, timesAtOnce, usableForMs } from '../policy/rate.ts'
import type { SendTimes } from '../storage/flows.ts'
import type { Watched } from './alarm.ts'
import { never } from './due-heap.ts'
import type { Lane } from './lane.ts'

export class Pace implements Watched {
  readonly lane: Lane
  readonly limit: RateLimit
  readonly intervalMs: number
  /** Times taken at once, and deliveries in memory, at the most. */
  readonly most: number
  watchedAtMs = never
  #chunks: { nextAtMs: number; left: number }[] = []
  /** No time is free before, as far as is known. */
  #freeAtMs = 0

  constructor(lane: Lane, limit: RateLimit) {
    this.lane = lane
    this.limit = limit
    this.intervalMs = sendIntervalMs(limit)
    this.most = timesAtOnce(this.intervalMs)
  }

  /** When the lane may send next, or ask for a time to, if it has anything to send. */
  get alarmAtMs(): number {
    if (this.lane.ready.length === 0 || this.lane.isClosed) return never
    return Math.min(this.nextAtMs, this.#chunks.length === 0 ? this.#askAtMs : never)
  }

  /** `never` when it has no time left. */
  get nextAtMs(): number {
    const [first] = this.#chunks
    // The clock tells whole milliseconds: nothing is sent before its time.
    return first === undefined ? never : Math.ceil(first.nextAtMs)
  }

  get #askAtMs(): number {
    return Math.ceil(this.#freeAtMs) - takenAheadMs
  }

  add({ firstAtMs, count }: SendTimes): void {
    if (count > 0) this.#chunks.push({ nextAtMs: firstAtMs, left: count })
    this.#freeAtMs = firstAtMs + count * this.intervalMs
  }

  isTime(nowMs: number): boolean {
    this.#loseLate(nowMs)
    return this.nextAtMs <= nowMs
  }

  /** Uses the next time. */
  use(): void {
    const [first] = this.#chunks
    if (first !== undefined) this.#skip(first, 1)
  }

  /**
   * How many times to ask for: not for every request, only for what there is to send, and none while
   * the next that is free is far away.
   */
  missing(nowMs: number): number {
    this.#loseLate(nowMs)
    if (nowMs < this.#askAtMs) return 0
    let left = 0
    for (const chunk of this.#chunks) left += chunk.left
    const wanted = Math.min(this.lane.ready.length, this.most)
    return left > this.most / 4 || wanted <= left ? 0 : wanted - left
  }

  #loseLate(nowMs: number): void {
    for (;;) {
      const [first] = this.#chunks
      const lateMs = nowMs - usableForMs - (first?.nextAtMs ?? never)
      if (first === undefined || lateMs <= 0) return
      this.#skip(first, Math.ceil(lateMs / this.intervalMs))
    }
  }

  #skip(chunk: { nextAtMs: number; left: number }, count: number): void {
    chunk.left -= count
    chunk.nextAtMs += count * this.intervalMs
    if (chunk.left <= 0) this.#chunks.shift()
  }
}
