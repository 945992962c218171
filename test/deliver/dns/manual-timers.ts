/** A clock and timers that move when the test moves them. */
export function manualTimers() {
  let nowMs = 0
  const timers = new Set<{ atMs: number; callback: () => void }>()
  return {
    monotonicMs: () => nowMs,
    setTimer(callback: () => void, delayMs: number): () => void {
      const timer = { atMs: nowMs + delayMs, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    get armed() {
      return timers.size
    },
    advance(ms: number) {
      nowMs += ms
      for (const timer of [...timers].sort((a, b) => a.atMs - b.atMs)) {
        if (timer.atMs > nowMs || !timers.delete(timer)) continue
        timer.callback()
      }
    },
  }
}
