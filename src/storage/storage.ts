/**
 * The storage contract: what the engine asks of a database, in the words of the field.
 *
 * A store owns durability and nothing else: it makes no decision about retries, matching or time.
 * Every time in it is `…Ms`, milliseconds of the UTC epoch, handed in by the caller. It is made for
 * two databases: one file on one machine, and one server shared by many processes. Ownership and
 * fencing (`owner`, `token`) are therefore part of it even where one process owns everything.
 *
 * What the verbs take and give lies beside it, by subject: `commit-records`, `claims`, `endpoints`,
 * `flows`, `repairs`, `questions`, `upkeep`. It is long because each verb says what it promises.
 */
import type { Breaker, EndpointFlow } from '../model/flow.ts'
import type { EndpointHealth } from '../model/health.ts'
import type { RepairState } from '../model/repair.ts'
import type { ClaimResult, LaneHead, LaneRoom } from './claims.ts'
import type {
  AcceptRecord,
  CommitGroup,
  CommitResult,
  FanOutResult,
  IntakeRecord,
  IntakeResult,
} from './commit-records.ts'
import type { ChangedEndpoints, EndpointChange, HealthSaved, StoredEndpoint } from './endpoints.ts'
import type { BreakerChange, ConcurrencyShares, SendTimes, SendTimesAsk } from './flows.ts'
import type {
  AttemptFound,
  Backlog,
  BlockedKey,
  DeliveryFound,
  DeliveryQuery,
  EventFound,
  LiveEndpoint,
  StatisticsQuery,
  StatisticsRow,
} from './questions.ts'
import type {
  CancelledDelivery,
  CancelledRest,
  CancelResult,
  CandidatePage,
  CandidateQuery,
  NewRepair,
  RepairQuery,
  RepairRecord,
  RepairStep,
  RepairStepped,
  RetryResult,
} from './repairs.ts'
import type { AuditReport, EraseResult, EraseSelection, RetentionCutoffs } from './upkeep.ts'

/** What the `storage` option takes: knows where, opens nothing until asked. */
export interface Storage {
  readonly kind: string
  open(host: StorageHost): Promise<Store>
}

/** What a store may ask of the engine that opens it. */
export interface StorageHost {
  nowMs(): number
  log(level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>): void
  /** The store can not go on and will not repair itself: accepting must stop, and say so. */
  onFatal(error: Error): void
  /**
   * Told by a store that several machines share: its clock said `storeMs` in an answer that took so
   * long. Left out where time is handed in.
   */
  readonly follow?: ((storeMs: number, tookMs: number) => void) | undefined
  /** False: this process owns no deliveries, so none are kept for it. Default true. */
  readonly delivers?: boolean | undefined
}

export interface Store {
  /** For logs and health: `sqlite 3.53.0 (@photostructure/sqlite)`, and where the data is. */
  readonly description: string
  readonly location: string
  /** What was found damaged since it was opened, however well the rest works; told by `health()`. */
  readonly damage?: Error | null
  /** How long outcomes may wait for others to share a commit with, while requests are under way. */
  readonly gatherMs?: number
  /** True: commits are written in the order of the calls, so one may be handed over early. */
  readonly commitsInOrder?: boolean

  // ── the journey ────────────────────────────────────────────────────────────────────────────────

  /**
   * Writes new events with their deliveries, settlements of attempts and given-back claims in ONE
   * transaction, synced to disk before it resolves. Repeating a group whose answer was lost is
   * harmless: an event already there under the same key counts as stored, an attempt already there
   * (delivery, token) changes nothing.
   *
   * @throws WebhookError STORAGE_FULL | STORAGE_READ_ONLY | STORAGE_IO | STORAGE_UNAVAILABLE;
   *   nothing of the group is written then, except after STORAGE_UNAVAILABLE, where it is unknown.
   */
  commit(group: CommitGroup): Promise<CommitResult>

  /**
   * Writes an event together with the caller's own rows: on his connection and in his transaction,
   * which commits it or rolls it back. It is matched after that, see `takeIntake`.
   *
   * @param transaction the caller's client, with a transaction open
   * @throws WebhookError TRANSACTION_UNSUPPORTED | OPTION_INVALID; what the client throws otherwise
   */
  acceptWithin(transaction: unknown, event: IntakeRecord): Promise<void>

  /**
   * Accepts up to `limit` events that callers' transactions have brought, in a transaction of its own
   * and with no delivery owned. What is `stale` stays for the next call.
   */
  takeIntake(match: (event: IntakeRecord) => AcceptRecord, limit: number): Promise<IntakeResult[]>

  /**
   * Takes due deliveries for lanes that have room, oldest due first, raising each one's token.
   * Lanes with `batch` first get their loose deliveries sealed: when `size` of them wait or the
   * oldest is due, up to `size` of them (and `maxBytes` of body) become one batch with an id and a
   * body that never change again, and the batch is what is claimed.
   */
  claim(rooms: readonly LaneRoom[], nowMs: number): Promise<ClaimResult>

  /** For every endpoint with unowned deliveries: when the first is due. Read once at start. */
  heads(): Promise<LaneHead[]>

  /**
   * Creates up to `limit` deliveries of events that were accepted with `fanOutTo`, in its own
   * transaction. Returns the endpoints that got any, and whether more remain.
   */
  fanOut(limit: number, nowMs: number): Promise<FanOutResult>

  // ── endpoints ──────────────────────────────────────────────────────────────────────────────────

  loadEndpoints(): Promise<StoredEndpoint[]>

  /**
   * Inserts or replaces an endpoint and appends the change to its history, in one transaction. What
   * it replaces leaves no trace in the files: it may be a secret that was in the clear. A change that
   * `liftsFlow` ends its hold and its breaker with it, one of `ordering` lets go what was held up.
   *
   * @param seenVersion of the record that this change began from, null when there was none; left
   *   out, whatever is there is replaced
   * @returns false when another process was faster, by that version or with the same id: nothing is
   *   written then. A store of one process never returns it.
   */
  saveEndpoint(
    record: StoredEndpoint,
    change: EndpointChange,
    seenVersion?: number | null,
  ): Promise<boolean>

  /** Removes an endpoint. Its settled deliveries and statistics stay; cancel its live ones after. */
  removeEndpoint(endpointKey: string, change: EndpointChange): Promise<void>

  /** Endpoints that fail at present. */
  loadHealth(): Promise<EndpointHealth[]>

  /**
   * Writes the health of one endpoint, with a row of its history, unless another process has written
   * it since the revision it carries. What is stored after that comes back.
   */
  saveHealth(health: EndpointHealth, change: EndpointChange | null): Promise<HealthSaved>

  /** Changes of one endpoint, oldest first: the last `limit`, or of those before a certain one. */
  endpointHistory(
    endpointKey: string,
    limit: number,
    before: EndpointChange | null,
  ): Promise<EndpointChange[]>

  /**
   * Ends up to about `limit` unowned deliveries of an endpoint as cancelled (a sealed batch with its
   * members); the engine repeats it until none comes back.
   *
   * @returns ids of the deliveries that ended
   */
  cancelDeliveries(
    endpointKey: string,
    reason: string,
    nowMs: number,
    limit: number,
  ): Promise<string[]>

  /**
   * Ends all that is left of an endpoint that is disabled or removed, also what is being claimed at this
   * moment; what is owned is marked, as by `cancelSome`. Of one that takes deliveries nothing ends.
   */
  cancelRest(endpointKey: string, reason: string, nowMs: number): Promise<CancelledRest>

  /** Ends up to `limit` unowned deliveries that have expired, whatever their endpoint waits for. */
  expireDeliveries(nowMs: number, limit: number): Promise<CancelledDelivery[]>

  // ── the flow of an endpoint ────────────────────────────────────────────────────────────────────

  /** Of every endpoint that is held, broken or rate-limited; read once at start. */
  loadFlows(): Promise<EndpointFlow[]>
  /** As it is at this moment; null when nothing is stored of it. */
  findFlow(endpointKey: string): Promise<EndpointFlow | null>

  /**
   * Puts the breaker of an endpoint in another state, if nobody did since the one it was made from:
   * `next.epoch` is one more than the epoch that was seen.
   */
  changeBreaker(endpointKey: string, next: Breaker): Promise<BreakerChange>

  /**
   * Hands out send times of rate-limited endpoints, evenly spaced, to whoever asks first. Each is
   * given once: what is not used is lost, and so are the times of a call whose answer was lost.
   *
   * @param notAfterMs where the first that is free comes later, none is taken
   * @returns one for each of `asks`, in their order
   */
  takeSendTimes(
    asks: readonly SendTimesAsk[],
    nowMs: number,
    notAfterMs: number,
  ): Promise<SendTimes[]>

  readonly shares: ConcurrencyShares

  // ── other processes ────────────────────────────────────────────────────────────────────────────

  /**
   * What has changed since that version of the endpoints. Where there is one process, nobody else
   * changes any.
   *
   * @param sinceVersion as told by the watcher or returned from here; -1 reads all of them
   */
  changedEndpoints(sinceVersion: number): Promise<ChangedEndpoints>
  /**
   * False while another process may have taken over what this one owns: no attempt may begin then.
   * Always true where there is one process.
   */
  readonly isOwner: boolean
  /**
   * Tells of other processes until `close`, of the present before it resolves. Nothing is told where
   * there is one process.
   */
  watch(watcher: StoreWatcher): Promise<void>

  /** Keys that a failed delivery holds up, of an endpoint or a tenant, null for all: oldest first. */
  blockedKeys(
    tenantId: string | null,
    endpointKey: string | null,
    limit: number,
  ): Promise<BlockedKey[]>

  // ── repair ─────────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes a delivery due now. Still waiting: the same one, earlier (`moved`). Ended: a new round of
   * the same event and endpoint (`created`), and the old one points to it. In flight, erased or
   * unknown: nothing changes.
   */
  retryDelivery(deliveryId: string, nowMs: number): Promise<RetryResult>

  /**
   * Lets go on what waits behind failed deliveries of an endpoint: behind this one, or behind any.
   *
   * @returns false when nothing was held up
   */
  releaseOrder(endpointKey: string, deliveryId: string | null, nowMs: number): Promise<boolean>

  /**
   * Ends deliveries that wait. One that is owned is marked: its request, if there is one, counts, and
   * instead of waiting again it ends with the reason.
   *
   * @returns what became of each, in their order
   */
  cancelSome(deliveryIds: readonly string[], reason: string, nowMs: number): Promise<CancelResult[]>

  /** Begins a repair of many deliveries; the same id again changes nothing. */
  createRepair(repair: NewRepair): Promise<void>
  /** Newest first. */
  listRepairs(query: RepairQuery, nowMs: number): Promise<RepairRecord[]>
  /** What a repair may be about, looking at a bounded number of rows. */
  findCandidates(query: CandidateQuery): Promise<CandidatePage>
  /**
   * Moves a repair on: its cursor and what was chosen, in one transaction. Of (event, endpoint) that is
   * still live, what waits becomes due, what is owned or behind another of its key stays; what has ended
   * gets a new round. When its endpoint is closed the repair ends as failed.
   */
  stepRepair(step: RepairStep, nowMs: number): Promise<RepairStepped>
  /** Ends a running repair. What it has queued goes on. @returns false when it does not run */
  endRepair(id: string, state: RepairState, reason: string, nowMs: number): Promise<boolean>

  // ── questions ──────────────────────────────────────────────────────────────────────────────────

  /** The event, its skeleton when the body is gone, and all its deliveries (without attempts). */
  findEvent(tenantId: string, eventId: string): Promise<EventFound | null>
  findDelivery(deliveryId: string): Promise<DeliveryFound | null>
  /** Newest event first; pages by delivery id at bounded cost. */
  listDeliveries(query: DeliveryQuery): Promise<DeliveryFound[]>
  /** Attempts of many deliveries at once, each list oldest first; a batch's count for its members. */
  attemptsOf(deliveries: readonly DeliveryFound[]): Promise<Map<string, AttemptFound[]>>
  statistics(query: StatisticsQuery): Promise<StatisticsRow[]>
  backlog(): Promise<Backlog>
  /** Unfinished deliveries of each endpoint that has any: reads all of them, for use now and then. */
  countLive(): Promise<readonly LiveEndpoint[]>

  // ── upkeep ─────────────────────────────────────────────────────────────────────────────────────

  /** Deletes what has outlived its retention, at most about `limit` rows; repeat until 0. */
  prune(cutoffs: RetentionCutoffs, limit: number): Promise<number>
  /**
   * Removes bodies and personal data, keeps the skeleton; what waits ends as cancelled. Of an event in
   * flight the rest is ended too; what is owned is marked, as by `cancelSome`, and the body stays until
   * it is asked for again.
   */
  eraseEvents(selection: EraseSelection, nowMs: number, limit: number): Promise<EraseResult>
  /** A consistent copy of the whole store while it is in use. */
  backup(path: string): Promise<void>
  /** Checks every invariant of the data. */
  audit(): Promise<AuditReport>
  /** Resolves when everything asked before it is done and the files are closed. */
  close(): Promise<void>
}

/** What a store of many processes tells the engine of this one. None of it may throw. */
export interface StoreWatcher {
  /** Endpoints were changed; a load that begins from now on is of this version or a later one. */
  endpointsChanged(version: number): void
  /** Flows that changed, as they are now. */
  flowsChanged(flows: readonly EndpointFlow[]): void
  /**
   * `shares` gives other numbers from now on.
   *
   * @returns whether no endpoint has more requests under way than its share; it is asked again until
   *   that is so, and until then no other process takes what this one gives up
   */
  sharesChanged(): boolean
  /**
   * Deliveries and batches that this process owns and another one has cancelled. When it returns, none
   * of them may begin any more, also not one that is still on its way to this process.
   */
  marked(deliveries: readonly CancelledDelivery[]): void
  /** Callers' transactions have brought events. */
  intake(): void
  /** Deliveries that nobody owns, and when they are due. */
  due(heads: readonly LaneHead[]): void
  /** A repair runs, in this process or another. */
  repairs(): void
  /** What this process owned is another's now; it goes on with nothing. */
  lost(): void
  /** `isOwner` is true again. */
  confirmed(): void
}
