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
  exhausted,
  group,
  ownedOf,
  retryAt,
  room,
  settle,
  text,
} from '../fixtures.ts'

const rule = { size: 3, maxBytes: 262_144 }
const timeoutMs = 5_000

export const batchStories: Stories = {
  'a batch is sealed when it is full': async ({ store, host }) => {
    const dueAtMs = host.now + timeoutMs
    const records = ['a', 'b', 'c', 'd'].map((id) => accept(host, { id, dueAtMs, tenantId: 't' }))
    await commitAccepts(store, ...records.slice(0, 2))
    const early = await store.claim([room('endpoint', 9, rule)], host.now)
    expect(early.claims).toEqual([])
    expect(early.heads[0]?.dueAtMs).toBe(dueAtMs)
    await commitAccepts(store, ...records.slice(2))
    const { claims, heads } = await store.claim([room('endpoint', 9, rule)], host.now)
    expect(claims).toHaveLength(1)
    const [batch] = claims
    expect(batch).toMatchObject({
      deliveryId: expect.stringMatching(/^bat_[0-9a-z]{24}$/),
      eventType: 'batch',
      tenantId: 't',
      token: 1,
      attempts: 0,
      acceptedAtMs: host.now,
    })
    expect(batch?.eventId).toBe(batch?.deliveryId)
    expect(text(batch!.body)).toBe('[{"id":"a"},{"id":"b"},{"id":"c"}]')
    expect(batch?.members).toEqual(
      records.slice(0, 3).map(({ event, deliveries }) => ({
        deliveryId: deliveries[0]!.id,
        eventId: event.id,
        eventType: event.type,
      })),
    )
    expect(heads[0]?.dueAtMs).toBe(dueAtMs)
    expect(await store.backlog()).toMatchObject({ waiting: 1, delivering: 3 })
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 12: a batch is sealed when its oldest member is due, however small': async ({
    store,
    host,
  }) => {
    await commitAccepts(store, accept(host, { id: 'a', dueAtMs: host.now + timeoutMs }))
    host.now += timeoutMs
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    expect(text(batch!.body)).toBe('[{"id":"a"}]')
  },

  'the head says at once when another full batch waits': async ({ store, host }) => {
    const dueAtMs = host.now + timeoutMs
    await commitAccepts(store, ...Array.from({ length: 7 }, () => accept(host, { dueAtMs })))
    const first = await store.claim([room('endpoint', 1, rule)], host.now)
    expect(first.claims).toHaveLength(1)
    expect(first.heads[0]?.dueAtMs).toBe(host.now)
    const second = await store.claim([room('endpoint', 1, rule)], host.now)
    expect(second.claims).toHaveLength(1)
    expect(second.heads[0]?.dueAtMs).toBe(dueAtMs)
  },

  'a batch never grows past its bytes, but takes one member however large': async (scene) => {
    const { store, host } = scene
    const body = `{"x":"${'y'.repeat(90)}"}`
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host, { body })))
    const small = { size: 10, maxBytes: 2 * body.length + 3 }
    const batches = await claimAll(store, host, 'endpoint', small)
    expect(batches.map(({ members }) => members?.length)).toEqual([2, 1])
    expect(batches[0]?.body.length).toBe(small.maxBytes)
    await commitAccepts(store, accept(host, { body }), accept(host, { body }))
    const oneLess = { ...small, maxBytes: small.maxBytes - 1 }
    const singles = await claimAll(store, host, 'endpoint', oneLess)
    expect(singles.map(({ members }) => members?.length)).toEqual([1, 1])
    await commitAccepts(store, accept(host, { body }), accept(host, { body }))
    const tiny = await claimAll(store, host, 'endpoint', { size: 10, maxBytes: 5 })
    expect(tiny.map(({ members }) => members?.length)).toEqual([1, 1])
  },

  'correctness 12: a batch that is tried again is the same: id, members and bytes': async (
    scene,
  ) => {
    const { host, reopen } = scene
    await commitAccepts(scene.store, ...[1, 2, 3].map(() => accept(host)))
    const [sealed] = await claimAll(scene.store, host, 'endpoint', rule)
    const dueAtMs = host.now + 100
    await scene.store.commit(
      group({ settlements: [settle(host, sealed!, retryAt(dueAtMs), { outcome: 'faulted' })] }),
    )
    await commitAccepts(scene.store, ...[1, 2].map(() => accept(host)))
    const store = await reopen()
    host.now = dueAtMs
    const [again, fresh] = await claimAll(store, host, 'endpoint', rule)
    expect(again).toEqual({
      ...{ ...sealed!, token: 2, attempts: 1 },
      ...{ isFresh: false, takenAtMs: dueAtMs },
    })
    expect(fresh?.members).toHaveLength(2)
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 12: a crash in flight leaves the sealed batch as it was': async ({
    store: first,
    host,
    reopen,
  }) => {
    await commitAccepts(first, ...[1, 2, 3].map(() => accept(host)))
    const [sealed] = await claimAll(first, host, 'endpoint', rule)
    const store = await reopen()
    expect(await store.backlog()).toMatchObject({ waiting: 3, delivering: 0 })
    const [again] = await claimAll(store, host, 'endpoint', rule)
    expect(again).toEqual({ ...sealed!, token: 2 })
  },

  'correctness 12: the end of a batch is the end of each member': async ({ store, host }) => {
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host)))
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    const flying = await store.findDelivery(batch!.members![0]!.deliveryId)
    expect(flying).toMatchObject({ state: 'delivering', batchId: batch!.deliveryId, attempts: 0 })
    const dueAtMs = host.now + 100
    await store.commit(group({ settlements: [settle(host, batch!, retryAt(dueAtMs))] }))
    expect(await store.findDelivery(batch!.members![0]!.deliveryId)).toMatchObject({
      state: 'waiting',
      reason: 'status_503',
      attempts: 1,
      dueAtMs,
    })
    host.now = dueAtMs
    const [again] = await claimAll(store, host, 'endpoint', rule)
    await store.commit(group({ settlements: [settle(host, again!, exhausted)] }))
    for (const { deliveryId } of batch!.members!) {
      const found = await store.findDelivery(deliveryId)
      expect(found).toMatchObject({
        state: 'exhausted',
        reason: 'status_500',
        attempts: 2,
        batchId: batch!.deliveryId,
      })
      const attempts = (await store.attemptsOf([found!])).get(deliveryId)
      expect(attempts?.map(({ number }) => number)).toEqual([1, 2])
    }
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'a batch counts as one attempt, and each member as a delivery of its own type': async (scene) => {
    const { store, host } = scene
    const types = ['message.read', 'message.sent', 'message.read']
    await commitAccepts(store, ...types.map((type) => accept(host, { type })))
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    const first = { latencyMs: 2, outcome: 'faulted' } as const
    const retried = settle(host, batch!, retryAt(host.now), first)
    await store.commit(group({ settlements: [retried] }))
    const [again] = await claimAll(store, host, 'endpoint', rule)
    const single = accept(host, { owned: true })
    await commitAccepts(store, single)
    const settlements = [
      settle(host, again!, delivered, { latencyMs: 40 }),
      settle(host, ownedOf(single), delivered, { latencyMs: 40 }),
    ]
    await store.commit(group({ settlements }))
    const repeated = await store.commit(group({ settlements }))
    expect(repeated.settlements).toEqual(['repeated', 'repeated'])
    for (const key of [endpointKey('endpoint'), null]) {
      const sums = await store.statistics({
        tenantId: '',
        endpointKey: key,
        fromMs: null,
        toMs: null,
        perHour: false,
      })
      expect(sums.map((row) => [row.eventType, row.state, row.attempts, row.deliveries])).toEqual([
        ['message.read', 'delivered', 1, 2],
        ['message.read', 'waiting', 1, 2],
        ['message.sent', 'delivered', 1, 2],
        ['message.sent', 'waiting', 0, 1],
      ])
      expect(sums.map(({ latencySumMs }) => latencySumMs)).toEqual([80, 4, 80, 2])
    }
    expect((await store.audit()).problems).toEqual([])
  },

  'a released batch stays sealed': async ({ store, host }) => {
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host)))
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    await store.commit(
      group({ releases: [{ deliveryId: batch!.deliveryId, token: 1, dueAtMs: host.now }] }),
    )
    expect(await store.backlog()).toMatchObject({ waiting: 3, delivering: 0 })
    // Also for a lane that makes no batches any more.
    const [again] = await claimAll(store, host)
    expect(again).toEqual({ ...batch!, token: 2 })
  },

  'retries and replays are never put into a batch': async ({ store, host }) => {
    const tried = accept(host, { owned: true })
    const ended = accept(host, { owned: true })
    await commitAccepts(store, tried, ended)
    await store.commit(
      group({
        settlements: [
          settle(host, ownedOf(tried), retryAt(host.now)),
          settle(host, ownedOf(ended), delivered),
        ],
      }),
    )
    await store.retryDelivery(ended.deliveries[0]!.id, host.now)
    await commitAccepts(store, accept(host))
    const claims = await claimAll(store, host, 'endpoint', rule)
    expect(claims.map(({ members }) => members?.length ?? 'alone').sort()).toEqual([
      1,
      'alone',
      'alone',
    ])
  },

  'retrying a member makes its batch due': async ({ store, host }) => {
    await commitAccepts(store, ...[1, 2, 3].map(() => accept(host)))
    const [batch] = await claimAll(store, host, 'endpoint', rule)
    const member = batch!.members![1]!.deliveryId
    expect(await store.retryDelivery(member, host.now)).toEqual({ kind: 'in-flight' })
    await store.commit(group({ settlements: [settle(host, batch!, retryAt(host.now + 9_000))] }))
    expect(await store.retryDelivery(member, host.now)).toMatchObject({ kind: 'moved' })
    expect((await claimAll(store, host, 'endpoint', rule))[0]?.deliveryId).toBe(batch?.deliveryId)
  },

  'a sealed batch is cancelled with its members': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('endpoint'), change('registered'))
    await commitAccepts(store, ...[1, 2, 3, 4].map(() => accept(host)))
    const [batch] = await claimAll(store, host, 'endpoint', { ...rule, size: 3 })
    await store.commit(group({ settlements: [settle(host, batch!, retryAt(host.now + 50))] }))
    const ended = await store.cancelDeliveries(
      endpointKey('endpoint'),
      'endpoint_disabled',
      host.now,
      100,
    )
    expect(ended).toEqual(
      expect.arrayContaining(batch!.members!.map(({ deliveryId }) => deliveryId)),
    )
    expect(await store.findDelivery(batch!.members![0]!.deliveryId)).toMatchObject({
      state: 'cancelled',
      reason: 'endpoint_disabled',
      attempts: 1,
    })
    expect((await store.audit()).problems).toEqual([])
  },
}
