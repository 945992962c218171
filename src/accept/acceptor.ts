/**
 * From a dispatched event to its receipt: match, commit together with its deliveries, hand the
 * committed deliveries to their lanes. Resolves after the commit is on disk, never before, and never
 * waits for a delivery.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { EventRecord } from '../model/event-record.ts'
import { deliveryId } from '../model/ids.ts'
import { orderKeyOf } from '../policy/order.ts'
import type { Claim } from '../storage/claims.ts'
import type {
  AcceptRecord,
  AcceptResult,
  DispatchTimes,
  IntakeRecord,
  NewDelivery,
} from '../storage/commit-records.ts'
import type { GroupCommit } from '../storage/group-commit.ts'
import type { PendingAccept } from '../storage/pending-group.ts'
import type { Store } from '../storage/storage.ts'
import { type Backlog, endpointBacklogFull } from './backlog.ts'
import { type CheckedEvent, sameContent } from './event-input.ts'

/** What the publisher gets: proof that the event is stored. */
export interface DispatchReceipt {
  eventId: string
  /** True when the same event had been accepted before: nothing new is sent. */
  duplicate: boolean
  acceptedAt: Date
  /** One per endpoint that gets it; empty when none does (`getEvent` says why). */
  deliveryIds: readonly string[]
}

/** What the acceptor asks of the lanes. */
export interface Lanes {
  /** Keeps a place for a delivery that is about to be committed; false sends it through the store. */
  reserve(endpoint: EndpointRecord): boolean
  unreserve(endpointKey: string): void
  admit(claim: Claim): void
  /** An unowned delivery of this lane is in the store. */
  stored(endpointKey: string, dueAtMs: number, loose: boolean): void
  /** Deliveries are still to be created from a wide event. */
  fanOut(): void
}

export interface AcceptorTools {
  readonly clock: Clock
  readonly newKey: () => string
  readonly match: (
    tenantId: string,
    eventType: string,
    metadata: Readonly<Record<string, unknown>>,
    /** Only asked for by endpoints with a body filter. */
    data: () => unknown,
  ) => readonly EndpointRecord[]
  /** Which state of the endpoints `match` judges by; null where nobody else can change them. */
  readonly endpointsVersion: () => number | null
  /** Resolves when `match` judges by the endpoints as the store has them. */
  readonly refresh: () => Promise<void>
  readonly commits: GroupCommit
  readonly lanes: Lanes
  /** When the first event of a batch may be sent at the latest; null without batching. */
  readonly batchTimeoutMs: (endpoint: EndpointRecord) => number | null
  /** Null: nothing is limited. */
  readonly backlog: Backlog | null
  readonly accepted: (event: EventRecord, receipt: DispatchReceipt) => void
  readonly intake: Pick<Store, 'acceptWithin' | 'takeIntake'>
  /** An event that a caller's transaction has brought cannot be accepted. */
  readonly refused: (event: IntakeRecord, error: Error) => void
}

/** An event with more endpoints commits with one row and fans out between commits. */
const maxDeliveriesPerEvent = 2_000
/** Events of callers' transactions that are taken over in one transaction. */
const intakeStep = 200

export class Acceptor {
  readonly #tools: AcceptorTools

  constructor(tools: AcceptorTools) {
    this.#tools = tools
  }

  /** @throws WebhookError BACKLOG_FULL, EVENT_ID_CONFLICT, STORAGE_FULL, STORAGE_UNAVAILABLE, STORAGE_… */
  accept(checked: CheckedEvent): Promise<DispatchReceipt> {
    return new Promise<DispatchReceipt>((resolve, reject) => this.#begin(checked, resolve, reject))
  }

  /** One of our own events: it goes to this endpoint alone, whatever others would match. */
  acceptFor(checked: CheckedEvent, endpoint: EndpointRecord): Promise<DispatchReceipt> {
    return new Promise<DispatchReceipt>((resolve, reject) =>
      this.#begin(checked, resolve, reject, [endpoint]),
    )
  }

  #begin(
    checked: CheckedEvent,
    resolve: (receipt: DispatchReceipt) => void,
    reject: (error: Error) => void,
    only: readonly EndpointRecord[] | null = null,
  ): void {
    const { clock, match, newKey, commits, endpointsVersion, backlog } = this.#tools
    const data = () => parsed(checked.body).data
    const endpoints = only ?? match(checked.tenantId, checked.type, checked.metadata, data)
    const full = backlog?.enter(checked.tenantId, endpoints)
    const event: EventRecord = {
      key: newKey(),
      tenantId: checked.tenantId,
      id: checked.id,
      type: checked.type,
      acceptedAtMs: clock.nowMs(),
      body: checked.body,
      contentHash: checked.contentHash,
      matched: endpoints.length,
    }
    const wide = endpoints.length > maxDeliveriesPerEvent
    const { times } = checked
    const deliveries = endpoints.map((one) =>
      full?.has(one)
        ? fullOf(event, one)
        : this.#newDelivery(event, one, wide, times, checked.metadata),
    )
    const again = () => this.#again(checked, deliveries, resolve, reject)
    const record = {
      event,
      endpointsVersion: only === null ? endpointsVersion() : null,
      deliveries: wide ? [] : deliveries,
      fanOutTo: wide ? deliveries : null,
    }
    commits.accept(new Accepting(this, record, deliveries, again, resolve, reject))
  }

  /** The endpoints have changed since it was matched, and nothing of it is stored. */
  #again(
    checked: CheckedEvent,
    deliveries: readonly NewDelivery[],
    resolve: (receipt: DispatchReceipt) => void,
    reject: (error: Error) => void,
  ): void {
    this.unreserve(checked.tenantId, deliveries)
    this.#tools
      .refresh()
      .then(() => this.#begin(checked, resolve, reject))
      .catch(reject)
  }

  /**
   * Leaves the event to the caller's transaction: it is accepted when that commits, and matched after.
   *
   * @throws WebhookError TRANSACTION_UNSUPPORTED, OPTION_INVALID; what the caller's client throws
   */
  async acceptWithin(checked: CheckedEvent, transaction: unknown): Promise<DispatchReceipt> {
    const { clock, newKey, intake, backlog } = this.#tools
    backlog?.requireRoom(checked.tenantId)
    const { id, tenantId, type, body, contentHash } = checked
    const acceptedAtMs = clock.nowMs()
    const { times } = checked
    const event = { key: newKey(), tenantId, id, type, acceptedAtMs, body, contentHash, ...times }
    await intake.acceptWithin(transaction, event)
    return {
      eventId: id,
      duplicate: false,
      acceptedAt: new Date(acceptedAtMs),
      deliveryIds: [],
    }
  }

  /** Takes over what callers' transactions have brought. Resolves when nothing of it is left. */
  async takeIntake(): Promise<void> {
    const { intake, refresh } = this.#tools
    for (;;) {
      const taken = await intake.takeIntake((event) => this.#matched(event), intakeStep)
      let isStale = false
      for (const one of taken) {
        if ('refused' in one) this.#tools.refused(one.refused, one.error)
        else if (one.result.kind === 'stale') isStale = true
        else this.#tookIn(one.record, one.result)
      }
      if (isStale) await refresh()
      else if (taken.length < intakeStep) return
    }
  }

  #matched(brought: IntakeRecord): AcceptRecord {
    const { match, endpointsVersion, backlog } = this.#tools
    const { metadata = {}, data } = parsed(brought.body)
    const endpoints = match(brought.tenantId, brought.type, metadata, () => data)
    const { deliverAtMs: _, expiresAtMs: __, ...rest } = brought
    const event = { ...rest, matched: endpoints.length }
    const wide = endpoints.length > maxDeliveriesPerEvent
    const full = backlog?.take(brought.tenantId, endpoints)
    // Nobody holds a place for them: whichever process has room claims them.
    const deliveries = endpoints.map((one) =>
      full?.has(one) ? fullOf(event, one) : this.#newDelivery(event, one, true, brought, metadata),
    )
    return {
      event,
      endpointsVersion: endpointsVersion(),
      deliveries: wide ? [] : deliveries,
      fanOutTo: wide ? deliveries : null,
    }
  }

  /** The caller has gone: a conflict can only be told. */
  #tookIn(
    { event, deliveries, fanOutTo }: AcceptRecord,
    result: Exclude<AcceptResult, { kind: 'stale' }>,
  ): void {
    try {
      this.committed(event, deliveries, fanOutTo !== null, result)
    } catch (error) {
      this.#tools.refused(event, error instanceof Error ? error : new Error(String(error)))
    }
  }

  #newDelivery(
    event: EventRecord,
    endpoint: EndpointRecord,
    unowned: boolean,
    times: DispatchTimes | undefined,
    metadata: CheckedEvent['metadata'],
  ): NewDelivery {
    const { ordering } = endpoint
    const orderKey = ordering === null ? null : orderKeyOf(ordering, metadata)
    // What is sent later has left its place: what follows must not wait days for it.
    const isLater = (times?.deliverAtMs ?? 0) > event.acceptedAtMs
    if (ordering !== null && orderKey !== null && !isLater) {
      const order = { key: orderKey, blocks: ordering.onExhausted === 'block' }
      const terms = { alone: true, expiresAtMs: times?.expiresAtMs ?? null, order }
      // Through the store, whatever is free here: another process may be sending what comes before.
      return {
        id: deliveryId(event.key, endpoint.key, 1),
        endpointKey: endpoint.key,
        dueAtMs: event.acceptedAtMs,
        owned: false,
        terms,
      }
    }
    if (times !== undefined && (times.deliverAtMs ?? times.expiresAtMs) !== undefined) {
      return this.#timedDelivery(event, endpoint, unowned, times)
    }
    const waitMs = this.#tools.batchTimeoutMs(endpoint)
    return {
      id: deliveryId(event.key, endpoint.key, 1),
      endpointKey: endpoint.key,
      dueAtMs: event.acceptedAtMs + (waitMs ?? 0),
      owned: !unowned && waitMs === null && this.#tools.lanes.reserve(endpoint),
    }
  }

  /** With times of its own it is in no batch, and waits in the store until it may be sent. */
  #timedDelivery(
    event: EventRecord,
    endpoint: EndpointRecord,
    unowned: boolean,
    { deliverAtMs = 0, expiresAtMs }: DispatchTimes,
  ): NewDelivery {
    const isLater = deliverAtMs > event.acceptedAtMs
    return {
      id: deliveryId(event.key, endpoint.key, 1),
      endpointKey: endpoint.key,
      dueAtMs: Math.max(event.acceptedAtMs, deliverAtMs),
      owned: !unowned && !isLater && this.#tools.lanes.reserve(endpoint),
      terms: { alone: true, expiresAtMs: expiresAtMs ?? null },
    }
  }

  /** @internal For Accepting. @throws WebhookError EVENT_ID_CONFLICT */
  committed(
    event: EventRecord,
    deliveries: readonly NewDelivery[],
    wide: boolean,
    result: Exclude<AcceptResult, { kind: 'stale' }>,
  ): DispatchReceipt {
    if (result.kind === 'duplicate') {
      this.unreserve(event.tenantId, deliveries)
      return receiptOfDuplicate(event, result)
    }
    this.#tools.backlog?.committed(event.tenantId, keysOf(deliveries), true)
    if (wide) this.#tools.lanes.fanOut()
    else for (const delivery of deliveries) this.#handOver(event, delivery)
    const receipt: DispatchReceipt = {
      eventId: event.id,
      duplicate: false,
      acceptedAt: new Date(event.acceptedAtMs),
      deliveryIds: deliveries.map((delivery) => delivery.id),
    }
    this.#tools.accepted(event, receipt)
    return receipt
  }

  #handOver(event: EventRecord, delivery: NewDelivery): void {
    if (delivery.ended !== undefined) return
    if (!delivery.owned) {
      const loose = delivery.terms === undefined && delivery.dueAtMs > event.acceptedAtMs
      this.#tools.lanes.stored(delivery.endpointKey, delivery.dueAtMs, loose)
      return
    }
    this.#tools.lanes.admit({
      deliveryId: delivery.id,
      endpointKey: delivery.endpointKey,
      tenantId: event.tenantId,
      token: 1,
      attempts: 0,
      isFresh: true,
      eventId: event.id,
      eventType: event.type,
      acceptedAtMs: event.acceptedAtMs,
      body: event.body,
      members: null,
      expiresAtMs: delivery.terms?.expiresAtMs ?? undefined,
    })
  }

  /** @internal For Accepting. */
  unreserve(tenantId: string, deliveries: readonly NewDelivery[]): void {
    this.#tools.backlog?.committed(tenantId, keysOf(deliveries), false)
    for (const delivery of deliveries) {
      if (delivery.owned) this.#tools.lanes.unreserve(delivery.endpointKey)
    }
  }
}

/** An event on its way to the disk. One object for each: thousands of them can be under way. */
class Accepting implements PendingAccept {
  readonly record: AcceptRecord
  readonly weight: number
  expired = false
  readonly expire: (error: Error) => void
  readonly #acceptor: Acceptor
  readonly #deliveries: readonly NewDelivery[]
  readonly #again: () => void
  readonly #resolve: (receipt: DispatchReceipt) => void

  constructor(
    acceptor: Acceptor,
    record: AcceptRecord,
    deliveries: readonly NewDelivery[],
    again: () => void,
    resolve: (receipt: DispatchReceipt) => void,
    reject: (error: Error) => void,
  ) {
    this.record = record
    this.weight = record.fanOutTo === null ? deliveries.length + 1 : 1
    this.expire = reject
    this.#acceptor = acceptor
    this.#deliveries = deliveries
    this.#again = again
    this.#resolve = resolve
  }

  committed(result: AcceptResult): void {
    const { event, fanOutTo } = this.record
    try {
      const wide = fanOutTo !== null
      if (result.kind === 'stale') this.#again()
      else this.#resolve(this.#acceptor.committed(event, this.#deliveries, wide, result))
    } catch (error) {
      this.expire(error instanceof Error ? error : new Error(String(error)))
    }
  }

  failed(error: Error): void {
    this.#acceptor.unreserve(this.record.event.tenantId, this.#deliveries)
    this.expire(error)
  }
}

/** Of those that wait. */
function keysOf(deliveries: readonly NewDelivery[]): string[] {
  return deliveries.filter(({ ended }) => ended === undefined).map((one) => one.endpointKey)
}

/** The endpoint holds all it may: this one ends at once. */
function fullOf({ key, acceptedAtMs }: EventRecord, endpoint: EndpointRecord): NewDelivery {
  return {
    id: deliveryId(key, endpoint.key, 1),
    endpointKey: endpoint.key,
    dueAtMs: acceptedAtMs,
    owned: false,
    ended: endpointBacklogFull,
  }
}

/** As it is sent. */
function parsed(body: Uint8Array): { metadata?: Record<string, unknown>; data?: unknown } {
  return JSON.parse(Buffer.from(body).toString())
}

function receiptOfDuplicate(
  event: EventRecord,
  found: Extract<AcceptResult, { kind: 'duplicate' }>,
): DispatchReceipt {
  const same = found.sameContent || (found.body !== null && sameContent(event.body, found.body))
  if (!same) {
    throw new WebhookError(
      'EVENT_ID_CONFLICT',
      `Expected the same content as the event ${JSON.stringify(event.id)} accepted at ${new Date(found.acceptedAtMs).toISOString()}, got other content under the same id; give a new event a new id.`,
    )
  }
  return {
    eventId: event.id,
    duplicate: true,
    acceptedAt: new Date(found.acceptedAtMs),
    deliveryIds: found.deliveryIds,
  }
}
