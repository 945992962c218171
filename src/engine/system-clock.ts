/** The machine's clock and timers. The only file that asks for the time. */
import type { Clock } from '../model/clock.ts'

/** Node fires a longer timer at once. */
const longestTimerMs = 2 ** 31 - 1
/** How often the steady clock is set by the wall clock again. */
const anchorEveryMs = 10_000

/** A clock that is ahead of the store's by no more than this runs slower until it is not. */
const slowDownWithinMs = 60_000
const slowestPace = 0.9

export interface SystemClock extends Clock {
  /**
   * Time of a store that several machines share: all of them follow it, because send times and holds
   * mean the same moment to each.
   *
   * @param storeMs what its clock said in an answer that has just come
   * @param tookMs how long that answer took
   */
  follow(storeMs: number, tookMs: number): void
}

/**
 * Wall time that never goes backwards: monotonic time, anchored every 10 s to the wall clock, or to
 * the store's where there is one to follow. When that is set back, ours runs on from where it was, so
 * that due times keep their order and nothing stalls; signatures take their timestamp from the wall
 * clock itself.
 */
export function systemClock(): SystemClock {
  let anchorWallMs = Date.now()
  let anchorSteadyMs = performance.now()
  let pace = 1
  let lastMs = 0
  /** How far the store's clock is ahead of the wall clock; null without one. */
  let aheadMs: number | null = null
  /** The quickest answer since the last anchor tells it best. */
  let best: { aheadMs: number; tookMs: number } | null = null
  const anchor = (steadyMs: number, nowMs: number): number => {
    if (best !== null) aheadMs = best.aheadMs
    best = null
    const tooFarMs = nowMs - (Date.now() + (aheadMs ?? 0))
    anchorWallMs = Math.max(nowMs - tooFarMs, nowMs)
    anchorSteadyMs = steadyMs
    const slowsDown = aheadMs !== null && tooFarMs > 0 && tooFarMs <= slowDownWithinMs
    pace = slowsDown ? Math.max(slowestPace, 1 - tooFarMs / anchorEveryMs) : 1
    return anchorWallMs
  }
  return {
    nowMs() {
      const steadyMs = performance.now()
      let nowMs = anchorWallMs + (steadyMs - anchorSteadyMs) * pace
      if (steadyMs - anchorSteadyMs > anchorEveryMs) nowMs = anchor(steadyMs, nowMs)
      lastMs = Math.max(lastMs, Math.floor(nowMs))
      return lastMs
    },
    follow(storeMs, tookMs) {
      const sample = { aheadMs: storeMs + tookMs / 2 - Date.now(), tookMs }
      if (best === null || tookMs <= best.tookMs) best = sample
      if (aheadMs !== null) return
      // Before anything is stored by it, it may go back.
      aheadMs = sample.aheadMs
      lastMs = 0
      anchorWallMs = Date.now() + aheadMs
      anchorSteadyMs = performance.now()
    },
    setTimer(callback, delayMs) {
      let handle: ReturnType<typeof setTimeout>
      const arm = (leftMs: number): void => {
        handle =
          leftMs > longestTimerMs
            ? setTimeout(() => arm(leftMs - longestTimerMs), longestTimerMs)
            : setTimeout(callback, leftMs)
      }
      arm(delayMs)
      return () => clearTimeout(handle)
    },
  }
}
