import { expect } from 'vitest'
import { deliveryId } from '../../../src/model/ids.ts'
import type { Stories } from '../conformance.ts'
import {
  accept,
  bytes,
  change,
  claimAll,
  commitAccepts,
  day,
  endpoint,
  endpointKey,
  group,
  ownedOf,
  query,
  settle,
  text,
} from '../fixtures.ts'

export const acceptStories: Stories = {
  'an accepted event is found with its deliveries': async ({ store, host }) => {
    const record = accept(host, { id: 'a', to: ['one', 'two'], body: '{"id":"a","data":"안녕"}' })
    expect(await commitAccepts(store, record)).toEqual({
      accepts: [{ kind: 'stored' }],
      settlements: [],
    })
    const found = await store.findEvent('', 'a')
    expect(found).toMatchObject({
      key: record.event.key,
      type: 'message.sent',
      acceptedAtMs: host.now,
      pendingFanOut: 0,
    })
    expect(text(found?.body)).toBe('{"id":"a","data":"안녕"}')
    expect(found?.deliveries.map(({ endpointKey: key, state }) => [key, state])).toEqual([
      [endpointKey('one'), 'waiting'],
      [endpointKey('two'), 'waiting'],
    ])
  },

  'an event that nobody wants is stored with no delivery': async ({ store, host }) => {
    await commitAccepts(store, accept(host, { id: 'a', to: [] }))
    expect(await store.findEvent('', 'a')).toMatchObject({ id: 'a', deliveries: [] })
    expect(await store.findEvent('', 'b')).toBeNull()
  },

  'what ends at once is cancelled with its reason, wide or not, and never waits': async ({
    store,
    host,
  }) => {
    const why = 'endpoint_backlog_full'
    await commitAccepts(
      store,
      accept(host, { id: 'a', to: ['one'], ended: why }),
      accept(host, { id: 'b', to: ['one', 'two'], ended: why, wide: true }),
      accept(host, { id: 'c', to: ['one'] }),
    )
    await store.fanOut(10, host.now)
    for (const id of ['a', 'b']) {
      for (const found of (await store.findEvent('', id))?.deliveries ?? []) {
        expect(found).toMatchObject({ state: 'cancelled', reason: why, attempts: 0 })
      }
    }
    expect((await store.findEvent('', 'b'))?.deliveries).toHaveLength(2)
    expect(await store.countLive()).toEqual([{ endpointKey: endpointKey('one'), deliveries: 1 }])
    expect((await store.backlog()).waiting).toBe(1)
  },

  'correctness R1: an owned delivery is in flight with token 1, the others wait': async ({
    store,
    host,
  }) => {
    const owned = accept(host, { owned: true })
    await commitAccepts(store, owned, accept(host))
    expect(await store.findDelivery(ownedOf(owned).deliveryId)).toMatchObject({
      state: 'delivering',
      attempts: 0,
    })
    expect(await store.backlog()).toEqual({ waiting: 1, delivering: 1, oldestDueAtMs: host.now })
    expect(await claimAll(store, host)).toHaveLength(1)
  },

  'correctness R3: repeating a group whose answer was lost changes nothing': async ({
    store,
    host,
  }) => {
    const records = Array.from({ length: 20 }, () => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    const settled = records.map((record) => settle(host, ownedOf(record)))
    await store.commit(group({ settlements: settled.slice(0, 10) }))
    const again = await store.commit(group({ accepts: records, settlements: settled }))
    expect(again.accepts.every(({ kind }) => kind === 'stored')).toBe(true)
    expect(again.settlements).toEqual([...Array(10).fill('repeated'), ...Array(10).fill('written')])
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 9: the same id again is a duplicate, with or without the same content': async ({
    store,
    host,
  }) => {
    const first = accept(host, { id: 'a', hash: 'h', to: ['one', 'two'], body: '{"first":1}' })
    await commitAccepts(store, first)
    host.now += 5
    const { accepts } = await commitAccepts(
      store,
      accept(host, { id: 'a', hash: 'h' }),
      accept(host, { id: 'a', hash: 'other' }),
    )
    const known = {
      kind: 'duplicate',
      eventKey: first.event.key,
      acceptedAtMs: first.event.acceptedAtMs,
      body: bytes('{"first":1}'),
      deliveryIds: first.deliveries.map(({ id }) => id).sort(),
    }
    expect(accepts).toEqual([
      { ...known, sameContent: true, isErased: false },
      { ...known, sameContent: false, isErased: false },
    ])
    expect(await store.listDeliveries(query())).toHaveLength(2)
  },

  'correctness 9: the same id twice in one group: the first is stored': async ({ store, host }) => {
    const others = Array.from({ length: 14 }, () => accept(host))
    const first = accept(host, { id: 'twin', hash: 'h' })
    const { accepts } = await commitAccepts(
      store,
      ...others,
      first,
      accept(host, { id: 'twin', hash: 'h' }),
      accept(host, { id: 'twin', hash: 'x' }),
    )
    expect(accepts.slice(0, 15).every(({ kind }) => kind === 'stored')).toBe(true)
    expect(accepts.slice(15)).toMatchObject([
      { kind: 'duplicate', eventKey: first.event.key, sameContent: true },
      { kind: 'duplicate', sameContent: false, deliveryIds: [first.deliveries[0]!.id] },
    ])
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 9: an id is known beyond midnight, whatever day its event is of': async (scene) => {
    const { store, host } = scene
    const first = accept(host, { id: 'a', hash: 'h' })
    await commitAccepts(store, first)
    for (const later of [1, 2, 20]) {
      host.now = first.event.acceptedAtMs + later * day
      const { accepts } = await commitAccepts(store, accept(host, { id: 'a', hash: 'h' }))
      expect(accepts).toMatchObject([{ kind: 'duplicate', eventKey: first.event.key }])
    }
    expect(await store.backlog()).toMatchObject({ waiting: 1 })
  },

  'correctness 9: two callers race with one id: one wins, both learn who': async ({
    store,
    host,
  }) => {
    const racers = Array.from({ length: 8 }, () => accept(host, { id: 'raced', hash: 'h' }))
    const results = await Promise.all(racers.map((record) => commitAccepts(store, record)))
    const kinds = results.map(({ accepts }) => accepts[0]!.kind).sort()
    expect(kinds).toEqual([...Array(7).fill('duplicate'), 'stored'])
    expect((await store.findEvent('', 'raced'))?.deliveries).toHaveLength(1)
  },

  'correctness 9: an id belongs to its tenant; none is a tenant of its own': async ({
    store,
    host,
  }) => {
    const tenants = ['', 'a', 'b']
    const records = tenants.map((tenantId) => accept(host, { id: 'same', tenantId }))
    const { accepts } = await commitAccepts(store, ...records)
    expect(accepts.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'stored'])
    const again = tenants.map((tenantId) => accept(host, { id: 'same', tenantId }))
    expect((await commitAccepts(store, ...again)).accepts).toMatchObject(
      records.map(({ event }) => ({ kind: 'duplicate', eventKey: event.key })),
    )
    expect((await store.findEvent('b', 'same'))?.tenantId).toBe('b')
    expect(await store.findEvent('c', 'same')).toBeNull()
  },

  'correctness 1: a row that cannot be stored rejects the whole group as a plain error': async (
    scene,
  ) => {
    const { store, host } = scene
    const good = accept(host, { id: 'good' })
    const bad = accept(host, { id: 'bad' })
    const broken = { ...bad, event: { ...bad.event, matched: -1 } }
    const failure = await commitAccepts(store, good, broken).catch((error: Error) => error)
    expect(failure).toBeInstanceOf(Error)
    expect(failure).not.toHaveProperty('code')
    expect(await store.findEvent('', 'good')).toBeNull()
    expect(await store.backlog()).toMatchObject({ waiting: 0 })
    await commitAccepts(store, good)
    expect(await store.findEvent('', 'good')).not.toBeNull()
  },

  'correctness 1: bytes and text of any kind come back unchanged': async ({ store, host }) => {
    const body = JSON.stringify({ nul: '\u0000', emoji: '🙂', quote: '"\\' })
    const record = accept(host, { id: 'a', body, type: "it's.\u0000odd", owned: true })
    await commitAccepts(store, record)
    expect(text((await store.findEvent('', 'a'))?.body)).toBe(body)
    const answer = 'a\u0000b\u{1F642}'
    await store.commit(
      group({ settlements: [settle(host, ownedOf(record), undefined, { answer })] }),
    )
    const found = await store.findDelivery(ownedOf(record).deliveryId)
    const attempts = await store.attemptsOf([found!])
    expect(text(attempts.get(found!.id)?.[0]?.responseBody)).toBe(answer)
  },

  'correctness 6: an accept for an endpoint that was disabled meanwhile ends as cancelled': async (
    scene,
  ) => {
    const { store, host } = scene
    await store.saveEndpoint(endpoint('off', { status: 'disabled' }), change('disabled'))
    const record = accept(host, { to: ['off', 'on'] })
    await commitAccepts(store, record)
    expect(await store.findDelivery(record.deliveries[0]!.id)).toMatchObject({
      state: 'cancelled',
      reason: 'endpoint_disabled',
    })
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 16: a wide event is one row first and fans out piece by piece': async ({
    store,
    host,
  }) => {
    const to = Array.from({ length: 25 }, (_, i) => `e${i + 10}`)
    await commitAccepts(store, accept(host, { id: 'wide', to, wide: true }), accept(host))
    expect(await store.findEvent('', 'wide')).toMatchObject({ pendingFanOut: 25, deliveries: [] })
    expect((await store.audit()).problems).toEqual([])
    const first = await store.fanOut(10, host.now)
    expect(first).toEqual({
      endpointKeys: to.slice(0, 10).map(endpointKey),
      cancelled: [],
      more: true,
    })
    expect(await store.findEvent('', 'wide')).toMatchObject({ pendingFanOut: 15 })
    expect((await store.audit()).problems).toEqual([])
    const second = await store.fanOut(1_000, host.now)
    expect(second.endpointKeys).toHaveLength(15)
    expect(second.more).toBe(false)
    const found = await store.findEvent('', 'wide')
    expect(found?.deliveries).toHaveLength(25)
    expect(found?.deliveries[0]?.id).toBe(
      deliveryId(found!.key, found!.deliveries[0]!.endpointKey, 1),
    )
    expect(await store.fanOut(10, host.now)).toEqual({
      endpointKeys: [],
      cancelled: [],
      more: false,
    })
    expect(await store.backlog()).toMatchObject({ waiting: 26 })
  },

  'correctness 16: a fan-out that was interrupted goes on after a restart': async ({
    store,
    host,
    reopen,
  }) => {
    const to = Array.from({ length: 5 }, (_, i) => `e${i + 10}`)
    await commitAccepts(store, accept(host, { id: 'wide', to, wide: true }))
    await store.fanOut(2, host.now)
    const again = await reopen()
    await again.fanOut(100, host.now)
    expect((await again.findEvent('', 'wide'))?.deliveries).toHaveLength(5)
    expect((await again.audit()).problems).toEqual([])
  },
}
