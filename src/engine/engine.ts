/**
 * The parts put together and running on one open store: accept → lanes → deliver → settle → record,
 * and back when a retry becomes due. It owns start and stop; it decides nothing that policy decides.
 */
import { Acceptor, type DispatchReceipt } from '../accept/acceptor.ts'
import { Backlog, type BacklogFull } from '../accept/backlog.ts'
import type { CheckedEvent } from '../accept/event-input.ts'
import type { AttemptReport, AttemptRequest } from '../deliver/attempt-request.ts'
import type { WebhookDispatcher } from '../deliver/dispatcher.ts'
import type { Clock, Random } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { EndpointFlow } from '../model/flow.ts'
import { createKeyMaker, parseDeliveryId, type RandomBytes } from '../model/ids.ts'
import type { Facts } from '../observe/facts.ts'
import { type Logger, loggableUrl } from '../observe/log.ts'
import { verdictOf } from '../policy/breaker.ts'
import type { RetryManager } from '../policy/retry-manager.ts'
import { Recorder } from '../record/recorder.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { LaneLimits } from '../schedule/lane.ts'
import { Scheduler } from '../schedule/scheduler.ts'
import { GroupCommit } from '../storage/group-commit.ts'
import type {
  CancelResult,
  Claim,
  DeliveryFound,
  EndpointChange,
  EraseSelection,
  IntakeRecord,
  ReleaseRecord,
  SettlementRecord,
  SettlementResult,
  Store,
} from '../storage/storage.ts'
import { AtMost } from './at-most.ts'
import { EndpointEncryption } from './endpoint-encryption.ts'
import type { HealthKeeper } from './health-keeper.ts'
import { createHealthKeeper, isFailedEnd } from './health-telling.ts'
import { Janitor } from './janitor.ts'
import { warnOfNewSecret, warnOfVoidSecret } from './notices.ts'
import type { ServiceOptions } from './options.ts'
import { Repairs } from './repairs.ts'
import { Rest } from './rest.ts'
import { SecretKeeper } from './secret-keeper.ts'
import { StoreTrouble } from './store-trouble.ts'
import { SystemEvents } from './system-events.ts'
import { tellBreaker, tellSettled } from './tell.ts'

export interface EngineParts {
  readonly store: Store
  readonly options: ServiceOptions
  readonly registry: WebhookRegistry
  readonly dispatcher: WebhookDispatcher
  readonly retries: RetryManager
  readonly clock: Clock
  readonly random: Random
  readonly randomBytes: RandomBytes
  readonly facts: Facts
  readonly logger: Logger
  /** Write a line per attempt: off with the default logger. */
  readonly logAttempts: boolean
}

const maxTriesAtOnce = 16
const eraseStep = 500
const maxBatchBytes = 262_144
const laneCapacity = 20_000
const memoryBytes = 64 * 1_048_576

/** What every call meets after `close()`. */
export function closedError(): WebhookError {
  return new WebhookError(
    'SERVICE_CLOSED',
    'Expected an open WebhookService, but close() has been called; create a new one.',
  )
}

/** Cancelled while it was in flight: where it would wait again, the store has ended it. */
function ended(record: SettlementRecord): SettlementRecord {
  const { settlement, settledAtMs } = record
  if (settlement.state !== 'waiting') return record
  return { ...record, settlement: { ...settlement, dueAtMs: settledAtMs } }
}

type Sendable = Pick<Claim, 'deliveryId' | 'eventId' | 'eventType' | 'body'>

export class Engine {
  readonly store: Store
  readonly commits: GroupCommit
  readonly scheduler: Scheduler
  readonly encryption: EndpointEncryption
  readonly repairs: Repairs
  /** Tests of endpoints share the connections of deliveries, and must not take them all. */
  readonly #tries = new AtMost(maxTriesAtOnce)
  readonly #parts: EngineParts
  readonly #acceptor: Acceptor
  readonly #recorder: Recorder
  readonly #rest: Rest
  readonly #janitor: Janitor
  /** Null: nothing is limited, so nothing is counted. */
  readonly #backlog: Backlog | null
  readonly #secretKeeper: SecretKeeper
  readonly #health: HealthKeeper
  readonly #systemEvents: SystemEvents
  /** Attempts that `close()` cut off are given back, not counted. */
  #aborted = false
  /** Which of the store's versions of the endpoints memory has; null where there is one process. */
  #endpointsVersion: number | null = null
  /** The newest the store has told of. */
  #newestVersion: number | null = null
  #refreshing: Promise<void> | null = null
  /** Deliveries that this process sends and somebody has cancelled: they will not wait again. */
  readonly #cancelled = new Set<string>()

  constructor(parts: EngineParts) {
    this.#parts = parts
    this.store = parts.store
    const { clock, random } = parts
    this.encryption = new EndpointEncryption(parts.options.keyRing)
    this.#secretKeeper = new SecretKeeper({ ...parts, encryption: this.encryption })
    this.commits = new GroupCommit(parts.store, {
      clock,
      random,
      log: (level, message, fields) => this.#storeTalks(level, message, fields),
      isSending: () => this.scheduler.active > 0,
      relieved: () => {
        this.scheduler.pump()
        this.#rest.look()
      },
    })
    this.scheduler = this.#createScheduler()
    this.#rest = new Rest(this.scheduler, this.commits)
    this.#backlog = Backlog.within(parts.options, clock, (full) => this.#tellBacklogFull(full))
    this.#janitor = new Janitor({
      ...parts,
      backlog: this.#backlog,
      commits: this.commits,
      stored: (endpointKey, dueAtMs) => this.scheduler.stored(endpointKey, dueAtMs),
      refresh: () => this.#refreshIfShared(),
      takeIntake: () => this.#acceptor.takeIntake(),
      syncHealth: () => this.#health.sync(),
    })
    const newKey = createKeyMaker(() => clock.nowMs(), parts.randomBytes)
    this.repairs = new Repairs({
      ...parts,
      newKey,
      stored: (endpointKey, dueAtMs) => this.scheduler.stored(endpointKey, dueAtMs),
      refresh: () => this.#refreshIfShared(),
      during: (work) => this.#rest.during(work),
    })
    this.#systemEvents = new SystemEvents({
      to: parts.options.systemEvents,
      find: (id, tenantId) => parts.registry.find(id, { tenantId }),
      accept: (event, to) => this.#acceptor.acceptFor(event, to),
      logger: parts.logger,
    })
    this.#health = createHealthKeeper(parts, this.#systemEvents, (work) => this.#rest.during(work))
    this.#acceptor = new Acceptor({
      clock,
      newKey,
      match: (tenantId, type, metadata, data) =>
        parts.registry.matchRecords(tenantId, type, metadata, data),
      endpointsVersion: () => this.#endpointsVersion,
      refresh: () => this.#refreshIfShared(),
      intake: parts.store,
      backlog: this.#backlog,
      refused: (event, error) => this.#refused(event, error),
      commits: this.commits,
      lanes: {
        reserve: (endpoint) => this.scheduler.reserve(endpoint),
        unreserve: (endpointKey) => this.scheduler.unreserve(endpointKey),
        admit: (claim) => this.scheduler.admit(claim),
        stored: (endpointKey, dueAtMs, loose) => this.scheduler.stored(endpointKey, dueAtMs, loose),
        fanOut: () => this.#rest.during(this.#janitor.fanOut()),
      },
      batchTimeoutMs: (endpoint) => this.#limits(endpoint).batch?.timeoutMs ?? null,
      accepted: (event, receipt) => {
        if (!parts.facts.wants('event.accepted')) return
        parts.facts.tell('event.accepted', {
          eventId: event.id,
          eventType: event.type,
          tenantId: event.tenantId || null,
          deliveries: receipt.deliveryIds.length,
        })
      },
    })
    this.#recorder = new Recorder({
      clock,
      random,
      retries: parts.retries,
      commits: this.commits,
      recorded: (claim, record, endpoint, result, outcome) => {
        this.#uncount(claim, record, result)
        const isCancelled = this.#cancelled.delete(claim.deliveryId)
        if (result !== 'late') this.#follow(claim, isCancelled ? ended(record) : record, endpoint)
        else if (record.settlement.effect?.kind === 'disable') {
          this.scheduler.unsuspend(claim.endpointKey)
        }
        tellSettled(this.#parts, claim, record, endpoint, result, outcome)
        if (result === 'late') return
        this.#health.attempted(endpoint, {
          outcome,
          startedAtMs: record.attempt.startedAtMs,
          settledAtMs: record.settledAtMs,
          ended: isFailedEnd(record.settlement.state) ? (claim.members?.length ?? 1) : 0,
        })
      },
    })
  }

  /**
   * Takes up what an earlier process left: due times, wide events, retention.
   *
   * @throws WebhookError ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_WRONG; nothing is sent then
   */
  async start(): Promise<void> {
    const { store, options, clock, registry, dispatcher } = this.#parts
    const endpoints = this.encryption.openAll(await store.loadEndpoints())
    const voided = await registry.attach(endpoints, this.#backing(), {
      allowedNetworks: options.allowedNetworks,
      signatureHeader: dispatcher.securityManager.header,
      nowMs: () => clock.nowMs(),
    })
    for (const { id } of voided) warnOfVoidSecret(this.#parts.logger, id)
    await this.#health.sync()
    for (const flow of await store.loadFlows()) registry.flows.note(flow)
    const nowMs = clock.nowMs()
    for (const { endpointKey, dueAtMs } of await store.heads()) {
      if (dueAtMs === null) continue
      this.scheduler.stored(endpointKey, dueAtMs)
      if (dueAtMs <= nowMs) this.scheduler.startSlowly(endpointKey)
    }
    await this.#janitor.countBacklog()
    this.scheduler.start()
    this.#rest.during(this.#janitor.fanOut())
    this.#janitor.start()
    this.#rest.during(this.#secretKeeper.start())
    this.repairs.look()
    const shared = this.#trouble('endpoints cannot be read', 'endpoints are read again')
    await store.watch({
      endpointsChanged: (version) => {
        this.#newestVersion = version
        this.#refreshIfShared().then(
          () => shared.worked(),
          (error: unknown) => shared.failed(error),
        )
      },
      flowsChanged: (flows) => {
        for (const flow of flows) this.scheduler.flowChanged(registry.flows.note(flow))
      },
      sharesChanged: () => this.scheduler.sharesChanged(),
      intake: () => this.#rest.during(this.#janitor.takeIntake()),
      due: (heads) => {
        for (const { endpointKey, dueAtMs } of heads) {
          if (dueAtMs !== null) this.scheduler.stored(endpointKey, dueAtMs)
        }
      },
      repairs: () => this.repairs.look(),
      lost: () => {
        this.#cancelled.clear()
        this.scheduler.disown()
      },
      confirmed: () => this.scheduler.pump(),
    })
    await this.#refreshIfShared()
  }

  /** One reading at a time; a change that is told meanwhile is read by the next. */
  #refreshIfShared(): Promise<void> {
    if (this.#newestVersion === null) return Promise.resolve()
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null
    })
    return this.#refreshing
  }

  async #refresh(): Promise<void> {
    const version = await this.#parts.registry.refresh()
    this.#endpointsVersion = version
    if (this.#newestVersion !== null && this.#newestVersion > version) await this.#refresh()
  }

  accept(event: CheckedEvent): Promise<DispatchReceipt> {
    return this.#acceptor.accept(event)
  }

  acceptWithin(event: CheckedEvent, transaction: unknown): Promise<DispatchReceipt> {
    return this.#acceptor.acceptWithin(event, transaction)
  }

  /** One request outside of any delivery: nothing is stored, counted or retried. */
  tryOnce(event: CheckedEvent, endpoint: EndpointRecord): Promise<AttemptReport> {
    const sendable = { ...event, deliveryId: event.id, eventId: event.id, eventType: event.type }
    const attempt = () =>
      new Promise<AttemptReport>((resolve) => {
        this.#parts.dispatcher.attempt(this.#request(sendable, 1, endpoint), resolve)
      })
    return this.#tries.run(attempt)
  }

  /** In steps, so that commits get their turn. */
  async eraseEvents(selection: EraseSelection): Promise<{ erased: number; inFlight: number }> {
    let erased = 0
    for (;;) {
      const nowMs = this.#parts.clock.nowMs()
      const step = await this.store.eraseEvents(selection, nowMs, eraseStep)
      erased += step.erased
      if (step.more && step.erased > 0) continue
      // What was to be sent later may be gone: nobody should wait for it.
      if (erased > 0) this.scheduler.reread()
      return { erased, inFlight: step.inFlight }
    }
  }

  /**
   * Ends what waits of an endpoint while nothing of it is held in memory: what is held is owned, and
   * would be sent.
   *
   * @param work ends all that waits now, and counts it
   */
  async whileSuspended(endpointKey: string, work: () => Promise<number>): Promise<number> {
    const isOurs = this.scheduler.suspend(endpointKey)
    try {
      let count = 0
      for (;;) {
        // What a claim brings that is under way goes back as well, and is ended the next time.
        const wasClaiming = this.scheduler.isClaiming(endpointKey)
        await this.commits.written()
        count += await work()
        if (!wasClaiming) return count
      }
    } finally {
      if (isOurs) this.scheduler.unsuspend(endpointKey)
      // What was to be sent later is gone: nobody should wait for it.
      this.scheduler.stored(endpointKey, this.#parts.clock.nowMs())
    }
  }

  /** Ends a delivery that waits, or sees to it that one that is owned does not wait again. */
  async cancelDelivery(
    deliveryId: string,
    { endpointKey, endpointId }: Pick<DeliveryFound, 'endpointKey' | 'endpointId'>,
    reason: string,
  ): Promise<CancelResult> {
    // Before the store knows: its outcome may be written at this moment.
    this.#cancelled.add(deliveryId)
    const nowMs = this.#parts.clock.nowMs()
    let result: CancelResult = 'unknown'
    try {
      result = (await this.store.cancelSome([deliveryId], reason, nowMs))[0] ?? 'unknown'
    } finally {
      if (result !== 'marked') this.#cancelled.delete(deliveryId)
    }
    if (result === 'marked') {
      // In memory and not begun: it need not be sent to be over.
      if (this.scheduler.giveBack(endpointKey, deliveryId)) this.#cancelled.delete(deliveryId)
      await this.commits.written()
    }
    if (result === 'cancelled') this.tellCancelled([deliveryId], endpointId, reason)
    // When it was to be sent, nobody should wait for any more.
    this.scheduler.stored(endpointKey, nowMs)
    return result
  }

  tellCancelled(deliveryIds: readonly string[], endpointId: string, reason: string): void {
    for (const deliveryId of deliveryIds) {
      this.#parts.facts.tell('delivery.cancelled', { deliveryId, endpointId, reason })
    }
  }

  /** Sends what is due now and resolves when all of it is settled and recorded. */
  async runDue(): Promise<void> {
    this.scheduler.wake()
    await this.#rest.quiet()
  }

  /** Resolves when nothing waits any more, retries included. @returns false when given up */
  drained(givenUp: Promise<void>): Promise<boolean> {
    return this.#rest.drained(givenUp)
  }

  /** Stops sending; requests under way get `graceMs`, then they are cut and given back. */
  async stop(graceMs: number): Promise<void> {
    this.#janitor.stop()
    this.#secretKeeper.stop()
    this.repairs.stop()
    this.scheduler.stop()
    if (!this.scheduler.isInactive) {
      const cancel = this.#parts.clock.setTimer(() => {
        this.#aborted = true
        this.#parts.dispatcher.abortAll()
      }, graceMs)
      await this.#rest.inactive()
      cancel()
    }
    await this.#lastWrites(graceMs)
    this.commits.fail(closedError())
    await this.store.close()
  }

  /** A store in trouble must not hold up the end for ever: what is not written is sent again. */
  #lastWrites(graceMs: number): Promise<void> {
    if (this.commits.trouble === null) return this.commits.idle()
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.setTimer(resolve, graceMs)
      void this.commits.idle().then(() => {
        cancel()
        resolve()
      })
    })
  }

  #tellBacklogFull({ scope, tenantId, endpoint, limit }: BacklogFull): void {
    const whose = { tenantId: tenantId || null, endpointId: endpoint?.id ?? null }
    this.#parts.logger.warn({ scope, ...whose, limit }, 'backlog.full')
    this.#parts.facts.tell('backlog.full', { scope, ...whose, limit })
  }

  /** A member of a batch is a delivery of its own. */
  #uncount(claim: Claim, { settlement }: SettlementRecord, result: SettlementResult): void {
    if (this.#backlog === null || result !== 'written' || settlement.state === 'waiting') return
    this.#backlog.ended(claim.tenantId, claim.endpointKey, claim.members?.length ?? 1)
  }

  #refused({ id, type, tenantId }: IntakeRecord, error: Error): void {
    const code = error instanceof WebhookError ? error.code : 'unknown'
    this.#parts.logger.error({ event: id, code, error: error.message }, 'event.refused')
    const whose = { eventId: id, eventType: type, tenantId: tenantId || null }
    this.#parts.facts.tell('event.refused', { ...whose, code, message: error.message })
  }

  // ── one attempt ────────────────────────────────────────────────────────────────────────────────

  #createScheduler(): Scheduler {
    const { store, clock, registry, options } = this.#parts
    return new Scheduler(
      {
        store,
        clock,
        endpoint: (key) => registry.byKey(key),
        limits: (endpoint) => this.#limits(endpoint),
        flow: (key) => registry.flows.get(key),
        breakerChanged: (flow) => this.#breakerChanged(flow),
        run: (claim, endpoint) => this.#run(claim, endpoint),
        release: (record) => this.#release(record),
        congested: () => this.commits.congested || !store.isOwner,
        claims: this.#trouble('due deliveries cannot be read', 'due deliveries are read again'),
        flows: this.#trouble(
          'send times or breakers of endpoints cannot be written',
          'send times and breakers of endpoints are written again',
        ),
        orphaned: (endpointKey) => this.#cancelOrphans(endpointKey),
        quiet: () => this.#rest.look(),
      },
      {
        maxConcurrency: options.maxConcurrency,
        laneCapacity,
        memoryCapacity: options.memoryCapacity,
        memoryBytes,
        maxBatchBytes,
        delivers: options.deliver,
      },
    )
  }

  #release(record: ReleaseRecord): void {
    this.commits.release(record)
    const { deliveryId, cancelled: reason } = record
    if (reason === undefined) return
    const { registry, facts } = this.#parts
    const endpointKey = parseDeliveryId(deliveryId)?.endpointKey ?? ''
    const endpointId = registry.byKey(endpointKey)?.id ?? endpointKey
    facts.tell('delivery.cancelled', { deliveryId, endpointId, reason })
    // What waited behind it is due once that is written.
    const look = () => this.scheduler.stored(endpointKey, this.#parts.clock.nowMs())
    this.#rest.during(this.commits.written().then(look))
  }

  #limits(endpoint: EndpointRecord): LaneLimits {
    const { options } = this.#parts
    const batch =
      endpoint.batch === true
        ? { size: options.batchSize, timeoutMs: options.batchTimeoutMs }
        : endpoint.batch || null
    const concurrency = endpoint.concurrency ?? options.endpointConcurrency
    return {
      concurrency: this.store.shares.of(endpoint.key, concurrency),
      rateLimit: endpoint.rateLimit ?? options.endpointRateLimit,
      timeoutMs: endpoint.timeoutMs ?? options.timeoutMs,
      batch,
    }
  }

  #breakerChanged(flow: EndpointFlow): void {
    const { breaker } = this.#parts.registry.flows.note(flow)
    const endpoint = this.#parts.registry.byKey(flow.endpointKey)
    if (endpoint !== undefined) tellBreaker(this.#parts, endpoint, breaker)
  }

  #run(claim: Claim, endpoint: EndpointRecord): void {
    const attempt = claim.attempts + 1
    this.#parts.dispatcher.attempt(this.#request(claim, attempt, endpoint), (report) =>
      this.#ended(claim, endpoint, report),
    )
  }

  #request(
    { deliveryId, eventId, eventType, body }: Sendable,
    attempt: number,
    endpoint: EndpointRecord,
  ): AttemptRequest {
    const { options } = this.#parts
    return {
      deliveryId,
      attempt,
      eventId,
      eventType,
      body,
      endpoint,
      fallbackSecret: endpoint.tenantId === '' ? options.secretKey : null,
      timeoutMs: endpoint.timeoutMs ?? options.timeoutMs,
      enableSecurity: options.enableSecurity,
    }
  }

  #ended(claim: Claim, endpoint: EndpointRecord, report: AttemptReport): void {
    if (this.#aborted && report.outcome.kind === 'unreachable') {
      const dueAtMs = this.#parts.clock.nowMs()
      this.commits.release({ deliveryId: claim.deliveryId, token: claim.token, dueAtMs })
    } else {
      const { effect } = this.#recorder.record(claim, endpoint, report)
      // Before the slot is free again: the next request must not go out while this is written.
      if (effect?.kind === 'hold') this.scheduler.hold(claim.endpointKey, effect.untilMs)
      if (effect?.kind === 'disable') this.scheduler.suspend(claim.endpointKey)
    }
    const { outcome, startedAtMs } = report
    const verdict = verdictOf(outcome)
    const timedOut = verdict === 'neither' ? null : outcome.kind === 'timed-out'
    this.scheduler.finished(claim, verdict, startedAtMs, timedOut)
  }

  /** What a written settlement means for memory. */
  #follow(claim: Claim, { settlement, settledAtMs }: SettlementRecord, used: EndpointRecord): void {
    if (settlement.state === 'waiting') {
      this.scheduler.stored(claim.endpointKey, settlement.dueAtMs)
    } else if (claim.ordered) this.scheduler.stored(claim.endpointKey, settledAtMs)
    const effect = settlement.effect
    const { registry } = this.#parts
    const endpoint = registry.byKey(used.key)
    if (effect === null || endpoint === undefined) return
    if (effect.kind === 'hold') registry.flows.noteHold(used.key, effect.untilMs)
    else if (effect.kind === 'disable' && endpoint.status !== 'disabled') {
      this.#takeOver(endpoint, settledAtMs, 'disabled', effect.reason, {
        status: 'disabled',
        statusReason: effect.reason,
        statusChangedAtMs: settledAtMs,
      })
      const facts = { reason: effect.reason }
      this.#rest.during(this.#systemEvents.tell('disabled', endpoint, settledAtMs, facts))
    } else if (effect.kind === 'warn' && endpoint.warning !== effect.warning) {
      this.#takeOver(endpoint, settledAtMs, 'warned', effect.warning, { warning: effect.warning })
      this.#parts.facts.tell('endpoint.warning', {
        endpointId: endpoint.id,
        tenantId: endpoint.tenantId || null,
        warning: effect.warning,
      })
    }
  }

  /** The store wrote it together with the settlement; memory follows. */
  #takeOver(
    { key, id, url }: EndpointRecord,
    atMs: number,
    what: string,
    reason: string,
    changed: Partial<EndpointRecord>,
  ): void {
    this.#parts.registry.takeOver(key, changed, { atMs, what, reason })
    this.#parts.logger.warn({ endpoint: id, url: loggableUrl(url), reason }, `endpoint.${what}`)
  }

  // ── endpoints ──────────────────────────────────────────────────────────────────────────────────

  #backing() {
    const { options } = this.#parts
    return {
      needsSecret: options.enableSecurity,
      sharedSecret: options.secretKey,
      rotationOverlapMs: options.rotationOverlapMs,
      schemes: this.#parts.dispatcher.securityManager.schemes,
      save: async (record: EndpointRecord, change: EndpointChange, seenVersion: number | null) => {
        const sealed = this.encryption.seal(record)
        const isWritten = await this.store.saveEndpoint(sealed, change, seenVersion)
        if (isWritten) this.encryption.settled(record.key)
        return isWritten
      },
      changedSince: async (version: number) => {
        const changed = await this.store.changedEndpoints(version)
        return { ...changed, endpoints: this.encryption.openAll(changed.endpoints) }
      },
      remove: async (record: EndpointRecord, change: EndpointChange) => {
        await this.store.removeEndpoint(record.key, change)
        this.encryption.settled(record.key)
      },
      changed: (record: EndpointRecord, change: EndpointChange) => {
        warnOfNewSecret(this.#parts.logger, record, change)
        if (change.what === 'removed') this.#parts.registry.flows.remove(record.key)
        this.scheduler.refresh(record.key)
        if (record.status === 'disabled') this.#cancelOrphans(record.key)
        // Memory forgot what a disabled endpoint had in the store; not all of it need be ended yet.
        else if (record.status === 'active' && change.fields.includes('status')) {
          this.scheduler.stored(record.key, this.#parts.clock.nowMs())
        }
        if (change.fields.includes('url')) this.#health.clear(record.key, change.atMs)
        if (change.fields.includes('ordering')) this.#rest.during(this.#releaseOrder(record.key))
        if (change.what === 'disabled') {
          this.#parts.facts.tell('endpoint.disabled', {
            endpointId: record.id,
            tenantId: record.tenantId || null,
            reason: record.statusReason ?? '',
            disabledAt: new Date(record.statusChangedAtMs),
          })
        }
        this.#parts.facts.tell('endpoint.changed', {
          endpointId: record.id,
          tenantId: record.tenantId || null,
          what: change.what,
          reason: change.reason,
          version: change.version,
        })
      },
    }
  }

  /** By other rules than those by which they were held up. */
  async #releaseOrder(endpointKey: string): Promise<void> {
    try {
      const nowMs = this.#parts.clock.nowMs()
      if (!(await this.store.releaseOrder(endpointKey, null, nowMs))) return
      this.scheduler.stored(endpointKey, nowMs)
    } catch (error) {
      this.#parts.logger.warn(
        { error: String(error) },
        'what waits for failed deliveries still does',
      )
    }
  }

  #cancelOrphans(endpointKey: string): void {
    this.#rest.during(this.#janitor.cancelOrphans(endpointKey))
  }

  #trouble(what: string, again: string): StoreTrouble {
    return new StoreTrouble(what, again, (level, message, fields) =>
      this.#storeTalks(level, message, fields),
    )
  }

  #storeTalks(
    level: 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ): void {
    this.#parts.logger[level](fields, message)
    if (level === 'info') this.#parts.facts.tell('storage.recovered', {})
    else {
      this.#parts.facts.tell('storage.trouble', {
        code: String(fields.code ?? 'unknown'),
        message: `${message}: ${String(fields.error ?? '')}`,
      })
    }
  }
}
