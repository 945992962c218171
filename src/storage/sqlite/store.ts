/**
 * The store as the engine sees it: a thin client of the thread. Flattens what is hot, sends the rest
 * as it is, and repeats the slices of long questions, so that commits get their turn in between.
 */
import type { StorageHost, Store } from '../storage.ts'
import { Thread } from './thread.ts'
import type { ClaimResultOnWire, CommitResultOnWire } from './wire.ts'
import { flattenCommit, unflattenClaims, unflattenResult } from './wire.ts'

export async function openStore(
  location: string,
  host: StorageHost,
  onClose: () => void,
): Promise<Store> {
  const thread = new Thread(location, host)
  await thread.open()
  const nowMs = () => Math.round(host.nowMs())
  return {
    description: thread.opened.description,
    location,
    async commit(group) {
      const wire = flattenCommit(group)
      return unflattenResult(group, await thread.call<CommitResultOnWire>('commit', wire, nowMs()))
    },
    async claim(rooms, atMs) {
      return unflattenClaims(await thread.call<ClaimResultOnWire>('claim', rooms, Math.round(atMs)))
    },
    heads: () => thread.call('heads'),
    fanOut: (limit, atMs) => thread.call('fanOut', limit, Math.round(atMs)),
    loadEndpoints: () => thread.call('loadEndpoints'),
    saveEndpoint: (record, change) => thread.call('saveEndpoint', record, change),
    removeEndpoint: (key, change) => thread.call('removeEndpoint', key, change),
    endpointHistory: (key) => thread.call('endpointHistory', key),
    findEvent: (tenantId, eventId) => thread.call('findEvent', tenantId, eventId),
    findDelivery: (id) => thread.call('findDelivery', id),
    attemptsOf: (deliveries) =>
      thread.call(
        'attemptsOf',
        deliveries.map(({ id, batchId }) => ({ id, batchId })),
      ),
    async close() {
      await thread.close()
      onClose()
    },
  } as Store
}
