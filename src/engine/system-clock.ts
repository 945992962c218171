/** The machine's clock and timers. The only file that asks for the time. */
import type { Clock } from '../model/clock.ts'

/** Node fires a longer timer at once. */
const longestTimerMs = 2 ** 31 - 1
/** How often the steady clock is set by the wall clock again. */
const anchorEveryMs = 10_000

/**
 * Wall time that never goes backwards: monotonic time, anchored to the wall clock every 10 s. When
 * the wall clock is set back, ours runs on from where it was, so that due times keep their order and
 * nothing stalls; signatures take their timestamp from the wall clock itself.
 */
export function systemClock(): Clock {
  let anchorWallMs = Date.now()
  let anchorSteadyMs = performance.now()
  let lastMs = 0
  return {
    nowMs() {
      const steadyMs = performance.now()
      let nowMs = anchorWallMs + (steadyMs - anchorSteadyMs)
      if (steadyMs - anchorSteadyMs > anchorEveryMs) {
        anchorWallMs = Math.max(Date.now(), nowMs)
        anchorSteadyMs = steadyMs
        nowMs = anchorWallMs
      }
      lastMs = Math.max(lastMs, Math.floor(nowMs))
      return lastMs
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
