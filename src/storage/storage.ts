/**
 * The storage contract: what the engine asks of a database, in the words of the field.
 *
 * A store owns durability and nothing else: it makes no decision about retries, matching or time.
 * Every time in it is `…Ms`, milliseconds of the UTC epoch, handed in by the caller. It is made for
 * two databases: one file on one machine, and one server shared by many processes. Ownership and
 * fencing (`owner`, `token`) are therefore part of it even where one process owns everything.
 */
import type { AttemptRecord } from '../model/attempt.ts'
import type { DeliveryState } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EventRecord } from '../model/event-record.ts'
import type { Breaker, EndpointFlow } from '../model/flow.ts'
import type { EndpointHealth } from '../model/health.ts'
import type { RepairState } from '../model/repair.ts'
import type { Settlement } from '../model/settlement.ts'
import type {
  CandidatePage,
  CandidateQuery,
  NewRepair,
  RepairQuery,
  RepairRecord,
  RepairStep,
  RepairStepped,
} from './repairs.ts'

export { behindMs } from '../model/delivery.ts'

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
  /** How long outcomes may wait for others to share a commit with, while requests are under way. */
  readonly gatherMs?: number

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
   * it replaces leaves no trace in the files: it may be a secret that was in the clear.
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
   */
  takeSendTimes(asks: readonly SendTimesAsk[], nowMs: number): Promise<SendTimes[]>

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
  /** Removes bodies and personal data, keeps the skeleton; unsettled deliveries end as cancelled. */
  eraseEvents(selection: EraseSelection, nowMs: number, limit: number): Promise<EraseResult>
  /** A consistent copy of the whole store while it is in use. */
  backup(path: string): Promise<void>
  /** Checks every invariant of the data. */
  audit(): Promise<AuditReport>
  /** Resolves when everything asked before it is done and the files are closed. */
  close(): Promise<void>
}

// ── commit ───────────────────────────────────────────────────────────────────────────────────────

export interface CommitGroup {
  readonly accepts: readonly AcceptRecord[]
  readonly settlements: readonly SettlementRecord[]
  /** Claims whose attempt never began (shutdown, full lane): waiting again, no attempt counted. */
  readonly releases: readonly ReleaseRecord[]
}

export interface AcceptRecord {
  readonly event: EventRecord
  /** Which endpoints it was matched with, see StoreWatcher; null: whichever. */
  readonly endpointsVersion: number | null
  readonly deliveries: readonly NewDelivery[]
  /** Matched endpoints of an event too wide for one transaction: written as one row, see fanOut. */
  readonly fanOutTo: readonly NewDelivery[] | null
}

/** When an event may be sent, where its dispatch says so: not before, and not after. */
export interface DispatchTimes {
  readonly deliverAtMs?: number | undefined
  readonly expiresAtMs?: number | undefined
}

/** An event that is not matched yet. */
export type IntakeRecord = Omit<EventRecord, 'matched'> & DispatchTimes

/** `refused`: it cannot be taken in. It is left where it is, and others are not held up by it. */
export type IntakeResult =
  | { readonly record: AcceptRecord; readonly result: AcceptResult }
  | { readonly refused: IntakeRecord; readonly error: Error }

export interface NewDelivery {
  readonly id: string
  readonly endpointKey: string
  readonly dueAtMs: number
  /**
   * True: a slot of its lane is reserved, it is committed as `delivering` with token 1 and the
   * engine sends it right after the commit. False: `waiting` with token 0, claimed later.
   */
  readonly owned: boolean
  /** Why it ends as cancelled at once, without any attempt. */
  readonly ended?: string
  /** What most deliveries do not have. */
  readonly terms?: DeliveryTerms | undefined
}

export interface DeliveryTerms {
  /** Never part of a batch: it has times of its own. */
  readonly alone: boolean
  /** Ends as cancelled, `expired`, when no attempt has begun by then. */
  readonly expiresAtMs: number | null
  /** Waits until what came before under the same key of its endpoint has ended. Never `owned`. */
  readonly order?: { readonly key: string; readonly blocks: boolean } | undefined
}

export interface SettlementRecord {
  /** A delivery or a batch; a batch's settlement is that of all its members. */
  readonly deliveryId: string
  readonly endpointKey: string
  readonly tenantId: string
  /** For statistics; `batch` for a batch. */
  readonly eventType: string
  readonly token: number
  readonly attempt: AttemptRecord
  readonly settlement: Settlement
  readonly settledAtMs: number
  /** As its claim said. */
  readonly ordered?: boolean | undefined
}

export interface ReleaseRecord {
  readonly deliveryId: string
  readonly token: number
  /** Null: when it was due before it was claimed. */
  readonly dueAtMs: number | null
  /** Set: it does not wait again, it ends as cancelled for this reason. */
  readonly cancelled?: string | undefined
}

export interface CommitResult {
  /** In the order of `accepts`. */
  readonly accepts: readonly AcceptResult[]
  /** In the order of `settlements`. */
  readonly settlements: readonly SettlementResult[]
}

export type AcceptResult =
  | { readonly kind: 'stored' }
  /** Another process has changed endpoints since: nothing of it is stored, it must be matched anew. */
  | { readonly kind: 'stale' }
  /** The same tenant and id is there already; `sameContent` compares the content hash. */
  | {
      readonly kind: 'duplicate'
      readonly eventKey: string
      readonly acceptedAtMs: number
      readonly sameContent: boolean
      /** The stored body, for a comparison that ignores key order; null when gone. */
      readonly body: Uint8Array | null
      readonly deliveryIds: readonly string[]
    }

/**
 * `written`: this attempt decided the delivery. `repeated`: it was there already (the answer to an
 * earlier commit was lost). `late`: somebody else owns the delivery now; the attempt is in the log,
 * nothing else changed.
 */
export type SettlementResult = 'written' | 'repeated' | 'late'

// ── claim ────────────────────────────────────────────────────────────────────────────────────────

export interface LaneRoom {
  readonly endpointKey: string
  readonly limit: number
  readonly batch: { readonly size: number; readonly maxBytes: number } | null
  /** When its first unowned delivery is due, as far as memory knows: a hint where to begin to look. */
  readonly headMs?: number
}

/** A delivery or a batch that this process owns, with all that is needed to send it. */
export interface Claim {
  readonly deliveryId: string
  readonly endpointKey: string
  readonly tenantId: string
  readonly token: number
  /** Attempts made so far; the next one is `attempts + 1`. */
  readonly attempts: number
  /** Never tried, and not made by hand or by a repair: lanes send it before what is not. */
  readonly isFresh: boolean
  /** The event's id, or the batch's. */
  readonly eventId: string
  /** The event's type, or `batch`. */
  readonly eventType: string
  readonly acceptedAtMs: number
  readonly body: Uint8Array
  /** Deliveries of a batch; null for a single one. */
  readonly members: readonly BatchMember[] | null
  /** No attempt may begin after this. */
  readonly expiresAtMs?: number | undefined
  /** Others may wait behind it. */
  readonly ordered?: boolean | undefined
}

export interface BatchMember {
  readonly deliveryId: string
  readonly eventId: string
  readonly eventType: string
}

export interface ClaimResult {
  readonly claims: readonly Claim[]
  /** For every lane asked for: when its next unowned delivery is due, after this claim. */
  readonly heads: readonly LaneHead[]
}

export interface LaneHead {
  readonly endpointKey: string
  /** Null when nothing unowned is left. */
  readonly dueAtMs: number | null
}

export interface FanOutResult {
  readonly endpointKeys: readonly string[]
  readonly more: boolean
}

// ── endpoints, repair ────────────────────────────────────────────────────────────────────────────

/** What is secret about an endpoint: texts `<key id>:<base64>` when the service has a key. */
export const encryptedFields = ['secrets', 'headers', 'tls'] as const
export type EncryptedField = (typeof encryptedFields)[number]

/** An endpoint as a store keeps it. */
export type StoredEndpoint = Omit<EndpointRecord, EncryptedField> & {
  readonly [Field in EncryptedField]: EndpointRecord[Field] | string
}

export interface EndpointChange {
  readonly atMs: number
  readonly version: number
  /**
   * `registered`, `updated`, `secret rotated`, `rotation ended`, `re-encrypted`, `warned`, `paused`,
   * `resumed`, `failing`, `to be disabled`, `disabled`, `enabled`, `removed`
   */
  readonly what: string
  readonly reason: string | null
  /** Names of the changed fields; never their values, which may be secret. */
  readonly fields: readonly string[]
}

/** Endpoints as they are now, where they are not as they were. */
export interface ChangedEndpoints {
  readonly version: number
  readonly endpoints: readonly StoredEndpoint[]
  readonly removedKeys: readonly string[]
}

export interface BreakerChange {
  /** False: another process was faster; `flow` is what it made of it. */
  readonly isChanged: boolean
  readonly flow: EndpointFlow
}

export interface ConcurrencyShares {
  /**
   * How many requests to an endpoint this process may have under way, of the `concurrency` that all
   * have together. All of it where there is one process.
   */
  of(endpointKey: string, concurrency: number): number
}

export interface SendTimesAsk {
  readonly endpointKey: string
  readonly count: number
  /** From one send time to the next, all processes together. */
  readonly intervalMs: number
}

/** `count` times, the first at `firstAtMs`, `intervalMs` apart. */
export interface SendTimes extends SendTimesAsk {
  readonly firstAtMs: number
}

export interface BlockedKey {
  readonly endpointKey: string
  /** As `orderKeyOf` makes it. */
  readonly key: string
  readonly deliveryId: string
  readonly atMs: number
}

export interface CancelledDelivery {
  readonly id: string
  readonly endpointKey: string
}

export interface HealthSaved {
  readonly isWritten: boolean
  readonly health: EndpointHealth
}

/** A store keeps so many changes of each endpoint, the newest. */
export const historyLength = 1_000

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

export type RetryResult =
  | {
      readonly kind: 'moved' | 'created'
      readonly deliveryId: string
      readonly endpointKey: string
      readonly dueAtMs: number
    }
  | { readonly kind: 'unknown' | 'in-flight' | 'body-gone' | 'behind another of its key' }

/** `marked`: it is owned, and ends when its attempt has. */
export type CancelResult = 'cancelled' | 'marked' | 'in-batch' | 'ended' | 'unknown'

// ── questions ────────────────────────────────────────────────────────────────────────────────────

export interface EventFound {
  readonly key: string
  readonly id: string
  readonly type: string
  readonly tenantId: string
  readonly acceptedAtMs: number
  /** Null when retention or erasure removed it. */
  readonly body: Uint8Array | null
  readonly deliveries: readonly DeliveryFound[]
  /** Endpoints still to be fanned out to. */
  readonly pendingFanOut: number
}

export interface DeliveryFound {
  readonly id: string
  readonly eventId: string
  readonly eventType: string
  readonly tenantId: string
  readonly endpointKey: string
  /** The id the endpoint has or had. */
  readonly endpointId: string
  readonly state: DeliveryState
  readonly reason: string | null
  readonly round: number
  readonly attempts: number
  readonly batchId: string | null
  readonly createdAtMs: number
  readonly dueAtMs: number | null
  /** Null once it has ended. */
  readonly expiresAtMs: number | null
  readonly settledAtMs: number | null
  /** The later round a manual retry made of it. */
  readonly retriedAs: string | null
}

export interface AttemptFound extends AttemptRecord {
  readonly late: boolean
}

export interface DeliveryQuery {
  /** Null reads every tenant; `''` those without one. */
  readonly tenantId: string | null
  readonly endpointKey: string | null
  readonly states: readonly DeliveryState[] | null
  readonly eventType: string | null
  /** By the time the event was accepted: from (inclusive), to (exclusive). */
  readonly fromMs: number | null
  readonly toMs: number | null
  /** Deliveries that a manual retry replaced are left out. */
  readonly skipRetried: boolean
  /** Only ids below this one: the last id of the page before. */
  readonly before: string | null
  readonly limit: number
}

/**
 * Sums of attempts, kept in the transaction of their outcome. Hour buckets per endpoint; with
 * neither endpoint nor range, the sums of all time.
 */
export interface StatisticsQuery {
  readonly tenantId: string | null
  readonly endpointKey: string | null
  readonly fromMs: number | null
  readonly toMs: number | null
  /** Add the hour to each row. */
  readonly perHour: boolean
}

export interface StatisticsRow {
  /** Start of the hour; null unless asked per hour. */
  readonly hourMs: number | null
  readonly eventType: string
  readonly outcome: string
  /** The end state the attempt brought, or `waiting` when a retry follows. */
  readonly state: string
  /** Number of the latency class, see `latencyClass` in storage/latency-class.ts. */
  readonly latencyClass: number
  readonly attempts: number
  /** Deliveries those attempts carried: more than attempts where batches were sent. */
  readonly deliveries: number
  readonly latencySumMs: number
}

export interface LiveEndpoint {
  readonly endpointKey: string
  readonly deliveries: number
}

/** Numbers beyond 100,000 may be estimates. */
export interface Backlog {
  readonly waiting: number
  readonly delivering: number
  /** Due time of the oldest delivery that waits and is due; paused and held endpoints do not count. */
  readonly oldestDueAtMs: number | null
}

// ── upkeep ───────────────────────────────────────────────────────────────────────────────────────

export interface RetentionCutoffs {
  /** Settled deliveries and attempts that ended before this go. */
  readonly settledBeforeMs: number
  /** Bodies of events all of whose deliveries were delivered or never existed, accepted before this. */
  readonly deliveredBodiesBeforeMs: number
  /** Bodies with a failed or cancelled delivery, settled before this. */
  readonly failedBodiesBeforeMs: number
  /** Event ids accepted before this are forgotten: the same id is new again. */
  readonly eventIdsBeforeMs: number
}

export type EraseSelection =
  | { readonly kind: 'ids'; readonly tenantId: string; readonly ids: readonly string[] }
  | { readonly kind: 'before'; readonly tenantId: string | null; readonly beforeMs: number }
  | { readonly kind: 'tenant'; readonly tenantId: string }

export interface EraseResult {
  readonly erased: number
  /** More events are selected than `limit`; or some are in flight and must be asked for again. */
  readonly more: boolean
  readonly inFlight: number
}

export interface AuditReport {
  readonly counts: Readonly<Record<string, number>>
  /** Endpoints by the id of the key that encrypts them; `''` counts those in the clear. */
  readonly encryption: Readonly<Record<string, number>>
  /** Empty when all is well. */
  readonly problems: readonly AuditProblem[]
}

export interface AuditProblem {
  /** Name of the invariant. */
  readonly invariant: string
  readonly count: number
  /** A few ids to look at. */
  readonly examples: readonly string[]
}
