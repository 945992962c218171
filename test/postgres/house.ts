// Owns the house that moves: a data file as a real service leaves it after a life, with everything in
// it that a file can hold; and all that can be asked of a store about what is in it.
import { type Storage, sqlite } from '@k-msg/webhook'
import type { Store } from '../../src/storage/storage.ts'
import { type Stage, secret } from '../journey/stage.ts'
import {
  accept,
  commitAccepts,
  exhausted,
  group,
  ownedOf,
  settle,
  testHost,
} from '../storage/fixtures.ts'

export const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** Texts of PostgreSQL mark what they cannot hold with the first of these. */
export const reason = 'a \uFDD0, "quotes" and \\, 그리고 이모지 \u{1F44B}'
export const answer = 'no\0pe 한글 \u{1F4A5}'
export const otherTenant = 'tenant-2'
export const otherSecret = 'another-secret-entirely'

/** Lives in the stage's data file, and dies with requests under way. */
export async function live(stage: Stage): Promise<void> {
  stage.inbox.setSecret('/shop', secret)
  stage.inbox.setSecret('/other', otherSecret)
  const down = new Set(['/flaky', '/batched', '/down'])
  stage.inbox.setAnswer(({ path }) => {
    if (path === '/no' || path === '/ordered') return { status: 400, body: answer }
    return { status: down.has(path) ? 503 : 200, body: 'ok 한글' }
  })
  let store: Store | undefined
  const inner = sqlite({ path: stage.dataFile })
  const storage: Storage = {
    kind: inner.kind,
    open: async (host) => {
      store = await inner.open(host)
      return store
    },
  }
  const service = await stage.open({ storage, retryScheduleMs: [hourMs, hourMs, hourMs] })
  const sent = { events: ['message.sent'] }
  await service.registerEndpoint(stage.endpoint('shop', { description: '"주문" \\ {중괄호}' }))
  await service.registerEndpoint(
    stage.endpoint('shop', {
      tenantId: otherTenant,
      url: `${stage.inbox.url}/other`,
      secret: otherSecret,
      headers: { 'x-kind': 'two' },
    }),
  )
  // Long ago, so that retention takes it: sums and ids of it stay.
  await service.dispatchEvent(stage.event({ id: 'old' }))
  await service.dispatchEvent(stage.event({ id: 'old', tenantId: otherTenant }))
  await service.runDue()
  stage.clock.advance(20 * dayMs)
  if (store) await prune(store, stage.clock.nowMs())

  await service.registerEndpoint(stage.endpoint('no', sent))
  await service.registerEndpoint(stage.endpoint('gone', sent))
  await service.registerEndpoint(stage.endpoint('paused', sent))
  const rateLimit = { limit: 1_000, perMs: 1_000 }
  await service.registerEndpoint(stage.endpoint('flaky', { ...sent, rateLimit }))
  const ordering = { key: 'orderId', onExhausted: 'block' } as const
  const clicked = 'message.clicked'
  await service.registerEndpoint(stage.endpoint('ordered', { events: [clicked], ordering }))
  const never = { maxRetries: 0 }
  await service.registerEndpoint(
    stage.endpoint('down', { events: ['message.failed'], retryConfig: never }),
  )
  const batch = { size: 2, timeoutMs: 5_000 }
  await service.registerEndpoint(stage.endpoint('batched', { events: ['message.read'], batch }))
  await service.pauseEndpoint('paused', reason)
  await service.dispatchEvent(stage.event({ id: 'sent', data: { text: 'a \0, 안녕' } }))
  await service.dispatchEvent(stage.event({ id: 'failed', type: 'message.failed' }))
  // The first is rejected and holds up its key, the second waits behind it.
  const metadata = { orderId: 'order \uFDD0 1' }
  await service.dispatchEvent(stage.event({ id: 'clicked-1', type: clicked, metadata }))
  await service.dispatchEvent(stage.event({ id: 'clicked-2', type: clicked, metadata }))
  await service.dispatchEvent(stage.event({ id: 'read-1', type: 'message.read' }))
  await service.dispatchEvent(stage.event({ id: 'read-2', type: 'message.read' }))
  await service.dispatchEvent(stage.event({ id: 'two', tenantId: otherTenant }))
  await service.dispatchEvent(stage.event({ id: 'unwanted', type: 'x.y', tenantId: 'nobody' }))
  await service.runDue()
  const [failed] = (await service.listDeliveries({ endpointId: 'down' })).deliveries
  if (failed) await service.retryDelivery(failed.id)
  await service.dispatchEvent(stage.event({ id: 'erased', tenantId: otherTenant }))
  await service.runDue()
  await service.eraseEvents({ ids: ['erased'], tenantId: otherTenant })
  await service.removeEndpoint('gone')
  // Waits for a second one to share its batch with.
  await service.dispatchEvent(stage.event({ id: 'loose', type: 'message.read' }))
  await service.close()
  await die(stage)
}

/**
 * An attempt under way, an event on its way to more than one commit holds, a repair, a send time that
 * is taken, and a key that is held up.
 */
async function die(stage: Stage): Promise<void> {
  const host = testHost()
  host.now = stage.clock.nowMs()
  const store = await sqlite({ path: stage.dataFile }).open(host)
  const shop = (await store.loadEndpoints()).find((one) => one.id === 'shop' && !one.tenantId)
  const to = [shop?.key ?? '']
  await commitAccepts(store, accept(host, { id: 'under-way', to, owned: true }))
  await commitAccepts(store, accept(host, { id: 'wide', to, wide: true }))
  const ask = { endpointKey: to[0] ?? '', count: 1, intervalMs: 0.5 }
  await store.takeSendTimes([ask], host.now, host.now)
  const head = accept(host, { id: 'head', to, owned: true })
  const terms = { alone: true, expiresAtMs: null, order: { key: 'kim \0 \uFDD0', blocks: true } }
  const deliveries = head.deliveries.map((one) => ({ ...one, terms }))
  await commitAccepts(store, { ...head, deliveries })
  const failed = { ...settle(host, ownedOf(head), exhausted), ordered: true }
  await store.commit(group({ settlements: [failed] }))
  const metadata = { 'a \0 \uFDD0': ['안녕'] }
  const criteria = { sinceMs: 0, untilMs: host.now, types: null, states: [], metadata }
  const id = `rep_${'0'.repeat(24)}`
  const wanted = { kind: 'backfill', tenantId: '', criteria, maxPerSecond: 1, cursor: '0' } as const
  const endpointKey = shop?.key ?? ''
  await store.createRepair({ ...wanted, id, endpointKey, createdAtMs: host.now })
  await store.endRepair(id, 'cancelled', 'by_request', host.now)
  await store.close()
}

async function prune(store: Store, nowMs: number): Promise<void> {
  const cutoffs = {
    settledBeforeMs: nowMs - 10 * dayMs,
    deliveredBodiesBeforeMs: nowMs - 7 * dayMs,
    failedBodiesBeforeMs: nowMs - 10 * dayMs,
    eventIdsBeforeMs: nowMs - 30 * dayMs,
  }
  while ((await store.prune(cutoffs, 100)) > 0);
}

/** Everything that a store answers about what is in it, in one order for every kind of store. */
export async function answersOf(store: Store): Promise<Record<string, unknown>> {
  const endpoints = await store.loadEndpoints()
  const everything = { tenantId: null, endpointKey: null, fromMs: null, toMs: null }
  const anyRepair = { tenantId: null, id: null, onlyRunning: false, limit: 10 }
  // Whose step it was, only the new place can know.
  const repairs = (await store.listRepairs(anyRepair, 0)).map((one) => ({ ...one, isOwn: true }))
  const deliveries = await store.listDeliveries({
    ...everything,
    states: null,
    eventType: null,
    skipRetried: false,
    before: null,
    limit: 1_000,
  })
  const events = new Map(deliveries.map((one) => [`${one.tenantId} ${one.eventId}`, one]))
  const statistics = [
    ...(await store.statistics({ ...everything, perHour: false })),
    ...(await store.statistics({ ...everything, fromMs: 0, perHour: true })),
  ]
  return {
    endpoints: sorted(endpoints),
    histories: await Promise.all(
      sorted(endpoints).map(({ key }) => store.endpointHistory(key, 1_000, null)),
    ),
    repairs,
    deliveries,
    attempts: [...(await store.attemptsOf(deliveries))].sort(),
    events: await Promise.all(
      [...events.values()].map((one) => store.findEvent(one.tenantId, one.eventId)),
    ),
    unwanted: await store.findEvent('nobody', 'unwanted'),
    statistics: statistics.map((row) => JSON.stringify(row)).sort(),
    backlog: await store.backlog(),
    heads: (await store.heads()).map((head) => JSON.stringify(head)).sort(),
    counts: (await store.audit()).counts,
    problems: (await store.audit()).problems,
  }
}

function sorted<Row extends { key: string }>(rows: readonly Row[]): Row[] {
  return [...rows].sort((a, b) => (a.key < b.key ? -1 : 1))
}
