/** Ctrl-C: the first asks for a clean end, the second ends at once. */

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal
  /** What a key press does; signals do the same. */
  interrupt(): void
  /** What must be put right even when the process ends at once: the terminal. */
  beforeExit(restore: () => void): void
}

/** A terminal sends a signal to the whole group and npm passes it on: that is one Ctrl-C, not two. */
const sameKeyMs = 300

export function listenForInterrupt(): Interrupt {
  const controller = new AbortController()
  let firstAtMs = 0
  let restore = (): void => {}
  const interrupt = (): void => {
    if (!controller.signal.aborted) {
      firstAtMs = performance.now()
      controller.abort()
    } else if (performance.now() - firstAtMs > sameKeyMs) {
      restore()
      process.exit(130)
    }
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  return {
    signal: controller.signal,
    interrupt,
    beforeExit: (next) => {
      restore = next
    },
    [Symbol.dispose]: () => {
      process.off('SIGINT', interrupt)
      process.off('SIGTERM', interrupt)
    },
  }
}

export function interrupted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
