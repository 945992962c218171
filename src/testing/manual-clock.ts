/** A clock that stands still until it is told otherwise: a month of retries in a loop. */
import type { Clock } from '../model/clock.ts'

export interface ManualClock extends Clock {
  /** Moves to that time; timers due by then fire in order, each at its own time. */
  set(nowMs: number): void
  advance(ms: number): void
  /** When the next timer fires; null when none is set. */
  readonly nextTimerAtMs: number | null
}

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly callback: () => void
}

export function manualClock(startMs = Date.UTC(2026, 0, 1)): ManualClock {
  let nowMs = startMs
  let order = 0
  const timers = new Set<Timer>()
  const first = (): Timer | undefined => {
    let found: Timer | undefined
    for (const timer of timers) {
      if (
        found === undefined ||
        timer.atMs < found.atMs ||
        (timer.atMs === found.atMs && timer.order < found.order)
      ) {
        found = timer
      }
    }
    return found
  }
  return {
    nowMs: () => nowMs,
    setTimer(callback, delayMs) {
      const timer = { atMs: nowMs + Math.max(0, delayMs), order: order++, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    set(targetMs) {
      for (let timer = first(); timer !== undefined && timer.atMs <= targetMs; timer = first()) {
        timers.delete(timer)
        nowMs = Math.max(nowMs, timer.atMs)
        timer.callback()
      }
      nowMs = Math.max(nowMs, targetMs)
    },
    advance(ms) {
      this.set(nowMs + ms)
    },
    get nextTimerAtMs() {
      return first()?.atMs ?? null
    },
  }
}
