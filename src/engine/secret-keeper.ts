/**
 * Looks after secrets in the store, beside the journey: those whose overlap has ended leave it, and
 * what lies there in the clear or under an older key is encrypted with the newest, so that the older
 * one can be retired. Signing does not wait for it: it looks at the time itself.
 */
import type { Clock } from '../model/clock.ts'
import type { Logger } from '../observe/log.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { EndpointEncryption } from './endpoint-encryption.ts'

export interface SecretKeeperTools {
  readonly registry: WebhookRegistry
  readonly encryption: EndpointEncryption
  readonly clock: Clock
  readonly logger: Logger
}

/** Each endpoint is a synced commit; others get their turn between two steps. */
const step = 10
const everyMs = 60_000

export class SecretKeeper {
  readonly #tools: SecretKeeperTools
  #stopped = false
  #cancelTimer: (() => void) | null = null

  constructor(tools: SecretKeeperTools) {
    this.#tools = tools
  }

  /** Resolves when what had expired before the start is gone; encrypting goes on behind it. */
  async start(): Promise<void> {
    await this.#dropExpired()
    void this.#encrypt()
    this.#again()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer?.()
  }

  #again(): void {
    if (this.#stopped) return
    this.#cancelTimer = this.#tools.clock.setTimer(() => {
      void this.#dropExpired()
        .then(() => this.#encrypt())
        .finally(() => this.#again())
    }, everyMs)
  }

  async #dropExpired(): Promise<void> {
    try {
      await this.#tools.registry.dropExpiredSecrets()
    } catch (error) {
      this.#failed('secrets whose overlap has ended could not be removed', error)
    }
  }

  async #encrypt(): Promise<void> {
    const { registry, encryption, logger } = this.#tools
    const key = encryption.newestKeyId
    const count = encryption.outdated.size
    if (key === null || count === 0) return
    try {
      while (!this.#stopped && encryption.outdated.size > 0) {
        const some = [...encryption.outdated].slice(0, step)
        await registry.saveAgain(some, 're-encrypted')
        // One that was removed meanwhile is not in the registry, and not in the store either.
        for (const endpointKey of some) encryption.settled(endpointKey)
      }
    } catch (error) {
      this.#failed('secrets could not be encrypted with the newest key; it is tried again', error)
      return
    }
    if (this.#stopped) return
    logger.info({ key, endpoints: count }, 'every secret is encrypted with the newest key')
  }

  #failed(what: string, error: unknown): void {
    if (this.#stopped) return
    this.#tools.logger.warn({ error: error instanceof Error ? error.message : String(error) }, what)
  }
}
