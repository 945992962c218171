/** Keeps the endpoints in memory as the store has them where other processes change them, too. */
import type { WebhookRegistry } from '../registry/webhook-registry.ts'

export class EndpointRefresh {
  readonly #registry: WebhookRegistry
  #version: number | null = null
  /** The newest the store has told of; null where there is one process. */
  #newestVersion: number | null = null
  #refreshing: Promise<void> | null = null
  #error: Error | null = null

  constructor(registry: WebhookRegistry) {
    this.#registry = registry
  }

  /** Which of the store's versions of the endpoints memory has; null where there is one process. */
  get version(): number | null {
    return this.#version
  }

  /** Why the endpoints that others have changed cannot be read; null when they were. */
  get error(): Error | null {
    return this.#error
  }

  /** Resolves when memory has the version that the store has told of, or a later one. */
  told(version: number): Promise<void> {
    this.#newestVersion = version
    return this.refresh()
  }

  /** One reading at a time; a change that is told meanwhile is read by the next. */
  refresh(): Promise<void> {
    if (this.#newestVersion === null) return Promise.resolve()
    this.#refreshing ??= this.#read()
      .then(
        () => {
          this.#error = null
        },
        (error: Error) => {
          this.#error = error
          throw error
        },
      )
      .finally(() => {
        this.#refreshing = null
      })
    return this.#refreshing
  }

  /** Resolves when no reading is under way; it may have failed. */
  async rest(): Promise<void> {
    await this.#refreshing?.catch(() => {})
  }

  async #read(): Promise<void> {
    const version = await this.#registry.refresh()
    this.#version = version
    if (this.#newestVersion !== null && this.#newestVersion > version) await this.#read()
  }
}
