/**
 * WebhookService: the public API. It checks the options, puts the parts together and opens the
 * store; everything it does is done by the parts. It is long because each method says what it promises.
 */
import { randomBytes } from 'node:crypto'
import { acceptMany } from '../accept/accept-many.ts'
import { type CheckedEvent, checkEvent, checkIsList, checkTimes } from '../accept/event-input.ts'
import type { DispatchReceipt } from '../accept/handover.ts'
import { OneContent } from '../accept/one-content.ts'
import { WebhookDispatcher } from '../deliver/dispatcher.ts'
import { resultOf } from '../deliver/single-dispatch.ts'
import { closedError, Engine } from '../engine/engine.ts'
import { type EraseQuery, eraseSelection } from '../engine/erase-query.ts'
import { type EventExplanation, explainEvent } from '../engine/explain.ts'
import {
  errorOfStart,
  warnOfClearText,
  warnOfNoSignature,
  warnOfShortSecret,
} from '../engine/notices.ts'
import { checkConfig, type ServiceOptions, type WebhookConfig } from '../engine/options.ts'
import {
  type BlockedKeyQuery,
  type BlockedOrderKey,
  checkLimit,
  type DeliveryListQuery,
  type DeliveryPage,
  type EventReport,
  Queries,
} from '../engine/queries.ts'
import {
  type CancelPendingQuery,
  cancelDelivery,
  cancelPending,
  type RepairTools,
  retryDelivery,
  skipDelivery,
} from '../engine/repair.ts'
import {
  type BackfillQuery,
  checkBackfill,
  checkReplay,
  type Repair,
  type RepairPreview,
  type ReplayQuery,
} from '../engine/repair-query.ts'
import { type SystemClock, systemClock } from '../engine/system-clock.ts'
import type { Clock, Random } from '../model/clock.ts'
import type { FailedDelivery, WebhookDelivery } from '../model/delivery.ts'
import type {
  WebhookEndpoint,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { checkOptions, checkScope } from '../model/given.ts'
import { createKeyMaker } from '../model/ids.ts'
import { rangeMs } from '../model/moment.ts'
import { scopedTenantId } from '../model/names.ts'
import { type FactListener, type FactName, Facts } from '../observe/facts.ts'
import { defaultLogger, type Logger, silentLogger, tolerant } from '../observe/log.ts'
import {
  type EndpointStats,
  type HourlyFigures,
  perHour,
  summarise,
} from '../observe/statistics.ts'
import type { RetryManager } from '../policy/retry-manager.ts'
import type { RotateSecretOptions } from '../registry/rotation-input.ts'
import {
  type RegisteredEndpoint,
  type TenantScope,
  WebhookRegistry,
} from '../registry/webhook-registry.ts'
import { type EndpointChange, historyLength } from '../storage/endpoints.ts'
import type { Storage } from '../storage/storage.ts'
import type { AuditReport } from '../storage/upkeep.ts'
import {
  checkBefore,
  checkPath,
  checkReason,
  checkTimeout,
  dispatchOptions,
  timesOptions,
} from './arguments.ts'
import { failAtExit } from './failed-start.ts'
import { healthOf, healthUnopened } from './health.ts'
import { NearMisses } from './near-misses.ts'
import {
  checkParts,
  givenRegistry,
  givenRetries,
  retriesOf,
  securityOf,
  storageOf,
} from './parts.ts'
import type {
  DispatchOptions,
  DispatchTimesOptions,
  EndpointTestResult,
  HistoryQuery,
  RemoveOptions,
  ServiceHealth,
  TimeRange,
  WebhookServiceParts,
  WebhookStats,
} from './shapes.ts'

interface Opened {
  readonly engine: Engine
  readonly queries: Queries
}

const hourMs = 3_600_000

export class WebhookService implements AsyncDisposable {
  readonly registry: WebhookRegistry
  readonly dispatcher: WebhookDispatcher
  readonly retryManager: RetryManager
  readonly #options: ServiceOptions
  readonly #clock: Clock
  /** Null where time is handed in. */
  readonly #systemClock: SystemClock | null
  readonly #random: Random
  readonly #logger: Logger
  readonly #facts: Facts
  readonly #ownsDispatcher: boolean
  readonly #opening: Promise<Opened>
  /** Set once open, so that the hot path need not await. */
  #opened: Opened | null = null
  #failedToOpen: Error | null = null
  /** Somebody has called a method, and learns of a failed start by it. */
  #isAsked = false
  #closing: Promise<void> | null = null
  readonly #nearMisses: NearMisses

  /**
   * Opens the store in the background and takes up what an earlier process left unfinished.
   *
   * @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID, OPTION_OUT_OF_RANGE, SECRET_INVALID,
   *   ENCRYPTION_KEY_INVALID, ALGORITHM_UNSUPPORTED, SCHEDULE_EMPTY. What goes wrong with the store rejects `ready()` and every other call.
   */
  constructor(config: WebhookConfig = {}, parts: WebhookServiceParts = {}) {
    this.#options = checkConfig(config)
    checkParts(parts)
    this.#systemClock = config.clock === undefined ? systemClock() : null
    this.#clock = this.#systemClock ?? (config.clock as Clock)
    this.#random = config.random ?? Math.random
    this.#logger =
      config.logger === false ? silentLogger : tolerant(config.logger ?? defaultLogger())
    this.#nearMisses = new NearMisses(this.#logger)
    this.#nearMisses.ofPatterns(config.enabledEvents ?? [])
    this.#facts = new Facts((name, error) =>
      this.#logger.error({ fact: name, error: String(error) }, 'a listener threw'),
    )
    this.retryManager = parts.retryManager ?? givenRetries(parts) ?? retriesOf(config)
    this.registry = parts.registry ?? givenRegistry(parts) ?? new WebhookRegistry()
    const security = securityOf(config, parts)
    this.#ownsDispatcher = parts.dispatcher === undefined
    this.dispatcher =
      parts.dispatcher ?? new WebhookDispatcher(this.registry, security, this.retryManager)
    this.dispatcher.configure({
      allowedNetworks: this.#options.allowedNetworks,
      redirects: this.#options.redirects,
      timeoutMs: this.#options.timeoutMs,
      maxConnections: Math.max(1_024, this.#options.maxConcurrency),
      tls: config.tls,
      proxy: config.proxy,
      dns: config.dns,
      lookup: config.lookup,
      nowMs: config.clock === undefined ? undefined : () => this.#clock.nowMs(),
    })
    this.#warnOfShortSchedule()
    const { enableSecurity, secretKey } = this.#options
    if (!enableSecurity) warnOfNoSignature(this.#logger)
    else if (secretKey !== null) warnOfShortSecret(this.#logger, 'secretKey', secretKey)
    this.#opening = this.#open(storageOf(config.storage), Boolean(config.logger))
    // Whoever calls anything learns of it there; without a call it must not end the host process,
    // and a process that only sends calls nothing.
    this.#opening.catch((error: Error) => {
      this.#failedToOpen = error
      if (this.#closing !== null) return
      errorOfStart(this.#logger, error)
      if (!this.#isAsked) failAtExit(() => this.#isAsked)
    })
  }

  /**
   * Resolves when the store is open and delivering has begun. A service that could not open stays so:
   * make a new one once the cause is gone.
   *
   * @throws WebhookError STORAGE_…; OPTION_INVALID for a path that no file can have; GUARD_BYPASSED when the HTTP client would send unguarded
   */
  async ready(): Promise<void> {
    this.#isAsked = true
    await this.#opening
  }

  // ── events ─────────────────────────────────────────────────────────────────────────────────────

  /**
   * Accepts an event: resolves once it and its deliveries are synced to disk, before any is sent.
   * The same id with the same content again returns the first receipt and sends nothing new.
   *
   * @throws WebhookError EVENT_…, TENANT_ID_INVALID, OPTION_…; STORAGE_FULL and STORAGE_UNAVAILABLE, after
   *   which the same call can be repeated; SERVICE_CLOSED
   */
  dispatchEvent(event: WebhookEvent, options?: DispatchOptions): Promise<DispatchReceipt> {
    let checked: CheckedEvent
    try {
      checkOptions(options, dispatchOptions, 'dispatchEvent')
      checked = this.#check(event, options)
    } catch (error) {
      return Promise.reject(error)
    }
    if (options?.transaction !== undefined) {
      const { transaction } = options
      return this.#use().then(({ engine }) => engine.acceptWithin(checked, transaction))
    }
    // The hot path: no promise but the one that the commit resolves.
    if (this.#opened !== null && this.#closing === null) {
      return this.#opened.engine.accept(checked)
    }
    return this.#use().then(({ engine }) => engine.accept(checked))
  }

  /**
   * Accepts many events. All are checked before any is stored, and nothing is stored when one is bad
   * or two have one id and different content. Ids are looked up as they are stored: one that belongs
   * to an event stored before rejects the call with EVENT_ID_CONFLICT, and the others are stored. After
   * any other error the same call can be repeated: what was stored comes back as a duplicate.
   */
  async dispatchEvents(
    events: readonly WebhookEvent[],
    times?: DispatchTimesOptions,
  ): Promise<DispatchReceipt[]> {
    checkIsList(events)
    checkOptions(times, timesOptions, 'dispatchEvents')
    const { engine } = await this.#use()
    const contents = new OneContent()
    return await acceptMany(
      events,
      (event) => contents.take(this.#check(event, times)),
      (checked, index, answers) => engine.acceptOneOf(checked, index, answers),
    )
  }

  /** All that is stored of an event: its deliveries with their attempts, and why others did not get it. */
  async getEvent(id: string, scope?: TenantScope): Promise<EventReport | null> {
    return (await this.#use()).queries.event(id, scope)
  }

  /**
   * "Where is my event?": for each endpoint of the tenant whether it was delivered, what it waits for
   * and until when, why it ended, or which rule did not match. Null for an unknown event.
   */
  async explainEvent(id: string, scope?: TenantScope): Promise<EventExplanation | null> {
    const { queries } = await this.#use()
    return explainEvent(queries, this.registry, id, scope)
  }

  /**
   * Removes bodies and personal data; the skeleton stays. Deliveries that have not ended are
   * cancelled, and keys that failed ones held up go on. Events with a request under way, or about to be
   * given back by a process, are counted in `inFlight`: nothing of them is tried again, and asked once
   * more they are erased. When it resolves, no process begins a request with any of these bodies; to
   * hear of it takes others up to a second, and one that has stopped its lease.
   */
  async eraseEvents(query: EraseQuery): Promise<{ erased: number; inFlight: number }> {
    const selection = eraseSelection(query)
    return await (await this.#use()).engine.eraseEvents(selection)
  }

  // ── endpoints ──────────────────────────────────────────────────────────────────────────────────

  /**
   * Registers an endpoint; with a known id it updates it (apps register at every start). When no
   * secret is given and none is shared, one is created and returned here, once.
   *
   * @throws WebhookError ENDPOINT_…, ADDRESS_BLOCKED, SECRET_INVALID, STORAGE_…
   */
  async registerEndpoint(endpoint: WebhookEndpointInput): Promise<RegisteredEndpoint> {
    await this.#use()
    const registered = await this.registry.register(endpoint)
    this.#nearMisses.ofPatterns(registered.events)
    return registered
  }

  /** Changes the given fields, from the next attempt on. @throws WebhookError ENDPOINT_NOT_FOUND */
  async updateEndpoint(
    id: string,
    changes: WebhookEndpointChanges,
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    await this.#use()
    const updated = await this.registry.update(id, changes, scope)
    this.#nearMisses.ofPatterns(updated.events)
    return updated
  }

  /**
   * Replaces the endpoint's secret. Old and new sign together for `overlapMs` (24 hours unless the
   * service says otherwise); the receiver takes over the new one meanwhile. One that is created is in
   * the result, once; of an Ed25519 key only the public half ever is.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, SECRET_INVALID, SECRET_LIMIT, OPTION_OUT_OF_RANGE
   */
  async rotateSecret(id: string, options?: RotateSecretOptions): Promise<RegisteredEndpoint> {
    await this.#use()
    return this.registry.rotateSecret(id, options)
  }

  /** Ends the overlap: only the newest secret signs. @throws WebhookError ENDPOINT_NOT_FOUND */
  async finishRotation(id: string, scope?: TenantScope): Promise<WebhookEndpoint> {
    await this.#use()
    return this.registry.finishRotation(id, scope)
  }

  /**
   * Its waiting deliveries end as cancelled; what has ended stays readable. Resolves when no further
   * request begins here, in other processes within a second: what waits is still being ended then,
   * thousands a second, and requests under way come to their end.
   */
  async removeEndpoint(id: string, options?: RemoveOptions): Promise<void> {
    await this.#use()
    checkOptions(options, ['tenantId', 'reason'], 'removeEndpoint')
    checkReason(options?.reason)
    await this.registry.remove(id, { tenantId: options?.tenantId }, options?.reason)
  }

  async getEndpoint(id: string, scope?: TenantScope): Promise<WebhookEndpoint | null> {
    await this.#use()
    return this.registry.get(id, scope) ?? null
  }

  /** Sorted by id; `tenantId: '*'` lists every tenant's. */
  async listEndpoints(scope?: TenantScope): Promise<WebhookEndpoint[]> {
    await this.#use()
    return this.registry.list(scope)
  }

  /** Holds its events: they are stored and wait. */
  async pauseEndpoint(
    id: string,
    reason = 'by request',
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    checkReason(reason)
    await this.#use()
    return this.registry.setStatus(id, 'paused', reason, scope)
  }

  /**
   * Its waiting deliveries end as cancelled, and no event is kept for it until it is enabled. Resolves
   * when no further request begins here, in other processes within a second: what waits is still being
   * ended then, thousands a second, and requests under way come to their end.
   */
  async disableEndpoint(
    id: string,
    reason = 'by request',
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    checkReason(reason)
    await this.#use()
    return this.registry.setStatus(id, 'disabled', reason, scope)
  }

  /**
   * The same as `resumeEndpoint`, by the name that fits a disabled one. What waited when it was disabled
   * has ended as cancelled when this resolves, but for what another process holds in memory that has had
   * less than a second to learn of the disabling.
   */
  enableEndpoint(id: string, reason?: string, scope?: TenantScope): Promise<WebhookEndpoint> {
    return this.resumeEndpoint(id, reason, scope)
  }

  /**
   * Makes it active again, whether it was paused or disabled. What keeps it back ends, also of one that
   * is active: a `Retry-After` of its receiver, an open breaker.
   */
  async resumeEndpoint(
    id: string,
    reason = 'by request',
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    checkReason(reason)
    await this.#use()
    return this.registry.setStatus(id, 'active', reason, scope)
  }

  /**
   * Changes of an endpoint, oldest first; never a secret. An attempt says which version it used
   * (`endpointVersion`). The last 1000 changes are kept.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, OPTION_OUT_OF_RANGE
   */
  async getEndpointHistory(id: string, query: HistoryQuery = {}): Promise<EndpointChange[]> {
    const { engine } = await this.#use()
    checkOptions(query, ['tenantId', 'limit', 'before'], 'getEndpointHistory')
    const { limit = historyLength, before, tenantId } = query
    checkLimit(limit)
    checkBefore(before)
    const { key } = this.registry.require(id, { tenantId })
    return engine.store.endpointHistory(key, limit, before ?? null)
  }

  /** One signed request of type `webhook.test`. Never counted against the endpoint. */
  async testEndpoint(id: string, scope?: TenantScope): Promise<EndpointTestResult> {
    const { engine } = await this.#use()
    this.#refuseClosed()
    const endpoint = this.registry.require(id, scope)
    const nowMs = this.#clock.nowMs()
    const eventId = `test_${createKeyMaker(() => nowMs, randomBytes)()}`
    const event = checkEvent(
      {
        id: eventId,
        type: 'webhook.test',
        timestamp: new Date(nowMs),
        data: { endpointId: endpoint.id },
      },
      { maxPayloadBytes: this.#options.maxPayloadBytes, enabledEvents: null },
    )
    const report = resultOf(await engine.tryOnce(event, endpoint))
    const { success, httpStatus, responseTime, error } = report
    const canEnable = success && this.registry.find(id, scope)?.status === 'disabled'
    return { success, responseTime: Math.round(responseTime), httpStatus, error, canEnable }
  }

  // ── deliveries ─────────────────────────────────────────────────────────────────────────────────

  async getDelivery(id: string, scope?: TenantScope): Promise<WebhookDelivery | null> {
    return (await this.#use()).queries.delivery(id, scope)
  }

  /** Newest event first, a page at a time. @throws WebhookError CURSOR_INVALID, ENDPOINT_NOT_FOUND */
  async listDeliveries(query: DeliveryListQuery = {}): Promise<DeliveryPage> {
    return (await this.#use()).queries.list(query)
  }

  /**
   * Deliveries that ended as `exhausted` or `rejected` and were not retried since, newest first. Those of
   * an endpoint that was removed are listed without an id.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND
   */
  async getFailedDeliveries(
    endpointId?: string,
    query: Omit<DeliveryListQuery, 'endpointId' | 'state'> = {},
  ): Promise<FailedDelivery[]> {
    return (await this.#use()).queries.failed(endpointId, query)
  }

  /**
   * Makes a delivery due now: a waiting one earlier, an ended one as a new round with the same event
   * id, so that the receiver can deduplicate.
   *
   * @throws WebhookError DELIVERY_NOT_FOUND, DELIVERY_NOT_RETRIABLE, ENDPOINT_DISABLED,
   *   ENDPOINT_NOT_FOUND
   */
  async retryDelivery(id: string, scope?: TenantScope): Promise<WebhookDelivery> {
    return retryDelivery(await this.#repairTools(), id, scope)
  }

  /**
   * Ends a delivery that waits. One whose request is under way is not cut off: its answer counts, and
   * no further attempt follows.
   *
   * @throws WebhookError DELIVERY_NOT_FOUND, DELIVERY_NOT_CANCELLABLE (ended, or in a sealed batch)
   */
  async cancelDelivery(id: string, scope?: TenantScope): Promise<WebhookDelivery> {
    return cancelDelivery(await this.#repairTools(), id, scope)
  }

  /**
   * Ends what waits for an endpoint: all, or some types, or what was accepted before a time; sealed
   * batches only with all. Requests under way go on.
   *
   * @returns how many deliveries ended
   * @throws WebhookError ENDPOINT_NOT_FOUND, OPTION_INVALID, EVENT_TYPE_INVALID
   */
  async cancelPending(endpointId: string, query: CancelPendingQuery = {}): Promise<number> {
    return cancelPending(await this.#repairTools(), endpointId, query)
  }

  // ── repairs of many deliveries ─────────────────────────────────────────────────────────────────

  /**
   * Sends again what failed: a new round of what has ended, at once what waits for its next attempt.
   * Like every repair it runs in the background, oldest event first, goes on after a restart, gives
   * live events their way, and keeps the event's id, so that receivers can deduplicate.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, ENDPOINT_DISABLED, OPTION_…
   */
  retryFailed(query: ReplayQuery & { dryRun: true }): Promise<RepairPreview>
  retryFailed(query: ReplayQuery & { dryRun?: false | undefined }): Promise<Repair>
  retryFailed(query: ReplayQuery): Promise<Repair | RepairPreview>
  async retryFailed(query: ReplayQuery): Promise<Repair | RepairPreview> {
    const checked = checkReplay('retry', query, this.#clock.nowMs())
    return (await this.#use()).engine.repairs.begin(checked)
  }

  /**
   * Sends again what was delivered, too.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, ENDPOINT_DISABLED, OPTION_…
   */
  replay(query: ReplayQuery & { dryRun: true }): Promise<RepairPreview>
  replay(query: ReplayQuery & { dryRun?: false | undefined }): Promise<Repair>
  replay(query: ReplayQuery): Promise<Repair | RepairPreview>
  async replay(query: ReplayQuery): Promise<Repair | RepairPreview> {
    const checked = checkReplay('replay', query, this.#clock.nowMs())
    return (await this.#use()).engine.repairs.begin(checked)
  }

  /**
   * Sends stored events that an endpoint never got and would get as it is now: to a new endpoint, or
   * one whose filters were wrong.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, ENDPOINT_DISABLED, OPTION_…
   */
  backfill(endpointId: string, query: BackfillQuery & { dryRun: true }): Promise<RepairPreview>
  backfill(
    endpointId: string,
    query: BackfillQuery & { dryRun?: false | undefined },
  ): Promise<Repair>
  backfill(endpointId: string, query: BackfillQuery): Promise<Repair | RepairPreview>
  async backfill(endpointId: string, query: BackfillQuery): Promise<Repair | RepairPreview> {
    const checked = checkBackfill(endpointId, query, this.#clock.nowMs())
    return (await this.#use()).engine.repairs.begin(checked)
  }

  /** How far a repair has come; kept as long as settled deliveries are. */
  async getRepair(id: string, scope?: TenantScope): Promise<Repair | null> {
    return (await this.#use()).engine.repairs.find(id, scope)
  }

  /** The newest hundred, newest first. */
  async listRepairs(scope?: TenantScope): Promise<Repair[]> {
    return (await this.#use()).engine.repairs.list(scope)
  }

  /**
   * Queues no more of a repair; the few that it has queued go on.
   *
   * @throws WebhookError REPAIR_NOT_FOUND
   */
  async cancelRepair(id: string, scope?: TenantScope): Promise<Repair> {
    return (await this.#use()).engine.repairs.cancel(id, scope)
  }

  /** Keys that a failed delivery holds up (`ordering` with `block`): oldest first, at most 1000. */
  async listBlockedKeys(query: BlockedKeyQuery = {}): Promise<BlockedOrderKey[]> {
    return (await this.#use()).queries.blockedKeys(query)
  }

  /**
   * Gives up a failed delivery that holds up its key, see `ordering`: what waits behind it goes on.
   *
   * @throws WebhookError DELIVERY_NOT_FOUND when it holds up nothing
   */
  async skipDelivery(id: string, scope?: TenantScope): Promise<void> {
    await skipDelivery(await this.#repairTools(), id, scope)
  }

  // ── statistics ─────────────────────────────────────────────────────────────────────────────────

  /** Figures of all endpoints of a tenant; `tenantId: '*'` of all. */
  async getStats(scope?: TenantScope): Promise<WebhookStats> {
    const { engine } = await this.#use()
    checkScope(scope)
    const tenantId = scopedTenantId(scope?.tenantId)
    const rows = await engine.store.statistics({
      tenantId: tenantId === '*' ? null : tenantId,
      endpointKey: null,
      fromMs: null,
      toMs: null,
      perHour: false,
    })
    const endpoints = this.registry.records(scope)
    return {
      totalEndpoints: endpoints.length,
      activeEndpoints: endpoints.filter((one) => one.status === 'active').length,
      ...summarise(rows),
    }
  }

  /** Figures of one endpoint, of all time or of a range in whole hours. */
  async getEndpointStats(
    id: string,
    range: TimeRange = {},
    scope?: TenantScope,
  ): Promise<EndpointStats & { hours: HourlyFigures[] }> {
    const { engine } = await this.#use()
    checkOptions(range, ['start', 'end'], 'getEndpointStats')
    const endpoint = this.registry.require(id, scope)
    const rows = await engine.store.statistics({
      tenantId: endpoint.tenantId,
      endpointKey: endpoint.key,
      ...rangeMs(['start', range.start], ['end', range.end]),
      perHour: true,
    })
    return { ...summarise(rows), hours: perHour(rows) }
  }

  // ── running ────────────────────────────────────────────────────────────────────────────────────

  /** Listens to what happens. @returns what stops listening @throws WebhookError OPTION_… */
  on<Name extends FactName>(name: Name, listener: FactListener<Name>): () => void {
    return this.#facts.on(name, listener)
  }

  /**
   * Resolves when every delivery that this process can send has ended, retries included. What paused
   * endpoints and blocked keys hold, what a repair has not queued yet, what other processes have taken
   * and, with `deliver: false`, anything at all does not count.
   *
   * @throws WebhookError DRAIN_TIMEOUT, OPTION_…
   */
  async drain(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    checkOptions(options, ['timeoutMs'], 'drain')
    const { timeoutMs } = options
    checkTimeout(timeoutMs)
    const { engine } = await this.#use()
    let cancel = (): void => {}
    const givenUp = new Promise<void>((resolve) => {
      if (timeoutMs !== undefined) cancel = this.#clock.setTimer(resolve, timeoutMs)
    })
    const drained = await engine.drained(givenUp)
    cancel()
    if (!drained) {
      throw new WebhookError(
        'DRAIN_TIMEOUT',
        `Expected every delivery to end within ${timeoutMs} ms; some are still waiting. They are stored and go on.`,
      )
    }
  }

  /**
   * Sends everything due at the clock's time and resolves when it is settled: for tests. While the
   * store is away it rejects, and loses nothing: ask again once it is back.
   *
   * @throws WebhookError STORAGE_UNAVAILABLE, STORAGE_…
   */
  async runDue(): Promise<void> {
    await (await this.#use()).engine.runDue()
  }

  /** When the next stored delivery is due; null when none is. */
  async nextDueAt(): Promise<Date | null> {
    const atMs = (await this.#use()).engine.scheduler.nextDueAtMs
    return Number.isFinite(atMs) ? new Date(atMs) : null
  }

  async health(): Promise<ServiceHealth> {
    this.#isAsked = true
    if (this.#closing !== null) return healthUnopened('closed', this.#failedToOpen)
    if (this.#opened !== null) return healthOf(this.#opened.engine, this.#clock.nowMs())
    return healthUnopened(this.#failedToOpen === null ? 'starting' : 'degraded', this.#failedToOpen)
  }

  /** Checks every invariant of the stored data; no problems is an empty list. */
  async audit(): Promise<AuditReport> {
    return (await this.#use()).engine.store.audit()
  }

  /**
   * Writes a consistent copy of the store while it is in use.
   *
   * @param path of a file that does not exist yet
   * @throws WebhookError OPTION_INVALID, STORAGE_…, BACKUP_UNSUPPORTED
   */
  async backup(path: string): Promise<void> {
    checkPath(path)
    await (await this.#use()).engine.store.backup(path)
  }

  /**
   * Stops accepting and sending, gives requests under way `shutdownTimeoutMs` to end, gives the rest
   * back as not attempted, and closes the store. The process can end after that.
   */
  close(): Promise<void> {
    this.#isAsked = true
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────

  async #open(storage: Storage, logAttempts: boolean): Promise<Opened> {
    await this.dispatcher.ready()
    const store = await storage.open({
      nowMs: () => this.#clock.nowMs(),
      follow: this.#systemClock?.follow,
      delivers: this.#options.deliver,
      log: (level, message, fields) => this.#logger[level](fields, message),
      onFatal: (error) => {
        this.#logger.error({ error: error.message }, 'the store is lost; accepting has stopped')
        this.#opened?.engine.commits.fail(error)
      },
    })
    const engine = new Engine({
      store,
      options: this.#options,
      registry: this.registry,
      dispatcher: this.dispatcher,
      retries: this.retryManager,
      clock: this.#clock,
      random: this.#random,
      randomBytes,
      facts: this.#facts,
      logger: this.#logger,
      logAttempts,
    })
    try {
      await engine.start()
    } catch (error) {
      await engine.stop(0)
      throw error
    }
    // Only now: where keys are missing, what is stored does not lie in the clear.
    if (this.#options.keyRing === null && storage.kind !== 'memory') {
      warnOfClearText(this.#logger, store.location)
    }
    this.#opened = { engine, queries: new Queries(store, this.registry, () => this.#clock.nowMs()) }
    return this.#opened
  }

  async #close(): Promise<void> {
    const opened = await this.#opening.catch(() => null)
    await opened?.engine.stop(this.#options.shutdownTimeoutMs)
    if (!this.#ownsDispatcher) return
    // Attempts of deliveries have ended by now; what is left is a test somebody waits for.
    this.dispatcher.abortAll()
    await this.dispatcher.close()
  }

  #check(event: WebhookEvent, given: DispatchTimesOptions | undefined): CheckedEvent {
    const checked = checkEvent(event, this.#options)
    this.#nearMisses.of(checked.type)
    if (given === undefined) return checked
    const times = checkTimes(given, this.#clock.nowMs())
    return times === undefined ? checked : { ...checked, times }
  }

  #use(): Promise<Opened> {
    this.#isAsked = true
    return this.#closing === null ? this.#opening : Promise.reject(closedError())
  }

  async #repairTools(): Promise<RepairTools> {
    const { engine, queries } = await this.#use()
    return { engine, queries, registry: this.registry, nowMs: this.#clock.nowMs() }
  }

  #refuseClosed(): void {
    if (this.#closing !== null) throw closedError()
  }

  #warnOfShortSchedule(): void {
    const lengthMs = this.retryManager.scheduleLengthMs
    if (lengthMs >= hourMs) return
    this.#logger.warn(
      { schedule_s: Math.round(lengthMs / 1_000) },
      `An event is given up ${Math.round(lengthMs / 1_000)} s after its first attempt: a receiver that is down longer loses it. Set \`retryScheduleMs: 'standard'\` for 75 hours.`,
    )
  }
}
