/**
 * Work beside the journey, in small steps between commits: fan wide events out, end the deliveries
 * of endpoints that are gone, delete what has outlived its retention.
 */
import type { Backlog } from '../accept/backlog.ts'
import type { Clock } from '../model/clock.ts'
import type { Facts } from '../observe/facts.ts'
import type { Logger } from '../observe/log.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { Cancellation } from '../storage/commit-records.ts'
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
  /** Null: nothing is limited. */
  readonly backlog: Backlog | null
  /** A delivery of this endpoint is in the store and due then. */
  readonly stored: (endpointKey: string, dueAtMs: number) => void
  /** Deliveries of this endpoint are gone from the store. */
  readonly reread: (endpointKey: string) => void
  /** These have ended at once. */
  readonly cancelled: (ended: readonly Cancellation[]) => void
  /** A claim is under way that may bring deliveries of this endpoint. */
  readonly isClaiming: (endpointKey: string) => boolean
  /** Ends what is left of a disabled endpoint. Resolves when no process begins any of it any more. */
  readonly cancelRest: (endpointKey: string) => Promise<void>
  /** Something that it does fails, and is tried again. */
  readonly failed: (error: unknown) => void
  /** Takes over what callers' transactions have brought, until nothing is left. */
  readonly takeIntake: () => Promise<void>
  /** Learns which endpoints fail elsewhere. */
  readonly syncHealth: () => Promise<void>
  /** Resolves when memory has the endpoints as the store has them, whoever changed them. */
  readonly refresh: () => Promise<void>
}

const fanOutStep = 1_000
const cancelStep = 1_000
const pruneStep = 500
const pruneFirstAfterMs = 60_000
const pruneEveryMs = 600_000
const sweepEveryMs = 60_000
const tryAgainAfterMs = 1_000
/** Counting reads every unfinished delivery: at most a fiftieth of the time. */
const countEveryMs = 5_000
const countShare = 50

export class Janitor {
  readonly #tools: JanitorTools
  /** Endpoints that are disabled or gone and may have deliveries that wait. */
  readonly #orphans = new Set<string>()
  #cancelling: Promise<void> | null = null
  #intake = false
  #takingIntake: Promise<void> | null = null
  #wideEvents = false
  #fanningOut: Promise<void> | null = null
  #stopped = false
  #cancelTimer: (() => void) | null = null
  #cancelSweep: (() => void) | null = null
  #cancelCount: (() => void) | null = null

  constructor(tools: JanitorTools) {
    this.#tools = tools
  }

  start(): void {
    this.#pruneIn(pruneFirstAfterMs)
    this.#sweepLater()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer?.()
    this.#cancelSweep?.()
    this.#cancelCount?.()
  }

  /** Resolves when nothing that callers' transactions have brought is left. */
  takeIntake(): Promise<void> {
    this.#intake = true
    this.#takingIntake ??= this.#keepTrying('events of transactions wait', async () => {
      while (this.#intake && !this.#stopped) {
        // One that is told of while this runs may not be in its answer.
        this.#intake = false
        try {
          await this.#tools.takeIntake()
        } catch (error) {
          this.#intake = true
          throw error
        }
      }
      this.#takingIntake = null
    })
    return this.#takingIntake
  }

  /** Resolves when no wide event is left to fan out. */
  fanOut(): Promise<void> {
    this.#wideEvents = true
    this.#fanningOut ??= this.#keepTrying('a wide event waits to be fanned out', async () => {
      while (this.#wideEvents && !this.#stopped) await this.#fanOutSome()
      this.#fanningOut = null
    })
    return this.#fanningOut
  }

  async #fanOutSome(): Promise<void> {
    const { store, clock, stored, cancelled } = this.#tools
    const nowMs = clock.nowMs()
    // An event that is committed while this runs may not be in its answer.
    this.#wideEvents = false
    try {
      const result = await store.fanOut(fanOutStep, nowMs)
      for (const endpointKey of result.endpointKeys) stored(endpointKey, nowMs)
      if (result.cancelled.length > 0) cancelled(result.cancelled)
      this.#wideEvents ||= result.more
    } catch (error) {
      this.#wideEvents = true
      throw error
    }
  }

  /** Ends the waiting deliveries of a disabled or removed endpoint. Resolves when they are ended. */
  cancelOrphans(endpointKey: string): Promise<void> {
    this.#orphans.add(endpointKey)
    this.#cancelling ??= this.#keepTrying('deliveries wait to be cancelled', async () => {
      for (const orphan of this.#orphans) await this.#cancelAllOf(orphan)
      this.#cancelling = null
    })
    return this.#cancelling
  }

  /**
   * Resolves when nothing waits any more of a disabled endpoint, and no process begins any of it: then
   * it may be enabled.
   *
   * @throws what the store throws
   */
  async endWaiting(endpointKey: string): Promise<void> {
    for (;;) {
      // What a claim brings that is under way goes back as well, and is ended the next time.
      const wasClaiming = this.#tools.isClaiming(endpointKey)
      await this.#cancelAllOf(endpointKey)
      await this.#tools.cancelRest(endpointKey)
      if (!wasClaiming) return
    }
  }

  async #cancelAllOf(endpointKey: string): Promise<void> {
    const { store, commits, clock, registry, facts, refresh } = this.#tools
    // What was just given back must be in the store before it can be ended there.
    await commits.written()
    // Another process may have registered it, or enabled it again, and accepted for it since.
    await refresh()
    // Out of the set first: what is given back from here on puts it in again.
    this.#orphans.delete(endpointKey)
    for (;;) {
      const endpoint = registry.byKey(endpointKey)
      // Enabled again meanwhile: what it gets from then on is wanted.
      if (this.#stopped || (endpoint !== undefined && endpoint.status !== 'disabled')) return
      const reason = endpoint === undefined ? 'endpoint_removed' : 'endpoint_disabled'
      const ended = await store
        .cancelDeliveries(endpointKey, reason, clock.nowMs(), cancelStep)
        .catch((error: unknown) => {
          this.#orphans.add(endpointKey)
          throw error
        })
      if (ended.length === 0) return
      for (const deliveryId of ended) {
        const endpointId = registry.idOf(endpointKey)
        facts.tell('delivery.cancelled', { deliveryId, endpointId, reason })
      }
    }
  }

  /** Puts right what memory believes to wait, now and then; resolves after the first time. */
  async countBacklog(): Promise<void> {
    const { backlog, store, registry, clock, logger } = this.#tools
    if (backlog === null || this.#stopped) return
    const startMs = clock.nowMs()
    try {
      const counts = await store.countLive()
      backlog.correct(
        counts.map(({ endpointKey, deliveries }) => ({
          endpointKey,
          tenantId: registry.byKey(endpointKey)?.tenantId ?? '',
          deliveries,
        })),
      )
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      logger.warn({ error: text }, 'the backlog could not be counted')
    }
    const nextMs = Math.max(countEveryMs, countShare * (clock.nowMs() - startMs))
    if (!this.#stopped) {
      this.#cancelCount = clock.setTimer(() => void this.countBacklog(), nextMs)
    }
  }

  /**
   * Reads when each lane's next delivery is due, as at the start. Memory knows it from what it was
   * told; this finds what it was not: an answer that was lost with the thread that would give it.
   */
  #sweepLater(): void {
    const { store, clock, stored, logger, syncHealth } = this.#tools
    this.#cancelSweep = clock.setTimer(() => {
      void store
        .heads()
        .then((heads) => {
          for (const { endpointKey, dueAtMs } of heads) {
            if (dueAtMs !== null && !this.#stopped) stored(endpointKey, dueAtMs)
          }
          return this.#stopped ? undefined : syncHealth()
        })
        .then(() => this.#expire())
        .catch((error: unknown) => {
          const text = error instanceof Error ? error.message : String(error)
          logger.warn({ error: text }, 'the sweep of every minute could not run')
        })
        .finally(() => {
          if (!this.#stopped) this.#sweepLater()
        })
    }, sweepEveryMs)
  }

  /** What expires while it waits: for a paused endpoint, or for one that asked for time. */
  async #expire(): Promise<void> {
    const { store, clock, registry, facts, stored, reread } = this.#tools
    for (let more = true; more && !this.#stopped; ) {
      const ended = await store.expireDeliveries(clock.nowMs(), cancelStep)
      for (const { id: deliveryId, endpointKey } of ended) {
        const endpointId = registry.idOf(endpointKey)
        facts.tell('delivery.cancelled', { deliveryId, endpointId, reason: 'expired' })
        stored(endpointKey, clock.nowMs())
      }
      for (const key of new Set(ended.map((one) => one.endpointKey))) reread(key)
      more = ended.length === cancelStep
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
    let isTold = false
    for (;;) {
      try {
        await work()
        return
      } catch (error) {
        if (this.#stopped) return
        this.#tools.failed(error)
        const text = error instanceof Error ? error.message : String(error)
        if (!isTold) this.#tools.logger.warn({ error: text }, what)
        isTold = true
        await new Promise<void>((resolve) => {
          this.#tools.clock.setTimer(resolve, tryAgainAfterMs)
        })
        if (this.#stopped) return
      }
    }
  }
}
