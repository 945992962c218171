/**
 * Work beside the journey, in small steps between commits: fan wide events out, end the deliveries
 * of endpoints that are gone, delete what has outlived its retention.
 */
import type { Clock } from '../model/clock.ts'
import type { Facts } from '../observe/facts.ts'
import type { Logger } from '../observe/log.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { GroupCommit } from '../storage/group-commit.ts'
import type { Store } from '../storage/storage.ts'
import type { ServiceOptions } from './options.ts'

export interface JanitorTools {
  readonly store: Store
  readonly commits: GroupCommit
  readonly registry: WebhookRegistry
  readonly clock: Clock
  readonly facts: Facts
  readonly logger: Logger
  readonly options: Pick<ServiceOptions, 'retention'>
  /** A delivery was created from a wide event and is due. */
  readonly created: (endpointKey: string, dueAtMs: number) => void
}

const fanOutStep = 1_000
const cancelStep = 1_000
const pruneStep = 500
const pruneFirstAfterMs = 60_000
const pruneEveryMs = 600_000
const tryAgainAfterMs = 1_000

export class Janitor {
  readonly #tools: JanitorTools
  readonly #orphans = new Set<string>()
  #cancelling = false
  #fanningOut: Promise<void> | null = null
  #stopped = false
  #cancelTimer: (() => void) | null = null

  constructor(tools: JanitorTools) {
    this.#tools = tools
  }

  start(): void {
    this.#pruneIn(pruneFirstAfterMs)
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer?.()
  }

  /** Resolves when no wide event is left to fan out. */
  fanOut(): Promise<void> {
    this.#fanningOut ??= this.#keepTrying('a wide event waits to be fanned out', async () => {
      const { store, clock, created } = this.#tools
      for (let more = true; more && !this.#stopped; ) {
        const nowMs = clock.nowMs()
        const result = await store.fanOut(fanOutStep, nowMs)
        for (const endpointKey of result.endpointKeys) created(endpointKey, nowMs)
        more = result.more
      }
    }).finally(() => {
      this.#fanningOut = null
    })
    return this.#fanningOut
  }

  /** Ends the waiting deliveries of a disabled or removed endpoint. */
  cancelOrphans(endpointKey: string): void {
    this.#orphans.add(endpointKey)
    if (this.#cancelling) return
    this.#cancelling = true
    void this.#keepTrying('deliveries wait to be cancelled', () => this.#cancelAll()).finally(
      () => {
        this.#cancelling = false
      },
    )
  }

  async #cancelAll(): Promise<void> {
    const { store, commits, clock, registry } = this.#tools
    for (const endpointKey of this.#orphans) {
      // What was just given back must be in the store before it can be ended there.
      await commits.idle()
      const endpoint = registry.byKey(endpointKey)
      if (endpoint !== undefined && endpoint.status !== 'disabled') {
        this.#orphans.delete(endpointKey)
        continue
      }
      const reason = endpoint === undefined ? 'endpoint_removed' : 'endpoint_disabled'
      for (;;) {
        if (this.#stopped) return
        const ended = await store.cancelDeliveries(endpointKey, reason, clock.nowMs(), cancelStep)
        if (ended.length === 0) break
        for (const deliveryId of ended) {
          const endpointId = endpoint?.id ?? endpointKey
          this.#tools.facts.tell('delivery.cancelled', { deliveryId, endpointId, reason })
        }
      }
      this.#orphans.delete(endpointKey)
    }
  }

  #pruneIn(delayMs: number): void {
    this.#cancelTimer = this.#tools.clock.setTimer(() => {
      void this.#prune()
        .catch((error: unknown) => {
          const text = error instanceof Error ? error.message : String(error)
          this.#tools.logger.warn({ error: text }, 'retention could not run')
        })
        .finally(() => {
          if (!this.#stopped) this.#pruneIn(pruneEveryMs)
        })
    }, delayMs)
  }

  async #prune(): Promise<void> {
    const { settledMs, deliveredBodiesMs, eventIdsMs } = this.#tools.options.retention
    const nowMs = this.#tools.clock.nowMs()
    const cutoffs = {
      settledBeforeMs: nowMs - settledMs,
      deliveredBodiesBeforeMs: nowMs - deliveredBodiesMs,
      failedBodiesBeforeMs: nowMs - settledMs,
      eventIdsBeforeMs: nowMs - eventIdsMs,
    }
    while (!this.#stopped && (await this.#tools.store.prune(cutoffs, pruneStep)) > 0) {
      // Each step is a transaction of its own; commits take their turn between them.
    }
  }

  async #keepTrying(what: string, work: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        await work()
        return
      } catch (error) {
        if (this.#stopped) return
        const text = error instanceof Error ? error.message : String(error)
        this.#tools.logger.warn({ error: text }, what)
        await new Promise<void>((resolve) => {
          this.#tools.clock.setTimer(resolve, tryAgainAfterMs)
        })
        if (this.#stopped) return
      }
    }
  }
}
