/**
 * Says once that the store cannot be asked, and once that it can be again: what is tried every
 * 200 ms would otherwise write three thousand lines in an outage of ten minutes.
 */
import { isTransientStorageError, WebhookError } from '../model/errors.ts'

export type Talk = (
  level: 'info' | 'warn',
  message: string,
  fields: Record<string, unknown>,
) => void

export interface StoreTroubleTools {
  /** It is tried again. */
  readonly failed: (error: unknown) => void
  readonly talk: Talk
}

export class StoreTrouble {
  readonly #what: string
  readonly #again: string
  readonly #tools: StoreTroubleTools
  #isTold = false

  /**
   * @param what cannot be done, as a sentence for the log
   * @param again that it is done again
   */
  constructor(what: string, again: string, tools: StoreTroubleTools) {
    this.#what = what
    this.#again = again
    this.#tools = tools
  }

  failed(error: unknown): void {
    // What is wrong with one lane or row is no outage: others go on, and it is said each time.
    if (isTransientStorageError(error)) {
      this.#tools.failed(error)
      if (this.#isTold) return
      this.#isTold = true
    }
    this.#tools.talk('warn', this.#what, {
      code: error instanceof WebhookError ? error.code : 'unknown',
      error: error instanceof Error ? error.message : String(error),
    })
  }

  worked(): void {
    if (!this.#isTold) return
    this.#isTold = false
    this.#tools.talk('info', this.#again, {})
  }
}
