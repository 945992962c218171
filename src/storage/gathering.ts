/**
 * When outcomes are written: while requests are under way, others are about to follow, and to share a
 * commit is cheaper for a server that has many processes to serve. Nothing waits where nothing is
 * under way, and nothing waits for long.
 */
import type { Clock } from '../model/clock.ts'

/** As many fill a commit well. */
const enough = 500

export interface GatheringTools {
  readonly clock: Clock
  /** The longest that an outcome waits for others; 0 where a commit is cheap. */
  readonly gatherMs: number
  readonly isSending: () => boolean
  readonly isDue: () => void
}

export class Gathering {
  readonly #tools: GatheringTools
  #lastMs = Number.NEGATIVE_INFINITY
  #isUrgent = false
  #cancelTimer: (() => void) | null = null

  constructor(tools: GatheringTools) {
    this.#tools = tools
  }

  /** Somebody waits for what is there. */
  hurry(): void {
    this.#isUrgent = true
  }

  /** @returns whether these are to be written now; else `isDue` is called in time */
  mayTake(outcomes: number): boolean {
    if (outcomes === 0 || this.#leftMs(outcomes) <= 0) {
      this.#lastMs = outcomes === 0 ? this.#lastMs : this.#tools.clock.nowMs()
      this.#isUrgent = false
      this.stop()
      return true
    }
    this.#cancelTimer ??= this.#tools.clock.setTimer(() => {
      this.#cancelTimer = null
      this.#tools.isDue()
    }, this.#leftMs(outcomes))
    return false
  }

  stop(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #leftMs(outcomes: number): number {
    const { gatherMs, clock, isSending } = this.#tools
    if (gatherMs === 0 || this.#isUrgent || outcomes >= enough || !isSending()) return 0
    const sinceMs = clock.nowMs() - this.#lastMs
    // The clock was set back: it says nothing about how long they have waited.
    return sinceMs < 0 ? 0 : gatherMs - sinceMs
  }
}
