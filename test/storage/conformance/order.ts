import { expect } from 'vitest'
import type { Claim } from '../../../src/storage/claims.ts'
import type { AcceptRecord } from '../../../src/storage/commit-records.ts'
import type { Store } from '../../../src/storage/storage.ts'
import type { Scene, Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  day,
  delivered,
  endpoint,
  endpointKey,
  exhausted,
  group,
  rejected,
  retryAt,
  settle,
  type TestHost,
} from '../fixtures.ts'

const ordering = { key: 'userId', onExhausted: 'block' } as const

/** An event for an endpoint that keeps the order of this key. */
function ordered(host: TestHost, id: string, key: string, blocks = true): AcceptRecord {
  const record = accept(host, { id })
  const terms = { alone: true, expiresAtMs: null, order: { key, blocks } }
  return { ...record, deliveries: record.deliveries.map((one) => ({ ...one, terms })) }
}

async function acceptAll(
  { store, host }: Scene,
  ...stories: [string, string][]
): Promise<string[]> {
  const ids: string[] = []
  for (const [id, key] of stories) {
    const record = ordered(host, id, key)
    await commitAccepts(store, record)
    ids.push(record.deliveries[0]?.id ?? '')
  }
  return ids
}

async function claimed({ store, host }: Scene): Promise<Map<string, Claim>> {
  return new Map((await claimAll(store, host)).map((claim) => [claim.eventId, claim]))
}

async function end(scene: Scene, claim: Claim | undefined, how = delivered): Promise<void> {
  const record = { ...settle(scene.host, claim!, how), ordered: claim?.ordered }
  await scene.store.commit(group({ settlements: [record] }))
}

async function expectSound(store: Store): Promise<void> {
  expect((await store.audit()).problems).toEqual([])
}

export const orderStories: Stories = {
  'correctness 13: of each key only the first can be claimed; its end makes the next one due':
    async (scene) => {
      await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['b1', 'b'], ['a3', 'a'])
      const first = await claimed(scene)
      expect([...first.keys()].sort()).toEqual(['a1', 'b1'])
      expect(first.get('a1')?.ordered).toBe(true)
      expect((await claimed(scene)).size).toBe(0)
      await expectSound(scene.store)
      await end(scene, first.get('a1'))
      const second = await claimed(scene)
      expect([...second.keys()]).toEqual(['a2'])
      await end(scene, second.get('a2'))
      expect([...(await claimed(scene)).keys()]).toEqual(['a3'])
      await expectSound(scene.store)
    },

  'several of a key in one group, and without a key beside them': async (scene) => {
    const { store, host } = scene
    const records = ['1', '2', '3'].map((id) => ordered(host, id, "it's \\ {한}"))
    await commitAccepts(store, ...records, accept(host, { id: 'free' }))
    const order: string[] = []
    for (let round = 0; round < 3; round += 1) {
      const claims = await claimed(scene)
      order.push([...claims.keys()].sort().join())
      for (const claim of claims.values()) await end(scene, claim)
    }
    expect(order).toEqual(['1,free', '2', '3'])
    await expectSound(store)
  },

  'a retry keeps its place, and so does what is given back': async (scene) => {
    const { store, host } = scene
    await acceptAll(scene, ['a1', 'a'], ['a2', 'a'])
    const first = (await claimed(scene)).get('a1')
    await end(scene, first, retryAt(host.now + 1_000))
    const { heads, claims } = await store.claim(
      [{ endpointKey: endpointKey('endpoint'), limit: 9, batch: null }],
      host.now,
    )
    expect(claims).toEqual([])
    expect(heads).toEqual([{ endpointKey: endpointKey('endpoint'), dueAtMs: host.now + 1_000 }])
    expect(await store.heads()).toEqual(heads)
    host.now += 1_000
    const again = (await claimed(scene)).get('a1')
    const release = { deliveryId: again?.deliveryId ?? '', token: 2, dueAtMs: host.now }
    await store.commit(group({ releases: [release] }))
    expect([...(await claimed(scene)).keys()]).toEqual(['a1'])
    await expectSound(store)
  },

  'where nothing but what is held up is left, no head is told': async (scene) => {
    const { store, host } = scene
    const [first] = await acceptAll(scene, ['a1', 'a'], ['a2', 'a'])
    const claim = (await claimed(scene)).get('a1')
    const due = async () => (await store.heads()).filter(({ dueAtMs }) => dueAtMs !== null)
    expect(await due()).toEqual([])
    await end(scene, claim, exhausted)
    expect(await due()).toEqual([])
    expect((await claimed(scene)).size).toBe(0)
    // What comes later waits too, also after a restart.
    await acceptAll(scene, ['a3', 'a'], ['b1', 'b'])
    expect([...(await claimed(scene)).keys()]).toEqual(['b1'])
    await expectSound(store)
    expect(await store.releaseOrder(endpointKey('endpoint'), 'another', host.now)).toBe(false)
    expect(await store.releaseOrder(endpointKey('endpoint'), first ?? '', host.now)).toBe(true)
    expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
    await expectSound(store)
  },

  'the retry of what holds a key up comes before what waits': async (scene) => {
    const { store, host } = scene
    const [first, second] = await acceptAll(scene, ['a1', 'a'], ['a2', 'a'])
    await end(scene, (await claimed(scene)).get('a1'), rejected)
    expect(await store.retryDelivery(second ?? '', host.now)).toEqual({
      kind: 'behind another of its key',
    })
    expect(await store.retryDelivery(first ?? '', host.now)).toMatchObject({ kind: 'created' })
    await expectSound(store)
    const again = await claimed(scene)
    expect([...again.keys()]).toEqual(['a1'])
    await end(scene, again.get('a1'), exhausted)
    expect((await claimed(scene)).size).toBe(0)
    await store.retryDelivery(first ?? '', host.now)
    await end(scene, (await claimed(scene)).get('a1'))
    expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
    await expectSound(store)
  },

  'with `skip` the next goes on after a failure': async (scene) => {
    const { store, host } = scene
    await commitAccepts(store, ordered(host, 'a1', 'a', false), ordered(host, 'a2', 'a', false))
    await end(scene, (await claimed(scene)).get('a1'), exhausted)
    expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
    await expectSound(store)
  },

  'what is erased, expired or cancelled lets the next one go': async (scene) => {
    const { store, host } = scene
    const expiring = ordered(host, 'a1', 'a')
    const withEnd = expiring.deliveries.map((one) => ({
      ...one,
      terms: { ...one.terms!, expiresAtMs: host.now + 10 },
    }))
    await commitAccepts(store, { ...expiring, deliveries: withEnd })
    await acceptAll(scene, ['a2', 'a'], ['a3', 'a'], ['a4', 'a'])
    host.now += 10
    expect(await store.expireDeliveries(host.now, 10)).toHaveLength(1)
    await store.eraseEvents({ kind: 'ids', tenantId: '', ids: ['a2'] }, host.now, 10)
    await expectSound(store)
    const third = (await claimed(scene)).get('a3')
    expect(third).toBeDefined()
    const { deliveryId = '', token = 0 } = third ?? {}
    const release = { deliveryId, token, dueAtMs: host.now, cancelled: 'expired' }
    await store.commit(group({ releases: [release] }))
    await expectSound(store)
    expect([...(await claimed(scene)).keys()]).toEqual(['a4'])
  },

  'erasing what holds a key up lets the next one go, and no key is left of it': async (scene) => {
    const { store, host } = scene
    await store.saveEndpoint(endpoint('endpoint', { ordering }), change('registered'))
    await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['b1', 'b'], ['b2', 'b'])
    const heads = await claimed(scene)
    await end(scene, heads.get('a1'), exhausted)
    await end(scene, heads.get('b1'), rejected)
    const ids = { kind: 'ids', tenantId: '', ids: ['a1'] } as const
    expect(await store.eraseEvents(ids, host.now, 10)).toMatchObject({
      erased: 1,
      freed: [endpointKey('endpoint')],
    })
    expect((await store.blockedKeys(null, null, 9)).map(({ key }) => key)).toEqual(['b'])
    expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
    await expectSound(store)
  },

  'a change of the order frees keys, and what was accepted before it holds none up': async (
    scene,
  ) => {
    const { store, host } = scene
    await store.saveEndpoint(endpoint('endpoint', { ordering }), change('registered'))
    const stories: [string, string][] = ['a1', 'a2', 'b1', 'b2'].map((id) => [id, id.slice(0, 1)])
    await acceptAll(scene, ...stories)
    const heads = await claimed(scene)
    await end(scene, heads.get('a1'), exhausted)
    expect((await claimed(scene)).size).toBe(0)
    const changed = change('updated', { version: 2, fields: ['ordering'], atMs: host.now })
    await store.saveEndpoint(endpoint('endpoint', { version: 2 }), changed)
    expect(await store.blockedKeys(null, null, 9)).toEqual([])
    expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
    await end(scene, heads.get('b1'), rejected)
    expect([...(await claimed(scene)).keys()]).toEqual(['b2'])
    await expectSound(store)
  },

  'an endpoint that takes nothing any more holds nothing up when it comes back': async (scene) => {
    const { store, host } = scene
    await store.saveEndpoint(endpoint('endpoint', { ordering }), change('registered'))
    await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['a3', 'a'])
    await end(scene, (await claimed(scene)).get('a1'), exhausted)
    const disabled = endpoint('endpoint', { ordering, status: 'disabled', version: 2 })
    await store.saveEndpoint(disabled, change('disabled', { version: 2 }))
    const key = endpointKey('endpoint')
    expect(await store.cancelDeliveries(key, 'endpoint_disabled', host.now, 10)).toHaveLength(2)
    await store.saveEndpoint(
      endpoint('endpoint', { ordering, version: 3 }),
      change('enabled', { version: 3 }),
    )
    await acceptAll(scene, ['a4', 'a'])
    expect([...(await claimed(scene)).keys()]).toEqual(['a4'])
    await expectSound(store)
  },

  'a wide event takes its place at the end of each key': async (scene) => {
    const { store, host } = scene
    await acceptAll(scene, ['a1', 'a'])
    const wide = accept(host, { id: 'wide', to: ['endpoint', 'two'], wide: true })
    const order = { key: 'a', blocks: true }
    const terms = { alone: true, expiresAtMs: null, order }
    const fanOutTo = wide.fanOutTo?.map((one) => ({ ...one, terms })) ?? null
    await commitAccepts(store, { ...wide, fanOutTo })
    await store.fanOut(100, host.now)
    await acceptAll(scene, ['a3', 'a'])
    expect(await claimAll(store, host, 'two')).toMatchObject([{ eventId: 'wide' }])
    for (const id of ['a1', 'wide', 'a3']) {
      const claims = await claimed(scene)
      expect([...claims.keys()]).toEqual([id])
      await end(scene, claims.get(id))
    }
    await expectSound(store)
  },

  'correctness 13: a repair leaves what waits behind another, and puts what held its key up first':
    async (scene) => {
      const { store, host } = scene
      const ids = await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['b1', 'b'], ['b2', 'b'])
      const first = await claimed(scene)
      await end(scene, first.get('a1'), exhausted)
      await end(scene, first.get('b1'))
      const criteria = { sinceMs: 0, untilMs: host.now, types: null, states: [], metadata: null }
      const repair = {
        id: 'rep_1',
        kind: 'replay',
        criteria,
        maxPerSecond: 100,
        cursor: '0',
      } as const
      const endpointKeyOf = { tenantId: '', endpointKey: endpointKey('endpoint') }
      await store.createRepair({ ...repair, ...endpointKeyOf, createdAtMs: host.now })
      const step = { id: 'rep_1', from: '0', to: null, nextStepAtMs: host.now, matched: 4 }
      const { record } = await store.stepRepair({ ...step, skipped: {}, take: ids }, host.now)
      expect(record).toMatchObject({ queued: 3, skipped: { behind_another: 1 } })
      const claims = await claimed(scene)
      expect([...claims.keys()].sort()).toEqual(['a1', 'b1', 'b2'])
      expect(claims.get('a1')).toMatchObject({ deliveryId: `${ids[0]}_r2`, ordered: true })
      await end(scene, claims.get('a1'))
      expect([...(await claimed(scene)).keys()]).toEqual(['a2'])
      await expectSound(store)
    },

  'a head that is cancelled in flight lets the next one go': async (scene) => {
    const { store, host } = scene
    await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['a3', 'a'])
    for (const [id, how] of [
      ['a1', retryAt(host.now + 60_000)],
      ['a2', delivered],
    ] as const) {
      const claim = (await claimed(scene)).get(id)
      const marked = await store.cancelSome([claim?.deliveryId ?? ''], 'by_request', host.now)
      expect(marked).toEqual(['marked'])
      await end(scene, claim, how as typeof delivered)
    }
    expect([...(await claimed(scene)).keys()]).toEqual(['a3'])
    await expectSound(store)
  },

  'a head that was cancelled lets the next one go when its owner dies': async (scene) => {
    const { store, host } = scene
    await acceptAll(scene, ['a1', 'a'], ['a2', 'a'])
    const claim = (await claimed(scene)).get('a1')
    await store.cancelSome([claim?.deliveryId ?? ''], 'by_request', host.now)
    const again = await scene.reopen()
    expect([...(await claimed({ ...scene, store: again })).keys()]).toEqual(['a2'])
    await expectSound(again)
  },

  'what is cancelled by request leaves a key held up, and moves on one that is not': async (
    scene,
  ) => {
    const { store, host } = scene
    const key = endpointKey('endpoint')
    const ids = await acceptAll(scene, ['a1', 'a'], ['a2', 'a'], ['b1', 'b'], ['b2', 'b'])
    await end(scene, (await claimed(scene)).get('a1'), exhausted)
    const some = await store.cancelSome([ids[2] ?? ''], 'by_request', host.now)
    expect(some).toEqual(['marked'])
    expect(await store.cancelDeliveries(key, 'by_request', host.now, 10)).toHaveLength(2)
    await acceptAll(scene, ['a3', 'a'])
    expect((await claimed(scene)).size).toBe(0)
    expect(await store.releaseOrder(key, ids[0] ?? '', host.now)).toBe(true)
    expect([...(await claimed(scene)).keys()]).toEqual(['a3'])
    await expectSound(store)
  },

  'what holds a key up outlives retention, with its body, until it is let go': async (scene) => {
    const { store, host } = scene
    const key = endpointKey('endpoint')
    await store.saveEndpoint(endpoint('endpoint', { ordering }), change('registered'))
    const [first = '', , other = ''] = await acceptAll(
      scene,
      ...([
        ['a1', 'a'],
        ['a2', 'a'],
        ['b1', 'b'],
        ['b2', 'b'],
      ] as [string, string][]),
    )
    const heads = await claimed(scene)
    await end(scene, heads.get('a1'), exhausted)
    await end(scene, heads.get('b1'), rejected)
    host.now += 60 * day
    await pruneAll(store, host.now)
    expect(await store.findDelivery(first)).toMatchObject({ state: 'exhausted' })
    expect((await store.findEvent('', 'b1'))?.body).not.toBeNull()
    expect((await store.blockedKeys(null, key, 9)).map(({ deliveryId }) => deliveryId)).toEqual(
      [first, other].sort(),
    )
    await expectSound(store)
    // The one is sent again before what waits, the other is skipped.
    expect(await store.retryDelivery(first, host.now)).toMatchObject({ kind: 'created' })
    expect(await store.releaseOrder(key, other, host.now)).toBe(true)
    const next = await claimed(scene)
    expect([...next.keys()].sort()).toEqual(['a1', 'b2'])
    await end(scene, next.get('a1'))
    await end(scene, next.get('b2'))
    await end(scene, (await claimed(scene)).get('a2'))
    host.now += 60 * day
    await pruneAll(store, host.now)
    await pruneAll(store, host.now)
    expect((await store.audit()).counts).toMatchObject({ events: 0, exhausted: 0, rejected: 0 })
    await expectSound(store)
  },
}

/** Everything that was there before, as far as retention may take it. */
async function pruneAll(store: Store, ms: number): Promise<void> {
  const cutoffs = {
    settledBeforeMs: ms,
    deliveredBodiesBeforeMs: ms,
    failedBodiesBeforeMs: ms,
    eventIdsBeforeMs: ms,
  }
  for (let some = 1; some > 0; ) some = await store.prune(cutoffs, 5)
}
