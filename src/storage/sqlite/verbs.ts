/** The verbs of the store as the thread knows them: name → function of the session. */
import type { Breaker } from '../../model/flow.ts'
import type { EndpointHealth } from '../../model/health.ts'
import type { RepairState } from '../../model/repair.ts'
import type { LaneRoom } from '../claims.ts'
import type { EndpointChange, StoredEndpoint } from '../endpoints.ts'
import type { SendTimesAsk } from '../flows.ts'
import type { DeliveryFound, DeliveryQuery, StatisticsQuery } from '../questions.ts'
import type { CandidateQuery, NewRepair, RepairQuery, RepairStep } from '../repairs.ts'
import type { EraseSelection, RetentionCutoffs } from '../upkeep.ts'
import { audit } from './audit.ts'
import { backup } from './backup.ts'
import { cancelDeliveries, cancelRest, cancelSome, expireDeliveries } from './cancel.ts'
import { findCandidates } from './candidates.ts'
import { claim, heads } from './claim.ts'
import { commit } from './commit.ts'
import { endpointHistory, loadEndpoints, removeEndpoint, saveEndpoint } from './endpoint.ts'
import { eraseSlice } from './erase.ts'
import { fanOut } from './fan-out.ts'
import { changeBreaker, findFlow, loadFlows, takeSendTimes } from './flow.ts'
import { loadHealth, saveHealth } from './health.ts'
import { listSlice } from './list.ts'
import { blockedKeys, releaseOrder } from './order.ts'
import { type PrunePosition, pruneSlice } from './prune.ts'
import { attemptsOf, findDelivery, findEvent } from './read.ts'
import { createRepair, endRepair, listRepairs, stepRepair } from './repair.ts'
import { retryDelivery } from './retry.ts'
import type { Session } from './session.ts'
import { backlog, countLive, statistics } from './statistics.ts'
import type { CommitOnWire } from './wire.ts'

/** Arguments are what store.ts sends for the same name; nothing else can send any. */
export interface Verbs {
  commit(group: CommitOnWire, nowMs: number): unknown
  claim(rooms: readonly LaneRoom[], nowMs: number): unknown
  heads(): unknown
  fanOut(limit: number, nowMs: number): unknown
  loadEndpoints(): unknown
  saveEndpoint(record: StoredEndpoint, change: EndpointChange): unknown
  removeEndpoint(key: string, change: EndpointChange): unknown
  loadFlows(): unknown
  findFlow(key: string): unknown
  changeBreaker(key: string, next: Breaker): unknown
  takeSendTimes(asks: readonly SendTimesAsk[], nowMs: number, notAfterMs: number): unknown
  loadHealth(): unknown
  saveHealth(health: EndpointHealth, change: EndpointChange | null): unknown
  endpointHistory(key: string, limit: number, before: EndpointChange | null): unknown
  findEvent(tenantId: string, eventId: string): unknown
  findDelivery(id: string): unknown
  attemptsOf(deliveries: readonly Pick<DeliveryFound, 'id' | 'batchId'>[]): unknown
  cancelDeliveries(key: string, reason: string, nowMs: number, limit: number): unknown
  expireDeliveries(nowMs: number, limit: number): unknown
  releaseOrder(endpointKey: string, deliveryId: string | null, nowMs: number): unknown
  blockedKeys(tenantId: string | null, endpointKey: string | null, limit: number): unknown
  retryDelivery(id: string, nowMs: number): unknown
  cancelRest(key: string, reason: string, nowMs: number): unknown
  cancelSome(ids: readonly string[], reason: string, nowMs: number): unknown
  createRepair(repair: NewRepair): unknown
  listRepairs(query: RepairQuery, nowMs: number): unknown
  findCandidates(query: CandidateQuery): unknown
  stepRepair(step: RepairStep, nowMs: number): unknown
  endRepair(id: string, state: RepairState, reason: string, nowMs: number): unknown
  listSlice(query: DeliveryQuery, rows: number): unknown
  statistics(query: StatisticsQuery): unknown
  backlog(nowMs: number): unknown
  countLive(): unknown
  pruneSlice(cutoffs: RetentionCutoffs, limit: number, position: PrunePosition): unknown
  eraseSlice(selection: EraseSelection, nowMs: number, limit: number, after: string): unknown
  backup(target: string): unknown
  audit(): unknown
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
    loadFlows: () => loadFlows(session),
    findFlow: (key) => findFlow(session, key),
    changeBreaker: (key, next) => changeBreaker(session, key, next),
    takeSendTimes: (asks, nowMs, notAfterMs) => takeSendTimes(session, asks, nowMs, notAfterMs),
    loadHealth: () => loadHealth(session),
    saveHealth: (health, change) => saveHealth(session, health, change),
    endpointHistory: (key, limit, before) => endpointHistory(session, key, limit, before),
    findEvent: (tenantId, eventId) => findEvent(session, tenantId, eventId),
    findDelivery: (id) => findDelivery(session, id),
    attemptsOf: (deliveries) => attemptsOf(session, deliveries),
    cancelDeliveries: (key, reason, nowMs, limit) =>
      cancelDeliveries(session, key, reason, nowMs, limit),
    expireDeliveries: (nowMs, limit) => expireDeliveries(session, nowMs, limit),
    releaseOrder: (key, deliveryId, nowMs) => releaseOrder(session, key, deliveryId, nowMs),
    blockedKeys: (tenantId, key, limit) => blockedKeys(session, tenantId, key, limit),
    retryDelivery: (id, nowMs) => retryDelivery(session, id, nowMs),
    cancelRest: (key, reason, nowMs) => cancelRest(session, key, reason, nowMs),
    cancelSome: (ids, reason, nowMs) => cancelSome(session, ids, reason, nowMs),
    createRepair: (repair) => createRepair(session, repair),
    listRepairs: (query, nowMs) => listRepairs(session, query, nowMs),
    findCandidates: (query) => findCandidates(session, query),
    stepRepair: (step, nowMs) => stepRepair(session, step, nowMs),
    endRepair: (id, state, reason, nowMs) => endRepair(session, id, state, reason, nowMs),
    listSlice: (query, rows) => listSlice(session, query, rows),
    statistics: (query) => statistics(session, query),
    backlog: (nowMs) => backlog(session, nowMs),
    countLive: () => countLive(session),
    pruneSlice: (cutoffs, limit, position) => pruneSlice(session, cutoffs, limit, position),
    eraseSlice: (selection, nowMs, limit, after) =>
      eraseSlice(session, selection, nowMs, limit, after),
    backup: (target) => backup(session.connection, target),
    audit: () => audit(session.connection),
    close: () => session.connection.close(),
  }
}
