/** What keeps an endpoint from being sent to for a while, as all processes share it. */
import type { EndpointFlow } from '../model/flow.ts'

export interface BreakerChange {
  /** False: another process was faster; `flow` is what it made of it. */
  readonly isChanged: boolean
  readonly flow: EndpointFlow
}

export interface ConcurrencyShares {
  /**
   * How many requests to an endpoint this process may have under way, of the `concurrency` that all
   * have together. All of it where there is one process.
   */
  of(endpointKey: string, concurrency: number): number
}

export interface SendTimesAsk {
  readonly endpointKey: string
  readonly count: number
  /** From one send time to the next, all processes together. */
  readonly intervalMs: number
}

/**
 * `count` times, the first at `firstAtMs`, `intervalMs` apart. With a count of 0 none was taken: the
 * first that is free comes at `firstAtMs`, or later.
 */
export interface SendTimes extends SendTimesAsk {
  readonly firstAtMs: number
}

/** No send time is handed out so far ahead: clocks differ by less, and one ask takes no more. */
export function farthestMs(lengthMs: number): number {
  return 2 * Math.max(5_000, lengthMs)
}
