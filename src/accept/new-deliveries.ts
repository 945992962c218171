/**
 * Who gets an event, and the deliveries that makes: one per endpoint, each with the times and the order
 * it goes by.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EventRecord } from '../model/event-record.ts'
import { deliveryId } from '../model/ids.ts'
import { orderKeyOf } from '../policy/order.ts'
import type { DispatchTimes, NewDelivery } from '../storage/commit-records.ts'
import { endpointBacklogFull } from './backlog.ts'
import type { CheckedEvent } from './event-input.ts'

export interface MatchTools {
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
}

export interface NewDeliveryTools {
  /** When the first event of a batch may be sent at the latest; null without batching. */
  readonly batchTimeoutMs: (endpoint: EndpointRecord) => number | null
  readonly lanes: {
    /** Keeps a place for a delivery that is about to be committed; false sends it through the store. */
    reserve(endpoint: EndpointRecord): boolean
  }
}

/** An event with more endpoints commits with one row and fans out between commits. */
const maxDeliveriesPerEvent = 2_000

export function isWide(endpoints: readonly EndpointRecord[]): boolean {
  return endpoints.length > maxDeliveriesPerEvent
}

/** @param unowned no place is kept for it: whichever process has room claims it */
export function newDelivery(
  tools: NewDeliveryTools,
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
    return timedDelivery(tools, event, endpoint, unowned, times)
  }
  const waitMs = tools.batchTimeoutMs(endpoint)
  return {
    id: deliveryId(event.key, endpoint.key, 1),
    endpointKey: endpoint.key,
    dueAtMs: event.acceptedAtMs + (waitMs ?? 0),
    owned: !unowned && waitMs === null && tools.lanes.reserve(endpoint),
  }
}

/** With times of its own it is in no batch, and waits in the store until it may be sent. */
function timedDelivery(
  { lanes }: NewDeliveryTools,
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
    owned: !unowned && !isLater && lanes.reserve(endpoint),
    terms: { alone: true, expiresAtMs: expiresAtMs ?? null },
  }
}

/** The endpoint holds all it may: this one ends at once. */
export function refusedDelivery(
  { key, acceptedAtMs }: EventRecord,
  endpoint: EndpointRecord,
): NewDelivery {
  return {
    id: deliveryId(key, endpoint.key, 1),
    endpointKey: endpoint.key,
    dueAtMs: acceptedAtMs,
    owned: false,
    ended: endpointBacklogFull,
  }
}
