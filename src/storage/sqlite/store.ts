/**
 * The store as the engine sees it: a thin client of the thread. Flattens what is hot, sends the rest
 * as it is.
 */
import path from 'node:path'
import { WebhookError } from '../../model/errors.ts'
import type { StorageHost, Store } from '../storage.ts'
import { readBeside } from './beside.ts'
import { createErasing, createPruning, listDeliveries } from './slices.ts'
import { Thread } from './thread.ts'
import {
  type ClaimResultOnWire,
  type CommitResultOnWire,
  flattenCommit,
  unflattenClaims,
  unflattenResult,
} from './wire.ts'

/** @param onClose runs once the thread has ended */
export async function openStore(
  location: string,
  host: StorageHost,
  onClose: () => void,
): Promise<Store> {
  const thread = new Thread(location, host)
  await thread.open()
  const nowMs = () => Math.round(host.nowMs())
  const prune = createPruning(thread)
  const erase = createErasing(thread)
  const running = new Set<Promise<unknown>>()
  let closing: Promise<void> | null = null
  // A database in memory has one connection, which then does the long reads too.
  const beside = async <Result>(job: Parameters<typeof readBeside>[1]): Promise<Result> => {
    if (location === ':memory:') return thread.call(job.kind, 'target' in job ? job.target : null)
    const read = readBeside<Result>(location, job)
    running.add(read)
    read.catch((failure) => thread.noteDamage(failure))
    return read.finally(() => running.delete(read))
  }
  return {
    description: thread.opened.description,
    location,
    get damage() {
      return thread.damage
    },
    // The file belongs to this process alone.
    isOwner: true,
    // The thread takes calls one by one.
    commitsInOrder: true,
    watch: () => Promise.resolve(),
    changedEndpoints: (version) => Promise.resolve({ version, endpoints: [], removedKeys: [] }),
    acceptWithin: () => Promise.reject(transactionUnsupported(location)),
    takeIntake: () => Promise.resolve([]),
    async commit(group) {
      const wire = flattenCommit(group)
      return unflattenResult(group, await thread.call<CommitResultOnWire>('commit', wire, nowMs()))
    },
    async claim(rooms, atMs) {
      const found = await thread.call<ClaimResultOnWire>('claim', rooms, Math.round(atMs))
      return unflattenClaims(found, atMs)
    },
    heads: () => thread.call('heads'),
    fanOut: (limit, atMs) => thread.call('fanOut', limit, Math.round(atMs)),
    loadEndpoints: () => thread.call('loadEndpoints'),
    async saveEndpoint(record, change) {
      await thread.call('saveEndpoint', record, change)
      return true
    },
    removeEndpoint: (key, change) => thread.call('removeEndpoint', key, change),
    loadFlows: () => thread.call('loadFlows'),
    findFlow: (key) => thread.call('findFlow', key),
    changeBreaker: (key, next) => thread.call('changeBreaker', key, next),
    takeSendTimes: (asks, atMs, notAfterMs) => thread.call('takeSendTimes', asks, atMs, notAfterMs),
    shares: { of: (_key, concurrency) => concurrency },
    loadHealth: () => thread.call('loadHealth'),
    saveHealth: (health, change) => thread.call('saveHealth', health, change),
    endpointHistory: (key, limit, before) => thread.call('endpointHistory', key, limit, before),
    findEvent: (tenantId, eventId) => thread.call('findEvent', tenantId, eventId),
    findDelivery: (id) => thread.call('findDelivery', id),
    attemptsOf: (deliveries) =>
      thread.call(
        'attemptsOf',
        deliveries.map(({ id, batchId }) => ({ id, batchId })),
      ),
    cancelDeliveries: (key, reason, atMs, limit) =>
      thread.call('cancelDeliveries', key, reason, Math.round(atMs), limit),
    cancelRest: (key, reason, atMs) => thread.call('cancelRest', key, reason, Math.round(atMs)),
    expireDeliveries: (atMs, limit) => thread.call('expireDeliveries', Math.round(atMs), limit),
    releaseOrder: (key, deliveryId, atMs) =>
      thread.call('releaseOrder', key, deliveryId, Math.round(atMs)),
    blockedKeys: (tenantId, key, limit) => thread.call('blockedKeys', tenantId, key, limit),
    retryDelivery: (id, atMs) => thread.call('retryDelivery', id, Math.round(atMs)),
    cancelSome: (ids, reason, atMs) => thread.call('cancelSome', ids, reason, Math.round(atMs)),
    createRepair: (repair) => thread.call('createRepair', repair),
    listRepairs: (query, atMs) => thread.call('listRepairs', query, Math.round(atMs)),
    findCandidates: (query) => thread.call('findCandidates', query),
    stepRepair: (step, atMs) => thread.call('stepRepair', step, Math.round(atMs)),
    endRepair: (id, state, reason, atMs) =>
      thread.call('endRepair', id, state, reason, Math.round(atMs)),
    listDeliveries: (query) => listDeliveries(thread, query),
    statistics: (query) => thread.call('statistics', query),
    backlog: () => thread.call('backlog', nowMs()),
    countLive: () => thread.call('countLive'),
    prune,
    eraseEvents: (selection, atMs, limit) => erase(selection, Math.round(atMs), limit),
    backup: (target) => beside({ kind: 'backup', target: path.resolve(target) }),
    audit: () => beside({ kind: 'audit' }),
    close() {
      closing ??= thread.close(Promise.allSettled(running)).then(onClose)
      return closing
    },
  }
}

function transactionUnsupported(location: string): WebhookError {
  return new WebhookError(
    'TRANSACTION_UNSUPPORTED',
    `Expected no \`transaction\` with the store in ${location}: another copy of SQLite that opened the same file in this process would break its locks, and the file. Use postgres() to dispatch in your own transaction, or dispatch after it has committed.`,
  )
}
