/**
 * The parts put together and running on one open store: accept → lanes → deliver → settle → record,
 * and back when a retry becomes due. It owns start and stop; it decides nothing that policy decides.
 * It is long because it names every part, and what each is told of the others, in one place.
 */
import { type AcceptAnswers, Acceptor, type AcceptorTools } from '../accept/acceptor.ts'
import { Backlog } from '../accept/backlog.ts'
import type { CheckedEvent } from '../accept/event-input.ts'
import { type DispatchReceipt, Handover, type HandoverTools } from '../accept/handover.ts'
import { Intake, type IntakeTools } from '../accept/intake.ts'
import type { AttemptReport } from '../deliver/attempt-request.ts'
import type { WebhookDispatcher } from '../deliver/dispatcher.ts'
import type { Clock, Random } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { EndpointFlow } from '../model/flow.ts'
import { createKeyMaker, type RandomBytes } from '../model/ids.ts'
import type { Facts } from '../observe/facts.ts'
import type { Logger } from '../observe/log.ts'
import type { RetryManager } from '../policy/retry-manager.ts'
import { Recorder } from '../record/recorder.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import { Scheduler } from '../schedule/scheduler.ts'
import { GroupCommit } from '../storage/group-commit.ts'
import type { Store, StoreWatcher } from '../storage/storage.ts'
import type { EraseSelection } from '../storage/upkeep.ts'
import { Attempts } from './attempts.ts'
import { Cancelling } from './cancelling.ts'
import { Consequences } from './consequences.ts'
import { EndpointEncryption } from './endpoint-encryption.ts'
import { EndpointRefresh } from './endpoint-refresh.ts'
import type { HealthKeeper } from './health-keeper.ts'
import { createHealthKeeper } from './health-telling.ts'
import { Janitor } from './janitor.ts'
import { laneLimits } from './lane-limits.ts'
import { warnOfVoidSecret } from './notices.ts'
import type { ServiceOptions } from './options.ts'
import { createRegistryBacking } from './registry-backing.ts'
import { Repairs } from './repairs.ts'
import { Rest } from './rest.ts'
import { SecretKeeper } from './secret-keeper.ts'
import { StoreTrouble } from './store-trouble.ts'
import { SystemEvents } from './system-events.ts'
import { tellAccepted, tellBacklogFull, tellBreaker, tellRefused, tellStore } from './tell.ts'

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

export class Engine {
  readonly store: Store
  readonly commits: GroupCommit
  readonly scheduler: Scheduler
  readonly encryption: EndpointEncryption
  readonly cancelling: Cancelling
  readonly repairs: Repairs
  readonly #parts: EngineParts
  readonly #newKey: () => string
  readonly #refresh: EndpointRefresh
  readonly #acceptor: Acceptor
  readonly #intake: Intake
  readonly #attempts: Attempts
  readonly #rest: Rest
  readonly #janitor: Janitor
  /** Null: nothing is limited, so nothing is counted. */
  readonly #backlog: Backlog | null
  readonly #secretKeeper: SecretKeeper
  readonly #health: HealthKeeper
  readonly #systemEvents: SystemEvents
  /** Counts as unrest until it is done. */
  readonly #during = (work: Promise<unknown>): void => this.#rest.during(work)
  /** A delivery of this endpoint is in the store and due then. */
  readonly #stored = (endpointKey: string, dueAtMs: number): void =>
    this.scheduler.stored(endpointKey, dueAtMs)

  // Parts that know each other meet through functions: what those name exists before any is called.
  constructor(parts: EngineParts) {
    this.#parts = parts
    this.store = parts.store
    const { options, registry, clock, randomBytes } = parts
    this.#newKey = createKeyMaker(() => clock.nowMs(), randomBytes)
    this.encryption = new EndpointEncryption(options.keyRing)
    this.#secretKeeper = new SecretKeeper({ ...parts, encryption: this.encryption })
    this.#refresh = new EndpointRefresh(registry)
    this.#backlog = Backlog.within(options, clock, (full) => tellBacklogFull(parts, full))
    this.commits = this.#createCommits()
    this.scheduler = this.#createScheduler()
    this.#rest = new Rest(this.scheduler, this.commits)
    this.#janitor = this.#createJanitor()
    this.repairs = this.#createRepairs()
    this.#systemEvents = this.#createSystemEvents()
    this.#health = createHealthKeeper(parts, this.#systemEvents, this.#during)
    const accepting = this.#acceptTools()
    const handover = new Handover(accepting)
    this.#acceptor = new Acceptor(accepting, handover)
    this.#intake = new Intake(accepting, handover)
    const { commits, scheduler } = this
    this.cancelling = new Cancelling({ ...parts, commits, scheduler, during: this.#during })
    const recorder = this.#createRecorder()
    this.#attempts = new Attempts({ ...parts, commits, scheduler, recorder })
  }

  // ── start and stop ─────────────────────────────────────────────────────────────────────────────

  /**
   * Takes up what an earlier process left: due times, wide events, retention.
   *
   * @throws WebhookError ENCRYPTION_KEY_MISSING, ENCRYPTION_KEY_WRONG; nothing is sent then
   */
  async start(): Promise<void> {
    const { store, registry } = this.#parts
    await this.#attachRegistry()
    await this.#health.sync()
    for (const flow of await store.loadFlows()) registry.flows.note(flow)
    await this.#takeUpLanes()
    await this.#janitor.countBacklog()
    this.scheduler.start()
    this.#rest.during(this.#janitor.fanOut())
    this.#janitor.start()
    this.#rest.during(this.#secretKeeper.start())
    this.repairs.look()
    await store.watch(this.#createWatcher())
    await this.#refresh.refresh()
  }

  async #attachRegistry(): Promise<void> {
    const { store, options, clock, registry, dispatcher, logger } = this.#parts
    const endpoints = this.encryption.openAll(await store.loadEndpoints())
    const backing = createRegistryBacking({
      ...this.#parts,
      encryption: this.encryption,
      scheduler: this.scheduler,
      health: this.#health,
      orphaned: (endpointKey) => this.#cancelOrphans(endpointKey),
      endWaiting: (endpointKey) => this.#janitor.endWaiting(endpointKey),
    })
    const voided = await registry.attach(endpoints, backing, {
      allowedNetworks: options.allowedNetworks,
      signatureHeader: dispatcher.securityManager.header,
      nowMs: () => clock.nowMs(),
    })
    for (const { id } of voided) warnOfVoidSecret(logger, id)
  }

  async #takeUpLanes(): Promise<void> {
    const nowMs = this.#parts.clock.nowMs()
    for (const { endpointKey, dueAtMs } of await this.store.heads()) {
      if (dueAtMs === null) continue
      this.scheduler.stored(endpointKey, dueAtMs)
      if (dueAtMs <= nowMs) this.scheduler.startSlowly(endpointKey)
    }
  }

  #createWatcher(): StoreWatcher {
    const { flows } = this.#parts.registry
    const reading = this.#trouble('endpoints cannot be read', 'endpoints are read again')
    return {
      endpointsChanged: (version) => {
        this.#refresh.told(version).then(
          () => reading.worked(),
          (error: unknown) => reading.failed(error),
        )
      },
      flowsChanged: (changed) => {
        // A new address lifts a hold: it is read before anything is sent because of that.
        void this.#refresh.rest().then(() => {
          for (const flow of changed) this.scheduler.flowChanged(flows.note(flow))
        })
      },
      sharesChanged: () => this.scheduler.sharesChanged(),
      marked: (deliveries) => void this.cancelling.takeBack(deliveries),
      intake: () => this.#rest.during(this.#janitor.takeIntake()),
      due: (heads) => {
        for (const { endpointKey, dueAtMs } of heads) {
          if (dueAtMs !== null) this.scheduler.stored(endpointKey, dueAtMs)
        }
      },
      repairs: () => this.repairs.look(),
      lost: () => {
        this.cancelling.forget()
        this.scheduler.disown()
      },
      confirmed: () => this.scheduler.pump(),
    }
  }

  /** Stops sending; requests under way get `graceMs`, then they are cut and given back. */
  async stop(graceMs: number): Promise<void> {
    this.#janitor.stop()
    this.#secretKeeper.stop()
    this.repairs.stop()
    this.scheduler.stop()
    if (!this.scheduler.isInactive) {
      const cancel = this.#parts.clock.setTimer(() => this.#attempts.abort(), graceMs)
      await this.#rest.inactive()
      cancel()
    }
    await this.#lastWrites(graceMs)
    await this.#atMost(graceMs, this.#health.written())
    this.commits.fail(closedError())
    await this.store.close()
  }

  /** A store in trouble must not hold up the end for ever: what is not written is sent again. */
  #lastWrites(graceMs: number): Promise<void> {
    if (this.commits.trouble === null) return this.commits.idle()
    return this.#atMost(graceMs, this.commits.idle())
  }

  #atMost(ms: number, work: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.setTimer(resolve, ms)
      void work.then(() => {
        cancel()
        resolve()
      })
    })
  }

  // ── what a service asks for ────────────────────────────────────────────────────────────────────

  get options(): ServiceOptions {
    return this.#parts.options
  }

  /** What writing, or reading what others wrote, last failed with; null when all is well. */
  get trouble(): Error | null {
    return this.commits.trouble ?? this.#refresh.error
  }

  accept(event: CheckedEvent): Promise<DispatchReceipt> {
    return this.#acceptor.accept(event)
  }

  acceptOneOf(event: CheckedEvent, index: number, answers: AcceptAnswers): void {
    this.#acceptor.acceptOneOf(event, index, answers)
  }

  acceptWithin(event: CheckedEvent, transaction: unknown): Promise<DispatchReceipt> {
    return this.#intake.acceptWithin(event, transaction)
  }

  /** One request outside of any delivery: nothing is stored, counted or retried. */
  tryOnce(event: CheckedEvent, endpoint: EndpointRecord): Promise<AttemptReport> {
    return this.#attempts.tryOnce(event, endpoint)
  }

  /** In steps, so that commits get their turn. */
  async eraseEvents(selection: EraseSelection): Promise<{ erased: number; inFlight: number }> {
    let erased = 0
    for (;;) {
      const nowMs = this.#parts.clock.nowMs()
      const step = await this.store.eraseEvents(selection, nowMs, eraseStep)
      erased += step.erased
      for (const endpointKey of step.freed) this.#stored(endpointKey, nowMs)
      // Given back it has ended, and can be erased.
      const ended = this.cancelling.takeBack(step.marked)
      if (ended > 0) await this.commits.written()
      if (step.more && step.erased + ended > 0) continue
      if (step.mayBegin > 0) {
        await this.cancelling.heardOf()
        continue
      }
      // What was to be sent later may be gone: nobody should wait for it.
      if (erased > 0) this.scheduler.rereadAll()
      return { erased, inFlight: step.inFlight }
    }
  }

  /**
   * Sends what is due now and resolves when all of it is settled and recorded.
   *
   * @throws what the store fails with; what is not done is tried again nevertheless
   */
  async runDue(): Promise<void> {
    const quiet = this.#rest.quiet()
    this.scheduler.wake()
    // Where the clock stands still no pause would end.
    this.scheduler.hurry()
    this.commits.hurry()
    // In doubt of its lease it asks for nothing, so nothing fails: reading tells whether anybody answers.
    await Promise.all([quiet, this.store.isOwner ? null : this.#refresh.refresh()])
  }

  /** Resolves when nothing waits any more, retries included. @returns false when given up */
  drained(givenUp: Promise<void>): Promise<boolean> {
    return this.#rest.drained(givenUp)
  }

  // ── the parts ──────────────────────────────────────────────────────────────────────────────────

  #createCommits(): GroupCommit {
    return new GroupCommit(this.store, {
      clock: this.#parts.clock,
      random: this.#parts.random,
      log: (level, message, fields) => tellStore(this.#parts, level, message, fields),
      isSending: () => this.scheduler.active > 0,
      cancelled: (ended) => this.cancelling.tellEnded(ended),
      failed: (error) => this.#rest.failed(error),
      relieved: () => {
        this.scheduler.pump()
        this.#rest.look()
      },
    })
  }

  #createScheduler(): Scheduler {
    const { store, clock, registry, options } = this.#parts
    return new Scheduler(
      {
        store,
        clock,
        endpoint: (key) => registry.byKey(key),
        limits: (endpoint) => laneLimits(endpoint, options, store.shares),
        flow: (key) => registry.flows.get(key),
        breakerChanged: (flow) => this.#breakerChanged(flow),
        run: (claim, endpoint) => this.#attempts.run(claim, endpoint),
        release: (record, endpointKey) => this.cancelling.release(record, endpointKey),
        isCancelled: (deliveryId) => this.cancelling.isTakenBack(deliveryId),
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

  #breakerChanged(flow: EndpointFlow): void {
    const { registry } = this.#parts
    const { breaker } = registry.flows.note(flow)
    const endpoint = registry.byKey(flow.endpointKey)
    if (endpoint !== undefined) tellBreaker(this.#parts, endpoint, breaker)
  }

  #createJanitor(): Janitor {
    return new Janitor({
      ...this.#parts,
      backlog: this.#backlog,
      commits: this.commits,
      stored: this.#stored,
      reread: (endpointKey) => this.scheduler.reread(endpointKey),
      failed: (error) => this.#rest.failed(error),
      isClaiming: (endpointKey) => this.scheduler.isClaiming(endpointKey),
      cancelRest: (endpointKey) => this.cancelling.cancelRest(endpointKey),
      cancelled: (ended) => this.cancelling.tellEnded(ended),
      refresh: () => this.#refresh.refresh(),
      takeIntake: () => this.#intake.takeOver(),
      syncHealth: () => this.#health.sync(),
    })
  }

  #cancelOrphans(endpointKey: string): void {
    this.#rest.during(this.#janitor.cancelOrphans(endpointKey))
  }

  #createRepairs(): Repairs {
    return new Repairs({
      ...this.#parts,
      newKey: this.#newKey,
      stored: this.#stored,
      refresh: () => this.#refresh.refresh(),
      during: this.#during,
    })
  }

  #createSystemEvents(): SystemEvents {
    const { options, registry, logger } = this.#parts
    return new SystemEvents({
      to: options.systemEvents,
      find: (id, tenantId) => registry.find(id, { tenantId }),
      accept: (event, to) => this.#acceptor.acceptFor(event, to),
      logger,
    })
  }

  #acceptTools(): AcceptorTools & IntakeTools & HandoverTools {
    const { store, clock, registry, options, facts } = this.#parts
    const { scheduler } = this
    return {
      clock,
      newKey: this.#newKey,
      match: (tenantId, type, metadata, data) =>
        registry.matchRecords(tenantId, type, metadata, data),
      endpointsVersion: () => this.#refresh.version,
      refresh: () => this.#refresh.refresh(),
      store,
      backlog: this.#backlog,
      refused: (event, error) => tellRefused(this.#parts, event, error),
      commits: this.commits,
      lanes: {
        reserve: (endpoint) => scheduler.reserve(endpoint),
        unreserve: (endpointKey) => scheduler.unreserve(endpointKey),
        admit: (claim) => scheduler.admit(claim),
        stored: (endpointKey, dueAtMs, loose) => scheduler.stored(endpointKey, dueAtMs, loose),
        fanOut: () => this.#rest.during(this.#janitor.fanOut()),
      },
      batchTimeoutMs: (endpoint) =>
        laneLimits(endpoint, options, store.shares).batch?.timeoutMs ?? null,
      cancelled: (ended) => this.cancelling.tellEnded(ended),
      accepted: (event, receipt) => tellAccepted(facts, event, receipt),
    }
  }

  #createRecorder(): Recorder {
    const { clock, random, retries, registry } = this.#parts
    const consequences = new Consequences({
      ...this.#parts,
      scheduler: this.scheduler,
      cancelling: this.cancelling,
      health: this.#health,
      systemEvents: this.#systemEvents,
      backlog: this.#backlog,
      during: this.#during,
    })
    return new Recorder({
      clock,
      random,
      retries,
      commits: this.commits,
      endpoint: (key) => registry.byKey(key),
      recorded: (claim, record, endpoint, result, outcome) =>
        consequences.recorded(claim, record, endpoint, result, outcome),
    })
  }

  #trouble(what: string, again: string): StoreTrouble {
    return new StoreTrouble(what, again, {
      failed: (error) => this.#rest.failed(error),
      talk: (level, message, fields) => tellStore(this.#parts, level, message, fields),
    })
  }
}
