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

/** Told once what became of an event; `index` is the asker's own name for it. */
export interface AcceptAnswers {
  accepted(index: number, receipt: DispatchReceipt): void
  refused(index: number, error: Error): void
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
    return this.#promised(checked, null)
  }

  /** One of our own events: it goes to this endpoint alone, whatever others would match. */
  acceptFor(checked: CheckedEvent, endpoint: EndpointRecord): Promise<DispatchReceipt> {
    return this.#promised(checked, [endpoint])
  }

  /** One of many, which share what is told: a promise for each would cost more than the rest here. */
  acceptOneOf(checked: CheckedEvent, index: number, answers: AcceptAnswers): void {
    this.#begin({ checked, only: null, index, answers })
  }

  #promised(
    checked: CheckedEvent,
    only: readonly EndpointRecord[] | null,
  ): Promise<DispatchReceipt> {
    return new Promise((resolve, reject) => {
      const accepted = (_: number, receipt: DispatchReceipt) => resolve(receipt)
      const refused = (_: number, error: Error) => reject(error)
      this.#begin({ checked, only, index: 0, answers: { accepted, refused } })
    })
  }

  #begin(ask: Ask): void {
    try {
      const { checked, only } = ask
      const { match, endpointsVersion, backlog, commits } = this.#tools
      const data = () => (JSON.parse(checked.text) as { data?: unknown }).data
      const endpoints = only ?? match(checked.tenantId, checked.type, checked.metadata, data)
      const full = backlog?.enter(checked.tenantId, endpoints)
      const event = this.#eventOf(checked, endpoints.length)
      const wide = isWide(endpoints)
      const deliveries = endpoints.map((one) =>
        full?.has(one)
          ? refusedDelivery(event, one)
          : newDelivery(this.#tools, event, one, wide, checked.times, checked.metadata),
      )
      const record = {
        event,
        endpointsVersion: only === null ? endpointsVersion() : null,
        deliveries: wide ? [] : deliveries,
        fanOutTo: wide ? deliveries : null,
      }
      commits.accept(new Accepting(this.#handover, record, deliveries, ask, this.#again))
    } catch (error) {
      ask.answers.refused(ask.index, asError(error))
    }
  }

  #eventOf(checked: CheckedEvent, matched: number): EventRecord {
    const { newKey, clock } = this.#tools
    const { tenantId, id, type } = checked
    const { body, contentHash } = encodeEvent(checked)
    const acceptedAtMs = clock.nowMs()
    return { key: newKey(), tenantId, id, type, acceptedAtMs, body, contentHash, matched }
  }

  /** The endpoints have changed since it was matched, and nothing of it is stored. */
  readonly #again = (ask: Ask, deliveries: readonly NewDelivery[]): void => {
    this.#handover.unreserve(ask.checked.tenantId, deliveries)
    this.#tools
      .refresh()
      .then(() => this.#begin(ask))
      .catch((error) => ask.answers.refused(ask.index, asError(error)))
  }
}

interface Ask {
  readonly checked: CheckedEvent
  /** Null: those that match. */
  readonly only: readonly EndpointRecord[] | null
  readonly index: number
  readonly answers: AcceptAnswers
}

/** An event on its way to the disk. One object for each: thousands of them can be under way. */
class Accepting implements PendingAccept {
  readonly record: AcceptRecord
  readonly weight: number
  expired = false
  readonly #handover: Handover
  readonly #deliveries: readonly NewDelivery[]
  readonly #ask: Ask
  readonly #again: (ask: Ask, deliveries: readonly NewDelivery[]) => void

  constructor(
    handover: Handover,
    record: AcceptRecord,
    deliveries: readonly NewDelivery[],
    ask: Ask,
    again: (ask: Ask, deliveries: readonly NewDelivery[]) => void,
  ) {
    this.record = record
    this.weight = record.fanOutTo === null ? deliveries.length + 1 : 1
    this.#handover = handover
    this.#deliveries = deliveries
    this.#ask = ask
    this.#again = again
  }

  committed(result: AcceptResult, ended: ReadonlySet<string> | null): void {
    const { event, fanOutTo } = this.record
    try {
      const wide = fanOutTo !== null
      if (result.kind === 'stale') this.#again(this.#ask, this.#deliveries)
      else this.#accepted(this.#handover.committed(event, this.#deliveries, wide, result, ended))
    } catch (error) {
      this.#refused(asError(error))
    }
  }

  failed(error: Error): void {
    this.#handover.unreserve(this.record.event.tenantId, this.#deliveries)
    this.#refused(error)
  }

  expire(error: Error): void {
    const { answers, index } = this.#ask
    answers.refused(index, error)
  }

  #accepted(receipt: DispatchReceipt): void {
    const { answers, index } = this.#ask
    if (!this.expired) answers.accepted(index, receipt)
  }

  #refused(error: Error): void {
    if (!this.expired) this.expire(error)
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
