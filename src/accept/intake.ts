/**
 * Events that come with a caller's transaction: each is left to it, and taken over once it has
 * committed, by whichever process is told. Its caller has gone by then: what cannot be is told of.
 */
import type { Clock } from '../model/clock.ts'
import type {
  AcceptRecord,
  AcceptResult,
  IntakeRecord,
  IntakeResult,
  NewDelivery,
} from '../storage/commit-records.ts'
import type { Store } from '../storage/storage.ts'
import type { Backlog } from './backlog.ts'
import { type CheckedEvent, encodeEvent, parsedBody } from './event-input.ts'
import type { DispatchReceipt, Handover } from './handover.ts'
import {
  isWide,
  type MatchTools,
  type NewDeliveryTools,
  newDelivery,
  refusedDelivery,
} from './new-deliveries.ts'

export interface IntakeTools extends MatchTools, NewDeliveryTools {
  readonly store: Pick<Store, 'acceptWithin' | 'takeIntake'>
  readonly clock: Clock
  readonly newKey: () => string
  /** Null: nothing is limited. */
  readonly backlog: Backlog | null
  /** An event that a caller's transaction has brought cannot be accepted. */
  readonly refused: (event: IntakeRecord, error: Error) => void
}

/** Events that are taken over in one transaction. */
const step = 200

interface Counted {
  readonly tenantId: string
  readonly deliveries: readonly NewDelivery[]
}

export class Intake {
  readonly #tools: IntakeTools
  readonly #handover: Handover
  /** Counted, and not yet known to be stored, by the keys of their events. */
  readonly #counted = new Map<string, Counted>()

  constructor(tools: IntakeTools, handover: Handover) {
    this.#tools = tools
    this.#handover = handover
  }

  /**
   * Leaves the event to the caller's transaction: it is accepted when that commits, and matched after.
   *
   * @throws WebhookError TRANSACTION_UNSUPPORTED, OPTION_INVALID; what the caller's client throws
   */
  async acceptWithin(checked: CheckedEvent, transaction: unknown): Promise<DispatchReceipt> {
    const { clock, newKey, store, backlog } = this.#tools
    backlog?.requireRoom(checked.tenantId)
    const { id, tenantId, type } = checked
    const acceptedAtMs = clock.nowMs()
    const { times } = checked
    const event = {
      key: newKey(),
      tenantId,
      id,
      type,
      acceptedAtMs,
      ...encodeEvent(checked),
      ...times,
    }
    await store.acceptWithin(transaction, event)
    return {
      eventId: id,
      duplicate: false,
      acceptedAt: new Date(acceptedAtMs),
      deliveryIds: [],
    }
  }

  /** Takes over what callers' transactions have brought. Resolves when nothing of it is left. */
  async takeOver(): Promise<void> {
    const { store, refresh, refused } = this.#tools
    for (;;) {
      const taken = await this.#take(store)
      let isStale = false
      for (const one of taken) {
        if ('refused' in one) refused(one.refused, one.error)
        else if (one.result.kind === 'stale') isStale = true
        else this.#tookIn(one.record, one.result)
      }
      this.#uncountAll()
      if (isStale) await refresh()
      else if (taken.length < step) return
    }
  }

  async #take(store: IntakeTools['store']): Promise<IntakeResult[]> {
    try {
      return await store.takeIntake((event) => this.#matched(event), step)
    } catch (error) {
      this.#uncountAll()
      throw error
    }
  }

  /** What is stale or refused, and what a transaction that was tried again had matched before. */
  #uncount(eventKey: string): void {
    const counted = this.#counted.get(eventKey)
    if (counted === undefined) return
    this.#counted.delete(eventKey)
    this.#handover.unreserve(counted.tenantId, counted.deliveries)
  }

  #uncountAll(): void {
    for (const eventKey of this.#counted.keys()) this.#uncount(eventKey)
  }

  #matched(brought: IntakeRecord): AcceptRecord {
    const { match, endpointsVersion, backlog } = this.#tools
    const { metadata = {}, data } = parsedBody(brought.body)
    const endpoints = match(brought.tenantId, brought.type, metadata, () => data)
    const { deliverAtMs: _, expiresAtMs: __, ...rest } = brought
    const event = { ...rest, matched: endpoints.length }
    const wide = isWide(endpoints)
    this.#uncount(brought.key)
    const full = backlog?.take(brought.tenantId, endpoints)
    // Nobody holds a place for them: whichever process has room claims them.
    const deliveries = endpoints.map((one) =>
      full?.has(one)
        ? refusedDelivery(event, one)
        : newDelivery(this.#tools, event, one, true, brought, metadata),
    )
    this.#counted.set(event.key, { tenantId: event.tenantId, deliveries })
    return {
      event,
      endpointsVersion: endpointsVersion(),
      deliveries: wide ? [] : deliveries,
      fanOutTo: wide ? deliveries : null,
    }
  }

  /** The caller has gone: a conflict can only be told. */
  #tookIn(
    { event, fanOutTo }: AcceptRecord,
    result: Exclude<AcceptResult, { kind: 'stale' }>,
  ): void {
    const { deliveries = [] } = this.#counted.get(event.key) ?? {}
    this.#counted.delete(event.key)
    try {
      this.#handover.committed(event, deliveries, fanOutTo !== null, result, null)
    } catch (error) {
      this.#tools.refused(event, error instanceof Error ? error : new Error(String(error)))
    }
  }
}
