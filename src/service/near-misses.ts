/**
 * A type is the caller's choice, but `mesage.sent` is probably not what was meant: it is said, once for
 * each.
 */
import { nearMissOfKnownType } from '../model/names.ts'
import type { Logger } from '../observe/log.ts'

/** Types that are remembered, at the most. */
const most = 1_000

export class NearMisses {
  readonly #logger: Logger
  readonly #seen = new Set<string>()

  constructor(logger: Logger) {
    this.#logger = logger
  }

  of(type: string): void {
    if (this.#seen.has(type)) return
    if (this.#seen.size < most) this.#seen.add(type)
    const meant = nearMissOfKnownType(type)
    if (meant !== null) {
      this.#logger.warn({ type, meant }, `"${type}" is not a known event type; "${meant}" is`)
    }
  }

  /** Only misses are remembered: the types of ten thousand endpoints must not crowd out those of events. */
  ofPatterns(patterns: readonly string[]): void {
    for (const pattern of patterns) if (nearMissOfKnownType(pattern) !== null) this.of(pattern)
  }
}
