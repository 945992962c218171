/**
 * What follows the commit of an event, once it is known: its receipt, and its deliveries in their
 * lanes; or the places that were kept for them are free again.
 */
import { WebhookError } from '../model/errors.ts'
import type { EventRecord } from '../model/event-record.ts'
import type { Claim } from '../storage/claims.ts'
import type { AcceptResult, Cancellation, NewDelivery } from '../storage/commit-records.ts'
import type { Backlog } from './backlog.ts'
import { sameContent } from './event-input.ts'

/** What the publisher gets: proof that the event is stored. */
export interface DispatchReceipt {
  eventId: string
  /** True when the same event had been accepted before: nothing new is sent. */
  duplicate: boolean
  acceptedAt: Date
  /** One per endpoint that gets it; empty when none does (`getEvent` says why). */
  deliveryIds: readonly string[]
}

export interface HandoverTools {
  readonly lanes: {
    unreserve(endpointKey: string): void
    admit(claim: Claim): void
    /** An unowned delivery of this lane is in the store. */
    stored(endpointKey: string, dueAtMs: number, loose: boolean): void
    /** Deliveries are still to be created from a wide event. */
    fanOut(): void
  }
  /** Null: nothing is limited. */
  readonly backlog: Backlog | null
  /** These have ended at once. */
  readonly cancelled: (ended: readonly Cancellation[]) => void
  readonly accepted: (event: EventRecord, receipt: DispatchReceipt) => void
}

export class Handover {
  readonly #tools: HandoverTools

  constructor(tools: HandoverTools) {
    this.#tools = tools
  }

  /**
   * @param ended ids of deliveries that the store ended as it accepted them: their endpoint was
   *   disabled or removed, and memory need not know of it yet
   * @throws WebhookError EVENT_ID_CONFLICT
   */
  committed(
    event: EventRecord,
    deliveries: readonly NewDelivery[],
    wide: boolean,
    result: Exclude<AcceptResult, { kind: 'stale' }>,
    ended: ReadonlySet<string> | null,
  ): DispatchReceipt {
    if (result.kind === 'duplicate') {
      this.unreserve(event.tenantId, deliveries)
      return receiptOfDuplicate(event, result)
    }
    this.#tools.backlog?.committed(event.tenantId, keysOf(deliveries), true)
    if (wide) this.#tools.lanes.fanOut()
    else {
      for (const delivery of deliveries) {
        if (ended?.has(delivery.id)) this.#endAtOnce(event, delivery)
        else this.#handOver(event, delivery)
      }
    }
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
    if (delivery.ended !== undefined) {
      this.#tools.cancelled([{ id: delivery.id, reason: delivery.ended }])
      return
    }
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
      takenAtMs: event.acceptedAtMs,
      expiresAtMs: delivery.terms?.expiresAtMs ?? undefined,
    })
  }

  #endAtOnce({ tenantId }: EventRecord, { endpointKey, owned }: NewDelivery): void {
    this.#tools.backlog?.ended(tenantId, endpointKey, 1)
    if (owned) this.#tools.lanes.unreserve(endpointKey)
  }

  /** Nothing of it is stored. */
  unreserve(tenantId: string, deliveries: readonly NewDelivery[]): void {
    this.#tools.backlog?.committed(tenantId, keysOf(deliveries), false)
    for (const delivery of deliveries) {
      if (delivery.owned) this.#tools.lanes.unreserve(delivery.endpointKey)
    }
  }
}

/** Of those that wait. */
function keysOf(deliveries: readonly NewDelivery[]): string[] {
  return deliveries.filter(({ ended }) => ended === undefined).map((one) => one.endpointKey)
}

function receiptOfDuplicate(
  event: EventRecord,
  found: Extract<AcceptResult, { kind: 'duplicate' }>,
): DispatchReceipt {
  const same = found.sameContent || (found.body !== null && sameContent(event.body, found.body))
  if (!same) {
    const known = `the event ${JSON.stringify(event.id)} accepted at ${new Date(found.acceptedAtMs).toISOString()}`
    throw new WebhookError(
      'EVENT_ID_CONFLICT',
      found.isErased
        ? `Expected an id that is not in use, got that of ${known}, whose content was erased: whether this is the same cannot be told, and it is not sent again. Give a new event a new id.`
        : `Expected the same content as ${known}, got other content under the same id; give a new event a new id.`,
    )
  }
  return {
    eventId: event.id,
    duplicate: true,
    acceptedAt: new Date(found.acceptedAtMs),
    deliveryIds: found.deliveryIds,
  }
}
