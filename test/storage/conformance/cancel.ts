import { expect } from 'vitest'
import type { Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  endpoint,
  group,
  hour,
  idOf,
  ownedOf,
  retryAt,
  settle,
} from '../fixtures.ts'

export const cancelStories: Stories = {
  'a delivery that waits is cancelled': async ({ store, host }) => {
    const record = accept(host)
    await commitAccepts(store, record)
    expect(await store.cancelSome([idOf(record), 'dlv_x'], 'by_request', host.now)).toEqual([
      'cancelled',
      'unknown',
    ])
    expect(await store.findDelivery(idOf(record))).toMatchObject({
      state: 'cancelled',
      reason: 'by_request',
      settledAtMs: host.now,
    })
    expect(await store.cancelSome([idOf(record)], 'by_request', host.now)).toEqual(['ended'])
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'one in flight is marked: its answer counts, no further attempt follows': async ({
    store,
    host,
  }) => {
    const records = [1, 2, 3].map(() => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    const ids = records.map(idOf)
    expect(await store.cancelSome(ids, 'by_request', host.now)).toEqual(ids.map(() => 'marked'))
    const [succeeds, fails, unsent] = records.map((record) => ownedOf(record))
    const { cancelled = [] } = await store.commit(
      group({
        settlements: [settle(host, succeeds!), settle(host, fails!, retryAt(host.now + hour))],
        releases: [{ deliveryId: ids[2]!, token: unsent!.token, dueAtMs: host.now }],
      }),
    )
    expect(cancelled.map(({ id }) => id).sort()).toEqual(ids.slice(1).sort())
    expect(new Set(cancelled.map(({ reason }) => reason))).toEqual(new Set(['by_request']))
    const ends = await Promise.all(ids.map((id) => store.findDelivery(id)))
    expect(ends.map((end) => [end?.state, end?.reason, end?.attempts])).toEqual([
      ['delivered', 'status_200', 1],
      ['cancelled', 'by_request', 1],
      ['cancelled', 'by_request', 0],
    ])
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'of a disabled endpoint all ends that is left, and what is in flight does not wait again':
    async ({ store, host }) => {
      const hook = endpoint('endpoint')
      await store.saveEndpoint(hook, change('registered'))
      const waits = [accept(host), accept(host, { dueAtMs: host.now + hour })]
      const flies = [1, 2].map(() => accept(host, { owned: true }))
      await commitAccepts(store, ...waits, ...flies)
      const rest = () => store.cancelRest(hook.key, 'endpoint_disabled', host.now)
      expect(await rest()).toEqual({ ended: [], marked: [], mayBegin: 0 })
      expect(await store.backlog()).toMatchObject({ waiting: 2, delivering: 2 })
      const disabled = { ...hook, status: 'disabled', version: 2 } as const
      await store.saveEndpoint(disabled, change('disabled', { version: 2 }))
      const { ended, marked, mayBegin } = await rest()
      expect([...ended].sort()).toEqual(waits.map(idOf).sort())
      expect(marked.map(({ id }) => id).sort()).toEqual(flies.map(idOf).sort())
      expect(mayBegin).toBe(0)
      const enabled = { ...hook, version: 3 }
      await store.saveEndpoint(enabled, change('enabled', { version: 3, fields: ['status'] }))
      const [fails, unsent] = flies.map((record) => ownedOf(record))
      await store.commit(
        group({
          settlements: [settle(host, fails!, retryAt(host.now + hour))],
          releases: [{ deliveryId: unsent!.deliveryId, token: unsent!.token, dueAtMs: null }],
        }),
      )
      for (const record of [...waits, ...flies]) {
        expect(await store.findDelivery(idOf(record))).toMatchObject({
          state: 'cancelled',
          reason: 'endpoint_disabled',
        })
      }
      expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
      expect((await store.audit()).problems).toEqual([])
    },

  'correctness 12: so does a sealed batch of it that is in flight': async ({ store, host }) => {
    const hook = endpoint('endpoint')
    await store.saveEndpoint(hook, change('registered'))
    const records = ['a', 'b', 'c'].map((id) => accept(host, { id, dueAtMs: host.now }))
    await commitAccepts(store, ...records)
    const [batch] = await claimAll(store, host, 'endpoint', { size: 3, maxBytes: 10_000 })
    const disabled = { ...hook, status: 'disabled', version: 2 } as const
    await store.saveEndpoint(disabled, change('disabled', { version: 2 }))
    const { ended, marked } = await store.cancelRest(hook.key, 'endpoint_disabled', host.now)
    expect(ended).toEqual([])
    expect(marked).toEqual([{ id: batch?.deliveryId, endpointKey: hook.key }])
    const enabled = { ...hook, version: 3 }
    await store.saveEndpoint(enabled, change('enabled', { version: 3, fields: ['status'] }))
    const failed = settle(host, { ...batch!, eventType: 'batch' }, retryAt(host.now + hour))
    await store.commit(group({ settlements: [failed] }))
    for (const record of records) {
      expect(await store.findDelivery(idOf(record))).toMatchObject({
        state: 'cancelled',
        reason: 'endpoint_disabled',
      })
    }
    expect((await store.audit()).problems).toEqual([])
  },

  'one that is marked ends when its owner dies': async ({ store, host, reopen }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    await store.cancelSome([idOf(record)], 'by_request', host.now)
    const again = await reopen()
    expect(await again.findDelivery(idOf(record))).toMatchObject({
      state: 'cancelled',
      reason: 'by_request',
    })
    expect(await again.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await again.audit()).problems).toEqual([])
  },

  'correctness 12: a member of a sealed batch is not cancelled alone, the batch with all its members is':
    async ({ store, host }) => {
      const dueAtMs = host.now + 5_000
      const records = ['a', 'b', 'c', 'd'].map((id) => accept(host, { id, dueAtMs }))
      await commitAccepts(store, ...records)
      const rule = { size: 3, maxBytes: 10_000 }
      const [batch] = await claimAll(store, host, 'endpoint', rule)
      expect(await store.cancelSome([idOf(records[0])], 'by_request', host.now)).toEqual([
        'in-batch',
      ])
      await store.commit(
        group({
          settlements: [settle(host, { ...batch!, eventType: 'batch' }, retryAt(host.now))],
        }),
      )
      const { endpointKey: key } = batch!
      const cancelled: string[] = []
      for (;;) {
        const some = await store.cancelDeliveries(key, 'by_request', host.now, 10)
        if (some.length === 0) break
        cancelled.push(...some)
      }
      // Deliveries are counted, not the batch that carries them.
      expect(cancelled.sort()).toEqual(records.map(idOf).sort())
      expect((await store.audit()).problems).toEqual([])
    },
}
