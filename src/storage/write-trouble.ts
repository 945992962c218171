/** How writing goes: what it fails with, said once and not at every try; and when to try again. */
import type { Random } from '../model/clock.ts'
import { isTransientStorageError, WebhookError } from '../model/errors.ts'

export interface WriteTroubleTools {
  readonly random: Random
  readonly log: (
    level: 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ) => void
}

export class WriteTrouble {
  readonly #tools: WriteTroubleTools
  #failures = 0
  #lastError: Error | null = null

  constructor(tools: WriteTroubleTools) {
    this.#tools = tools
  }

  /** What the last commit failed with; null while they succeed. */
  get error(): Error | null {
    return this.#lastError
  }

  /** Told once, and again when the trouble is another one. */
  failed(error: Error): void {
    const code = codeOf(error)
    if (this.#lastError === null || codeOf(this.#lastError) !== code) {
      const level = isTransientStorageError(error) ? 'warn' : 'error'
      this.#tools.log(level, 'the store takes no writes', { code, error: error.message })
    }
    this.#lastError = error
    this.#failures += 1
  }

  /** @returns whether there was trouble until now */
  worked(): boolean {
    const wasInTrouble = this.#lastError !== null
    this.#failures = 0
    this.#lastError = null
    return wasInTrouble
  }

  /** Until the next try. */
  pauseMs(): number {
    // A store that is back is to be found soon; a try a second costs nobody anything.
    const fullMs = Math.min(100 * 2 ** Math.min(this.#failures - 1, 4), 1_000)
    return fullMs / 2 + (fullMs / 2) * this.#tools.random()
  }
}

function codeOf(error: Error): string {
  return error instanceof WebhookError ? error.code : error.name
}
