/** The verbs of the store as the thread knows them: name → function of the session. */
import type { EndpointRecord } from '../../model/endpoint.ts'
import type { DeliveryFound, EndpointChange, LaneRoom } from '../storage.ts'
import { claim, heads } from './claim.ts'
import { commit } from './commit.ts'
import { endpointHistory, loadEndpoints, removeEndpoint, saveEndpoint } from './endpoint.ts'
import { fanOut } from './fan-out.ts'
import { attemptsOf, findDelivery, findEvent } from './read.ts'
import type { Session } from './session.ts'
import type { CommitOnWire } from './wire.ts'

/** Arguments are what store.ts sends for the same name; nothing else can send any. */
export interface Verbs {
  commit(group: CommitOnWire, nowMs: number): unknown
  claim(rooms: readonly LaneRoom[], nowMs: number): unknown
  heads(): unknown
  fanOut(limit: number, nowMs: number): unknown
  loadEndpoints(): unknown
  saveEndpoint(record: EndpointRecord, change: EndpointChange): unknown
  removeEndpoint(key: string, change: EndpointChange): unknown
  endpointHistory(key: string): unknown
  findEvent(tenantId: string, eventId: string): unknown
  findDelivery(id: string): unknown
  attemptsOf(deliveries: readonly Pick<DeliveryFound, 'id' | 'batchId'>[]): unknown
  close(): unknown
}

/** @param callId of the call being answered; a claim leaves it in the rows it takes */
export function createVerbs(session: Session, callId: () => number): Verbs {
  return {
    commit: (group, nowMs) => commit(session, group, nowMs),
    claim: (rooms, nowMs) => claim(session, rooms, nowMs, callId()),
    heads: () => heads(session),
    fanOut: (limit, nowMs) => fanOut(session, limit, nowMs),
    loadEndpoints: () => loadEndpoints(session),
    saveEndpoint: (record, change) => saveEndpoint(session, record, change),
    removeEndpoint: (key, change) => removeEndpoint(session, key, change),
    endpointHistory: (key) => endpointHistory(session, key),
    findEvent: (tenantId, eventId) => findEvent(session, tenantId, eventId),
    findDelivery: (id) => findDelivery(session, id),
    attemptsOf: (deliveries) => attemptsOf(session, deliveries),
    close: () => session.connection.close(),
  }
}
