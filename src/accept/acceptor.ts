/**
 * From a dispatched event to its receipt: match, commit together with its deliveries, hand the
 * committed deliveries to their lanes. Resolves after the commit is on disk, never before, and never
 * waits for a delivery.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EventRecord } from '../model/event-record.ts'
import type { AcceptRecord, AcceptResult, NewDelivery } from '../storage/commit-records.ts'
import type { GroupCommit } from '../storage/group-commit.ts'
import type { PendingAccept } from '../storage/pending-group.ts'
import type { Backlog } from './backlog.ts'
import { type CheckedEvent, encodeEvent } from './event-input.ts'
import type { DispatchReceipt, Handover } from './handover.ts'
import {
  isWide,
  type MatchTools,
  type NewDeliveryTools,
  newDelivery,
  refusedDelivery,
} from './new-deliveries.ts'

export interface AcceptorTools extends MatchTools, NewDeliveryTools {
  readonly clock: Clock
  readonly newKey: () => string
  /** Null: nothing is limited. */
  readonly backlog: Backlog | null
  readonly commits: GroupCommit
}

export class Acceptor {
  readonly #tools: AcceptorTools
  readonly #handover: Handover

  constructor(tools: AcceptorTools, handover: Handover) {
    this.#tools = tools
    this.#handover = handover
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
    const data = () => (JSON.parse(checked.text) as { data?: unknown }).data
    const endpoints = only ?? match(checked.tenantId, checked.type, checked.metadata, data)
    const full = backlog?.enter(checked.tenantId, endpoints)
    const { body, contentHash } = encodeEvent(checked)
    const event: EventRecord = {
      key: newKey(),
      tenantId: checked.tenantId,
      id: checked.id,
      type: checked.type,
      acceptedAtMs: clock.nowMs(),
      body,
      contentHash,
      matched: endpoints.length,
    }
    const wide = isWide(endpoints)
    const { times } = checked
    const deliveries = endpoints.map((one) =>
      full?.has(one)
        ? refusedDelivery(event, one)
        : newDelivery(this.#tools, event, one, wide, times, checked.metadata),
    )
    const again = () => this.#again(checked, deliveries, resolve, reject)
    const record = {
      event,
      endpointsVersion: only === null ? endpointsVersion() : null,
      deliveries: wide ? [] : deliveries,
      fanOutTo: wide ? deliveries : null,
    }
    commits.accept(new Accepting(this.#handover, record, deliveries, again, resolve, reject))
  }

  /** The endpoints have changed since it was matched, and nothing of it is stored. */
  #again(
    checked: CheckedEvent,
    deliveries: readonly NewDelivery[],
    resolve: (receipt: DispatchReceipt) => void,
    reject: (error: Error) => void,
  ): void {
    this.#handover.unreserve(checked.tenantId, deliveries)
    this.#tools
      .refresh()
      .then(() => this.#begin(checked, resolve, reject))
      .catch(reject)
  }
}

/** An event on its way to the disk. One object for each: thousands of them can be under way. */
class Accepting implements PendingAccept {
  readonly record: AcceptRecord
  readonly weight: number
  expired = false
  readonly expire: (error: Error) => void
  readonly #handover: Handover
  readonly #deliveries: readonly NewDelivery[]
  readonly #again: () => void
  readonly #resolve: (receipt: DispatchReceipt) => void

  constructor(
    handover: Handover,
    record: AcceptRecord,
    deliveries: readonly NewDelivery[],
    again: () => void,
    resolve: (receipt: DispatchReceipt) => void,
    reject: (error: Error) => void,
  ) {
    this.record = record
    this.weight = record.fanOutTo === null ? deliveries.length + 1 : 1
    this.expire = reject
    this.#handover = handover
    this.#deliveries = deliveries
    this.#again = again
    this.#resolve = resolve
  }

  committed(result: AcceptResult): void {
    const { event, fanOutTo } = this.record
    try {
      const wide = fanOutTo !== null
      if (result.kind === 'stale') this.#again()
      else this.#resolve(this.#handover.committed(event, this.#deliveries, wide, result))
    } catch (error) {
      this.expire(error instanceof Error ? error : new Error(String(error)))
    }
  }

  failed(error: Error): void {
    this.#handover.unreserve(this.record.event.tenantId, this.#deliveries)
    this.expire(error)
  }
}
