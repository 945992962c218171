import { expect } from 'vitest'
import type { Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  delivered,
  endpoint,
  endpointKey,
  group,
  ownedOf,
  retryAt,
  room,
  settle,
  text,
} from '../fixtures.ts'

export const claimStories: Stories = {
  'a claim carries all that is needed to send it': async ({ store, host }) => {
    const record = accept(host, {
      id: 'a',
      tenantId: 't',
      type: 'template.approved',
      body: '{"x":1}',
    })
    await commitAccepts(store, record)
    const [claim] = await claimAll(store, host)
    expect(claim).toEqual({
      deliveryId: record.deliveries[0]!.id,
      endpointKey: endpointKey('endpoint'),
      tenantId: 't',
      token: 1,
      attempts: 0,
      isFresh: true,
      eventId: 'a',
      eventType: 'template.approved',
      acceptedAtMs: host.now,
      body: expect.any(Uint8Array),
      members: null,
      takenAtMs: host.now,
    })
    expect(text(claim!.body)).toBe('{"x":1}')
    expect(await claimAll(store, host)).toEqual([])
  },

  'what was given back is found, though it is older than the head that memory knows': async ({
    store,
    host,
  }) => {
    await commitAccepts(store, accept(host, { id: 'old' }))
    const [old] = await claimAll(store, host)
    host.now += 30_000
    await commitAccepts(store, accept(host, { id: 'new' }))
    const { deliveryId = '', token = 0 } = old ?? {}
    await store.commit(group({ releases: [{ deliveryId, token, dueAtMs: null }] }))
    const { claims } = await store.claim([{ ...room('endpoint', 1), headMs: host.now }], host.now)
    expect(claims.map(({ eventId }) => eventId)).toEqual(['old'])
  },

  'correctness 8: the oldest due come first, up to the room, and the head tells what is next':
    async (scene) => {
      const { store, host } = scene
      const records = [30, 10, 20, 40].map((ms) => accept(host, { dueAtMs: host.now + ms }))
      await commitAccepts(store, ...records)
      const first = await store.claim([room('endpoint', 2)], host.now + 35)
      expect(first.claims.map(({ deliveryId }) => deliveryId)).toEqual([
        records[1]!.deliveries[0]!.id,
        records[2]!.deliveries[0]!.id,
      ])
      expect(first.heads).toEqual([
        { endpointKey: endpointKey('endpoint'), dueAtMs: host.now + 30 },
      ])
      const second = await store.claim([room('endpoint', 2)], host.now + 35)
      expect(second.claims).toHaveLength(1)
      expect(second.heads[0]?.dueAtMs).toBe(host.now + 40)
      const third = await store.claim([room('endpoint', 2)], host.now + 50)
      expect(third.heads).toEqual([{ endpointKey: endpointKey('endpoint'), dueAtMs: null }])
    },

  'without any room a claim tells the head alone, of a batching lane as well': async ({
    store,
    host,
  }) => {
    const batch = { size: 1, maxBytes: 1_000 }
    const rooms = [room('endpoint', 0), { ...room('other', 0), batch }]
    const to = ['endpoint', 'other']
    const records = [10, 20].map((ms) => accept(host, { dueAtMs: host.now + ms, to }))
    await commitAccepts(store, ...records)
    const { claims, heads } = await store.claim(rooms, host.now + 15)
    expect(claims).toEqual([])
    expect(heads.map(({ endpointKey: key }) => key)).toEqual(to.map(endpointKey))
    expect(heads[0]?.dueAtMs).toBe(host.now + 10)
    expect(heads[1]?.dueAtMs).toBeLessThanOrEqual(host.now + 15)
    expect(await claimAll(store, { ...host, now: host.now + 30 })).toHaveLength(2)
  },

  'three deliveries that were never tried come before one that was, however long it is due':
    async ({ store, host }) => {
      const retried = [accept(host, { owned: true }), accept(host, { owned: true })]
      const fresh = [10, 20, 30, 40].map((ms) => accept(host, { dueAtMs: host.now + ms }))
      await commitAccepts(store, ...retried, ...fresh)
      const settlements = retried.map((one) => settle(host, ownedOf(one), retryAt(host.now + 5)))
      await store.commit(group({ settlements }))
      const idOf = ({ deliveries }: { deliveries: readonly { id: string }[] }) => deliveries[0]!.id
      const { claims } = await store.claim([room('endpoint', 4)], host.now + 100)
      const taken = claims.map(({ deliveryId }) => deliveryId).sort()
      const first = retried.map(idOf).filter((id) => taken.includes(id))
      expect(first).toHaveLength(1)
      expect(taken).toEqual([...first, ...fresh.slice(0, 3).map(idOf)].sort())
      const rest = await store.claim([room('endpoint', 10)], host.now + 100)
      expect(rest.claims).toHaveLength(2)
      expect(rest.heads[0]?.dueAtMs).toBeNull()
    },

  'correctness 8: each lane gets its own room': async ({ store, host }) => {
    const to = ['one', 'two', 'three']
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host, { to })))
    const { claims, heads } = await store.claim([room('one', 1), room('two', 5)], host.now)
    expect(claims.map(({ endpointKey: key }) => key).sort()).toEqual([
      endpointKey('one'),
      endpointKey('two'),
      endpointKey('two'),
      endpointKey('two'),
    ])
    expect(heads.map(({ dueAtMs }) => dueAtMs)).toEqual([host.now, null])
    const left = await store.heads()
    expect(left.map(({ endpointKey: key }) => key).sort()).toEqual(
      [endpointKey('one'), endpointKey('three')].sort(),
    )
  },

  'times of its own: alone beside batches, and its end comes with the claim': async ({
    store,
    host,
  }) => {
    const timed = accept(host, { id: 'timed', dueAtMs: host.now + 1_000 })
    const loose = accept(host, { id: 'loose', dueAtMs: host.now + 5_000 })
    const expiresAtMs = host.now + 9_000
    const withTerms = {
      ...timed,
      deliveries: timed.deliveries.map((one) => ({ ...one, terms: { alone: true, expiresAtMs } })),
    }
    await commitAccepts(store, withTerms, loose)
    const batch = { size: 2, maxBytes: 1_000 }
    expect(await claimAll(store, host, 'endpoint', batch)).toEqual([])
    host.now += 1_000
    const claims = await claimAll(store, host, 'endpoint', batch)
    expect(claims).toMatchObject([{ eventId: 'timed', members: null, expiresAtMs }])
  },

  'what has expired ends, wherever it waits; what is in flight does not': async ({
    store,
    host,
  }) => {
    const expiring = (id: string, to: string, owned: boolean, afterMs: number | null) => {
      const record = accept(host, { id, to: [to], owned, dueAtMs: host.now + 60_000 })
      const expiresAtMs = afterMs === null ? null : host.now + afterMs
      const terms = { alone: true, expiresAtMs }
      return { ...record, deliveries: record.deliveries.map((one) => ({ ...one, terms })) }
    }
    const [soon, later, flying] = [
      expiring('soon', 'one', false, 10),
      expiring('later', 'one', false, 11),
      expiring('flying', 'two', true, 5),
    ]
    await commitAccepts(store, soon, later, flying, expiring('always', 'one', false, null))
    host.now += 10
    const ended = [{ id: soon.deliveries[0]?.id, endpointKey: endpointKey('one') }]
    expect(await store.expireDeliveries(host.now, 100)).toEqual(ended)
    expect(await store.expireDeliveries(host.now, 100)).toEqual([])
    expect(await store.findDelivery(soon.deliveries[0]?.id ?? '')).toMatchObject({
      state: 'cancelled',
      reason: 'expired',
      settledAtMs: host.now,
    })
    // Given back because its time was over before its turn came.
    const { deliveryId, token } = ownedOf(flying)
    const release = { deliveryId, token, dueAtMs: host.now, cancelled: 'expired' }
    await store.commit(group({ releases: [release] }))
    expect(await store.findDelivery(deliveryId)).toMatchObject({
      state: 'cancelled',
      reason: 'expired',
      attempts: 0,
    })
    expect(await store.backlog()).toMatchObject({ waiting: 2, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'a wide event keeps its times through the fan-out': async ({ store, host }) => {
    const wide = accept(host, { to: ['one', 'two'], wide: true, dueAtMs: host.now + 50 })
    const terms = { alone: true, expiresAtMs: host.now + 90 }
    const fanOutTo = wide.fanOutTo?.map((one) => ({ ...one, terms })) ?? null
    await commitAccepts(store, { ...wide, fanOutTo })
    await store.fanOut(100, host.now)
    expect(await claimAll(store, host, 'one')).toEqual([])
    host.now += 50
    expect(await claimAll(store, host, 'one')).toMatchObject([{ expiresAtMs: host.now + 40 }])
  },

  'correctness 8: nobody can claim what is claimed': async ({ store, host }) => {
    await commitAccepts(store, ...Array.from({ length: 40 }, () => accept(host)))
    const both = await Promise.all([
      store.claim([room('endpoint', 30)], host.now),
      store.claim([room('endpoint', 30)], host.now),
    ])
    const ids = both.flatMap(({ claims }) => claims.map(({ deliveryId }) => deliveryId))
    expect(ids).toHaveLength(40)
    expect(new Set(ids).size).toBe(40)
  },

  'cancelling ends what waits and leaves what is in flight': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('endpoint'), change('registered'))
    const flying = accept(host, { owned: true })
    await commitAccepts(store, flying, ...Array.from({ length: 5 }, () => accept(host)))
    const key = endpointKey('endpoint')
    const first = await store.cancelDeliveries(key, 'endpoint_removed', host.now, 3)
    const second = await store.cancelDeliveries(key, 'endpoint_removed', host.now, 3)
    const third = await store.cancelDeliveries(key, 'endpoint_removed', host.now, 3)
    expect([first.length, second.length, third.length]).toEqual([3, 2, 0])
    expect(await store.findDelivery(first[0]!)).toMatchObject({
      state: 'cancelled',
      reason: 'endpoint_removed',
      settledAtMs: host.now,
    })
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 1 })
    await store.commit(group({ settlements: [settle(host, ownedOf(flying), delivered)] }))
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 10: a waiting delivery can be made due now': async ({ store, host }) => {
    const record = accept(host, { dueAtMs: host.now + 60_000 })
    await commitAccepts(store, record)
    const deliveryId = record.deliveries[0]!.id
    expect(await store.retryDelivery(deliveryId, host.now)).toEqual({
      kind: 'moved',
      deliveryId,
      endpointKey: endpointKey('endpoint'),
      dueAtMs: host.now,
    })
    expect(await claimAll(store, host)).toHaveLength(1)
    expect(await store.retryDelivery(deliveryId, host.now)).toEqual({ kind: 'in-flight' })
    expect(await store.retryDelivery('dlv_nothing', host.now)).toEqual({ kind: 'unknown' })
  },

  'correctness 10: an ended delivery is repeated as a new round, and points to it': async ({
    store,
    host,
  }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    const first = record.deliveries[0]!.id
    await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    host.now += 1_000
    const made = await store.retryDelivery(first, host.now)
    expect(made).toMatchObject({ kind: 'created', deliveryId: `${first}_r2` })
    expect(await store.findDelivery(first)).toMatchObject({ retriedAs: `${first}_r2` })
    expect(await store.retryDelivery(first, host.now)).toMatchObject({
      kind: 'moved',
      deliveryId: `${first}_r2`,
    })
    const [claim] = await claimAll(store, host)
    expect(claim).toMatchObject({ deliveryId: `${first}_r2`, token: 1, attempts: 0 })
    await store.commit(group({ settlements: [settle(host, claim!)] }))
    expect(await store.retryDelivery(first, host.now)).toMatchObject({
      deliveryId: `${first}_r3`,
      kind: 'created',
    })
    const found = await store.findEvent('', record.event.id)
    expect(found?.deliveries.map(({ round }) => round)).toEqual([1, 2, 3])
    expect((await store.audit()).problems).toEqual([])
  },
}
