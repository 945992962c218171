import { expect } from 'vitest'
import type { Claim } from '../../../src/storage/claims.ts'
import type { Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  day,
  endpoint,
  endpointKey,
  exhausted,
  group,
  ownedOf,
  retryAt,
  settle,
  text,
} from '../fixtures.ts'

export const eraseStories: Stories = {
  'erasing holds also for an answer that comes too late to count': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const [kept, gone] = ['kept', 'gone'].map((id) => accept(host, { id, owned: true }))
    await commitAccepts(store, kept!, gone!)
    const owned = [ownedOf(kept!), ownedOf(gone!)]
    const releases = owned.map(({ deliveryId }) => ({ deliveryId, token: 1, dueAtMs: host.now }))
    await store.commit(group({ releases }))
    await store.eraseEvents({ kind: 'ids', tenantId: '', ids: ['gone'] }, host.now, 100)
    const settlements = owned.map((one) => settle(host, one, exhausted, { answer: '010-1234' }))
    expect((await store.commit(group({ settlements }))).settlements).toEqual(['late', 'late'])
    const found = await Promise.all(owned.map(({ deliveryId: id }) => store.findDelivery(id)))
    const attempts = await store.attemptsOf(found.map((one) => one!))
    expect(
      [...attempts.values()].map(([one]) => [one?.late, one?.error, text(one?.responseBody)]),
    ).toEqual([
      [true, 'HTTP 503', '010-1234'],
      [true, null, null],
    ])
  },

  'erasing takes bodies and answers, ends what waits, keeps the skeleton': async (scene) => {
    const { store, host } = scene
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const sent = accept(host, { id: 'sent', owned: true, tenantId: 't', to: ['one'] })
    const waits = accept(host, { id: 'waits', tenantId: 't', to: ['one'] })
    const wide = accept(host, { id: 'wide', tenantId: 't', to: ['one', 'two'], wide: true })
    const other = accept(host, { id: 'sent', tenantId: 'other', to: ['one'] })
    await commitAccepts(store, sent, waits, wide, other)
    await store.commit(
      group({
        settlements: [settle(host, ownedOf(sent), exhausted, { answer: 'hello 010-1234-5678' })],
      }),
    )
    const ids = ['sent', 'waits', 'wide', 'unknown']
    const result = await store.eraseEvents({ kind: 'ids', tenantId: 't', ids }, host.now, 100)
    expect(result).toEqual({
      erased: 3,
      more: false,
      inFlight: 0,
      marked: [],
      freed: [],
      mayBegin: 0,
    })
    const found = await store.findEvent('t', 'sent')
    expect(found).toMatchObject({ body: null, deliveries: [{ state: 'exhausted', attempts: 1 }] })
    const attempts = await store.attemptsOf(found!.deliveries)
    expect([...attempts.values()][0]).toMatchObject([{ responseBody: null, error: null }])
    expect((await store.findEvent('t', 'waits'))?.deliveries).toMatchObject([
      { state: 'cancelled', reason: 'erased' },
    ])
    expect(await store.findEvent('t', 'wide')).toMatchObject({ pendingFanOut: 0, deliveries: [] })
    expect((await store.findEvent('other', 'sent'))?.body).not.toBeNull()
    expect((await store.audit()).problems).toEqual([])
    const again = await store.eraseEvents({ kind: 'ids', tenantId: 't', ids }, host.now, 100)
    expect(again).toEqual({
      erased: 0,
      more: false,
      inFlight: 0,
      marked: [],
      freed: [],
      mayBegin: 0,
    })
    // Nothing is left to compare it with.
    const { accepts } = await commitAccepts(store, accept(host, { id: 'sent', tenantId: 't' }))
    expect(accepts).toMatchObject([{ kind: 'duplicate', isErased: true, body: null }])
  },

  'erasing takes what was answered to attempts that another followed': async ({ store, host }) => {
    const record = accept(host, { id: 'a', owned: true })
    await commitAccepts(store, record)
    const personal = { answer: 'hello 010-1234-5678', error: 'HTTP 503 to 010-1234-5678' }
    const retry = settle(host, ownedOf(record), retryAt(host.now), personal)
    await store.commit(group({ settlements: [retry] }))
    const [second] = await claimAll(store, host)
    await store.commit(group({ settlements: [settle(host, second!, exhausted, personal)] }))
    const ids = { kind: 'ids', tenantId: '', ids: ['a'] } as const
    expect(await store.eraseEvents(ids, host.now, 10)).toMatchObject({ erased: 1 })
    const { deliveries } = (await store.findEvent('', 'a'))!
    const [attempts] = [...(await store.attemptsOf(deliveries)).values()]
    const skeleton = { outcome: 'faulted', httpStatus: 503, responseBody: null, error: null }
    expect(attempts).toMatchObject([skeleton, skeleton])
  },

  'what is in flight is not erased, and said to be': async ({ store, host }) => {
    const flying = accept(host, { id: 'flying', owned: true })
    await commitAccepts(store, flying, accept(host, { id: 'still' }))
    const before = { kind: 'before', tenantId: null, beforeMs: host.now + 1 } as const
    expect(await store.eraseEvents(before, host.now, 100)).toEqual({
      erased: 1,
      more: true,
      mayBegin: 0,
      inFlight: 1,
      freed: [],
      marked: [{ id: flying.deliveries[0]?.id, endpointKey: endpointKey('endpoint') }],
    })
    await store.commit(group({ settlements: [settle(host, ownedOf(flying))] }))
    expect(await store.eraseEvents(before, host.now, 100)).toMatchObject({ erased: 1, more: false })
    expect((await store.findEvent('', 'flying'))?.body).toBeNull()
  },

  'of what is in flight nothing is sent again, and nothing else of its event': async (scene) => {
    const { store, host } = scene
    await commitAccepts(
      store,
      ...['tried', 'back', 'dies'].map((id) => accept(host, { id, to: ['endpoint', 'two'] })),
      accept(host, { id: 'wide', to: ['endpoint', 'two'] }),
    )
    const claims = await claimAll(store, host)
    const byEvent = new Map(claims.map((claim) => [claim.eventId, claim]))
    const ids = [...byEvent.keys()]
    const erase = () => store.eraseEvents({ kind: 'ids', tenantId: '', ids }, host.now, 100)
    const { marked, ...result } = await erase()
    expect(result).toEqual({ erased: 0, more: true, inFlight: 4, freed: [], mayBegin: 0 })
    expect(marked.map(({ id }) => id).sort()).toEqual(
      claims.map(({ deliveryId }) => deliveryId).sort(),
    )
    expect(await claimAll(store, host, 'two')).toEqual([])
    const [tried, back, wide] = ['tried', 'back', 'wide'].map((id) => byEvent.get(id)!)
    const { deliveryId, token } = back!
    await store.commit(
      group({
        settlements: [settle(host, tried!, retryAt(host.now + 10)), settle(host, wide!)],
        releases: [{ deliveryId, token, dueAtMs: null }],
      }),
    )
    const again = await scene.reopen()
    host.now += day
    expect(await claimAll(again, host)).toEqual([])
    const states = async (id: string) =>
      (await again.findEvent('', id))?.deliveries.map(({ state, reason }) => [state, reason])
    const erased = ['cancelled', 'erased']
    for (const id of ['tried', 'back', 'dies']) expect(await states(id)).toEqual([erased, erased])
    expect((await states('wide'))?.sort()).toEqual([erased, ['delivered', 'status_200']].sort())
    const last = await again.eraseEvents({ kind: 'ids', tenantId: '', ids }, host.now, 100)
    expect(last).toEqual({
      erased: 4,
      more: false,
      inFlight: 0,
      marked: [],
      freed: [],
      mayBegin: 0,
    })
    expect((await again.audit()).problems).toEqual([])
  },

  'a tenant is erased in steps, and nobody else': async ({ store, host }) => {
    const tenants = ['t', 'u', 't', '', 't', 't', 'u', 't']
    await commitAccepts(
      store,
      ...tenants.map((tenantId, i) => accept(host, { id: `e${i}`, tenantId })),
    )
    let erased = 0
    for (let more = true; more; ) {
      const step = await store.eraseEvents({ kind: 'tenant', tenantId: 't' }, host.now, 2)
      erased += step.erased
      more = step.more
    }
    expect(erased).toBe(5)
    expect((await store.findEvent('u', 'e1'))?.body).not.toBeNull()
    expect((await store.findEvent('', 'e3'))?.body).not.toBeNull()
    expect((await store.audit()).problems).toEqual([])
  },

  'a sealed batch with an erased event is taken apart': async ({ store, host }) => {
    const records = ['a', 'b', 'c'].map((id) => accept(host, { id }))
    await commitAccepts(store, ...records)
    const rule = { size: 3, maxBytes: 10_000 }
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    await store.commit(group({ settlements: [settle(host, batch!, retryAt(host.now + 10))] }))
    const ids = { kind: 'ids', tenantId: '', ids: ['b'] } as const
    const result = await store.eraseEvents(ids, host.now, 10)
    expect(result).toEqual({
      erased: 1,
      more: false,
      inFlight: 0,
      marked: [],
      freed: [],
      mayBegin: 0,
    })
    expect((await store.audit()).problems).toEqual([])
    const [anew] = await claimAll(store, host, 'endpoint', rule)
    expect(anew?.deliveryId).not.toBe(batch?.deliveryId)
    expect(text(anew?.body)).toBe('[{"id":"a"},{"id":"c"}]')
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 2 })
  },

  'a batch in flight with an erased event is taken apart when it would wait again': async (
    scene,
  ) => {
    const { host } = scene
    let { store } = scene
    const rule = { size: 3, maxBytes: 10_000 }
    const ways = {
      tried: (batch: Claim) =>
        store.commit(
          group({
            settlements: [
              settle(host, batch, retryAt(host.now + 10), { answer: 'hello 010-1234-5678' }),
            ],
          }),
        ),
      back: ({ deliveryId, token }: Claim) =>
        store.commit(group({ releases: [{ deliveryId, token, dueAtMs: null }] })),
      dies: async () => {
        store = await scene.reopen()
      },
    }
    for (const [way, end] of Object.entries(ways)) {
      const [first = '', second = '', third = ''] = ['a', 'b', 'c'].map((name) => `${way}_${name}`)
      const records = [first, second, third].map((id) => accept(host, { id }))
      await commitAccepts(store, ...records)
      const [batch] = await claimAll(store, host, 'endpoint', rule)
      const ids = { kind: 'ids', tenantId: '', ids: [second] } as const
      expect(await store.eraseEvents(ids, host.now, 10)).toEqual({
        erased: 0,
        more: true,
        mayBegin: 0,
        inFlight: 1,
        freed: [],
        marked: [{ id: batch?.deliveryId, endpointKey: endpointKey('endpoint') }],
      })
      expect((await store.audit()).problems).toEqual([])
      await end(batch!)
      expect((await store.audit()).problems).toEqual([])
      const gone = await store.findDelivery(records[1]?.deliveries[0]?.id ?? '')
      expect(gone).toMatchObject({ state: 'cancelled', reason: 'erased' })
      expect(await store.eraseEvents(ids, host.now, 10)).toMatchObject({ erased: 1, inFlight: 0 })
      const [anew] = await claimAll(store, host, 'endpoint', { ...rule, size: 2 })
      expect(text(anew?.body)).toBe(`[{"id":"${first}"},{"id":"${third}"}]`)
      expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 2 })
      await store.commit(group({ settlements: [settle(host, anew!)] }))
    }
    expect((await store.audit()).problems).toEqual([])
  },
}
