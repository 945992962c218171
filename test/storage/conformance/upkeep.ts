import { expect } from 'vitest'
import type { Store } from '../../../src/storage/storage.ts'
import type { RetentionCutoffs } from '../../../src/storage/upkeep.ts'
import type { Stories } from '../conformance.ts'
import {
  accept,
  claimAll,
  commitAccepts,
  day,
  delivered,
  endpointKey,
  exhausted,
  group,
  hour,
  idOf,
  ownedOf,
  retryAt,
  settle,
  text,
} from '../fixtures.ts'

const nothing: RetentionCutoffs = {
  settledBeforeMs: 0,
  deliveredBodiesBeforeMs: 0,
  failedBodiesBeforeMs: 0,
  eventIdsBeforeMs: 0,
}

async function pruneAll(store: Store, cutoffs: Partial<RetentionCutoffs>): Promise<number> {
  let deleted = 0
  for (;;) {
    const some = await store.prune({ ...nothing, ...cutoffs }, 5)
    if (some === 0) return deleted
    deleted += some
  }
}

export const upkeepStories: Stories = {
  'a closed store refuses every question at once': async ({ store }) => {
    await store.close()
    const refused = { code: 'SERVICE_CLOSED' }
    await expect(store.findFlow(endpointKey('one'))).rejects.toMatchObject(refused)
    await expect(store.heads()).rejects.toMatchObject(refused)
  },

  'correctness R5: retention takes what has ended, and the sums still add up': async ({
    store,
    host,
  }) => {
    const records = Array.from({ length: 12 }, () => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    const settlements = records.map((record, i) =>
      settle(host, ownedOf(record), i < 8 ? delivered : i < 10 ? exhausted : retryAt(host.now)),
    )
    await store.commit(group({ settlements }))
    const cutoffMs = host.now + hour
    host.now += day
    const young = accept(host, { id: 'young', owned: true })
    await commitAccepts(store, young)
    await store.commit(group({ settlements: [settle(host, ownedOf(young))] }))
    const all = {
      settledBeforeMs: cutoffMs,
      deliveredBodiesBeforeMs: cutoffMs,
      failedBodiesBeforeMs: cutoffMs,
      eventIdsBeforeMs: cutoffMs,
    }
    expect(await pruneAll(store, all)).toBeGreaterThanOrEqual(20)
    expect(await pruneAll(store, all)).toBe(0)
    const report = await store.audit()
    expect(report.problems).toEqual([])
    expect(report.counts).toMatchObject({ events: 3, delivered: 1, exhausted: 0, waiting: 2 })
    const found = await store.findEvent('', 'young')
    expect(found?.body).not.toBeNull()
    const sums = await store.statistics({
      tenantId: null,
      endpointKey: null,
      fromMs: null,
      toMs: null,
      perHour: false,
    })
    expect(sums.reduce((n, { attempts }) => n + attempts, 0)).toBe(13)
  },

  'correctness 11: a body outlives every delivery that is not settled': async ({ store, host }) => {
    const record = accept(host, { id: 'a', to: ['one', 'two'], owned: true })
    await commitAccepts(store, record)
    await store.commit(group({ settlements: [settle(host, ownedOf(record, 0))] }))
    const later = host.now + 100 * day
    const bodies = { deliveredBodiesBeforeMs: later, failedBodiesBeforeMs: later }
    expect(await pruneAll(store, bodies)).toBe(0)
    await store.commit(group({ settlements: [settle(host, ownedOf(record, 1))] }))
    expect(await pruneAll(store, bodies)).toBe(1)
    expect(await store.findEvent('', 'a')).toMatchObject({
      body: null,
      deliveries: [{ state: 'delivered' }, { state: 'delivered' }],
    })
    expect(await store.retryDelivery(record.deliveries[0]!.id, host.now)).toEqual({
      kind: 'body-gone',
    })
  },

  'bodies of failed and cancelled deliveries are kept longer than those of delivered ones': async (
    scene,
  ) => {
    const { store, host } = scene
    const ids = ['good', 'bad', 'unwanted', 'cancelled']
    const records = ids.map((id) => {
      const isCancelled = id === 'cancelled'
      return accept(host, { id, owned: !isCancelled, to: id === 'unwanted' ? [] : ['one'] })
    })
    await commitAccepts(store, ...records)
    await store.cancelSome([idOf(records[3])], 'by_request', host.now)
    await store.commit(
      group({
        settlements: [
          settle(host, ownedOf(records[0]!), delivered),
          settle(host, ownedOf(records[1]!), exhausted),
        ],
      }),
    )
    const later = host.now + 10 * day
    await pruneAll(store, { deliveredBodiesBeforeMs: later, failedBodiesBeforeMs: host.now })
    const bodies = async () =>
      Promise.all(ids.map(async (id) => text((await store.findEvent('', id))?.body)))
    expect(await bodies()).toEqual([null, '{"id":"bad"}', null, '{"id":"cancelled"}'])
    await pruneAll(store, { failedBodiesBeforeMs: later })
    expect(await bodies()).toEqual([null, null, null, null])
  },

  'correctness 9: an id is new again once its event is gone': async ({ store, host }) => {
    const first = accept(host, { id: 'a', owned: true })
    await commitAccepts(store, first)
    await store.commit(group({ settlements: [settle(host, ownedOf(first))] }))
    host.now += 31 * day
    const ended = { settledBeforeMs: host.now, deliveredBodiesBeforeMs: host.now }
    // The ids are kept for longer than all else.
    await pruneAll(store, { ...ended, eventIdsBeforeMs: host.now - 40 * day })
    expect(await store.findEvent('', 'a')).toMatchObject({ body: null, deliveries: [] })
    const same = await commitAccepts(store, accept(host, { id: 'a' }))
    expect(same.accepts).toMatchObject([{ kind: 'duplicate', sameContent: true }])
    await pruneAll(store, { ...ended, eventIdsBeforeMs: host.now })
    expect(await store.findEvent('', 'a')).toBeNull()
    const again = accept(host, { id: 'a' })
    expect((await commitAccepts(store, again)).accepts).toEqual([{ kind: 'stored' }])
    expect((await store.findEvent('', 'a'))?.key).toBe(again.event.key)
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 9: an id is known as long as its event waits or is kept': async (scene) => {
    const { store, host } = scene
    const stories = ['sent', 'failed-late', 'waits', 'flies', 'wide', 'kept-body'] as const
    const records = stories.map((id) =>
      accept(host, { id, owned: id !== 'waits', wide: id === 'wide' }),
    )
    await commitAccepts(store, ...records)
    const ofStory = (id: (typeof stories)[number]) => ownedOf(records[stories.indexOf(id)]!)
    await store.commit(group({ settlements: [settle(host, ofStory('sent'))] }))
    host.now += 20 * day
    await store.commit(group({ settlements: [settle(host, ofStory('failed-late'), exhausted)] }))
    await store.commit(group({ settlements: [settle(host, ofStory('kept-body'))] }))
    host.now += 11 * day
    const monthAgo = host.now - 30 * day
    const afterMonth = {
      settledBeforeMs: monthAgo,
      deliveredBodiesBeforeMs: monthAgo,
      failedBodiesBeforeMs: monthAgo,
      eventIdsBeforeMs: host.now,
    }
    await pruneAll(store, afterMonth)
    expect(await store.findEvent('', 'sent')).toBeNull()
    for (const id of stories.slice(1)) {
      expect(await store.findEvent('', id), id).toMatchObject({ id })
      const again = await commitAccepts(store, accept(host, { id }))
      expect(again.accepts, id).toMatchObject([{ kind: 'duplicate', sameContent: true }])
      const other = await commitAccepts(store, accept(host, { id, hash: 'of other content' }))
      expect(other.accepts, id).toMatchObject([{ kind: 'duplicate', sameContent: false }])
    }
    expect((await store.audit()).problems).toEqual([])
    const ids = { kind: 'ids', tenantId: '', ids: [...stories] } as const
    expect(await store.eraseEvents(ids, host.now, 100)).toMatchObject({ erased: 4, inFlight: 1 })
    expect(text((await store.findEvent('', 'waits'))?.body)).toBeNull()
    await store.commit(group({ settlements: [settle(host, ofStory('flies'))] }))

    host.now += 31 * day
    const all = host.now - 30 * day
    await pruneAll(store, {
      settledBeforeMs: all,
      deliveredBodiesBeforeMs: all,
      failedBodiesBeforeMs: all,
      eventIdsBeforeMs: all,
    })
    for (const id of stories) expect(await store.findEvent('', id), id).toBeNull()
    const anew = await commitAccepts(store, ...stories.map((id) => accept(host, { id })))
    expect(anew.accepts).toEqual(stories.map(() => ({ kind: 'stored' })))
    expect((await store.audit()).problems).toEqual([])
  },

  'batches go with their members': async ({ store, host }) => {
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host)))
    const rule = { size: 3, maxBytes: 10_000 }
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    await store.commit(group({ settlements: [settle(host, batch!)] }))
    host.now += day
    expect(await pruneAll(store, { settledBeforeMs: host.now })).toBe(4)
    const report = await store.audit()
    expect(report.problems).toEqual([])
    expect(report.counts.attempts).toBe(0)
  },

  'the audit counts what is there': async ({ store, host }) => {
    await commitAccepts(store, accept(host, { owned: true }), accept(host))
    expect(await store.audit()).toEqual({
      counts: expect.objectContaining({ events: 2, waiting: 1, delivering: 1, attempts: 0 }),
      encryption: {},
      problems: [],
    })
  },
}
