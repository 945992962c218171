import { expect } from 'vitest'
import type { AcceptRecord } from '../../../src/storage/commit-records.ts'
import type { Stories } from '../conformance.ts'
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
  ownedOf,
  rejected,
  retryAt,
  settle,
  text,
} from '../fixtures.ts'

export const settleStories: Stories = {
  'each end is written with its reason and its attempt': async ({ store, host }) => {
    const records = [1, 2, 3].map(() => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    host.now += 40
    const ends = [delivered, exhausted, rejected]
    const settlements = records.map((record, i) => settle(host, ownedOf(record), ends[i]))
    expect((await store.commit(group({ settlements }))).settlements).toEqual(
      Array(3).fill('written'),
    )
    for (const [i, record] of records.entries()) {
      const found = await store.findDelivery(ownedOf(record).deliveryId)
      expect(found).toMatchObject({
        state: ends[i]!.state,
        reason: ends[i]!.reason,
        attempts: 1,
        dueAtMs: null,
        settledAtMs: host.now,
        createdAtMs: record.event.acceptedAtMs,
      })
    }
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'many settlements at once are each written': async ({ store, host }) => {
    const records = Array.from({ length: 100 }, () => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    const settlements = records.map((record, i) =>
      settle(host, ownedOf(record), i % 7 === 0 ? retryAt(host.now + 10) : delivered),
    )
    const result = await store.commit(group({ settlements }))
    expect(new Set(result.settlements)).toEqual(new Set(['written']))
    expect(await store.backlog()).toMatchObject({ waiting: 15, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness R2: a retry waits until it is due and then carries the next token': async ({
    store,
    host,
  }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    const dueAtMs = host.now + 2 ** 33
    await store.commit(group({ settlements: [settle(host, ownedOf(record), retryAt(dueAtMs))] }))
    const { claims, heads } = await store.claim(
      [{ endpointKey: endpointKey('endpoint'), limit: 5, batch: null }],
      dueAtMs - 1,
    )
    expect(claims).toEqual([])
    expect(heads).toEqual([{ endpointKey: endpointKey('endpoint'), dueAtMs }])
    host.now = dueAtMs
    const [claim] = await claimAll(store, host)
    expect(claim).toMatchObject({ token: 2, attempts: 1, eventType: 'message.sent' })
    await store.commit(group({ settlements: [settle(host, claim!)] }))
    const found = await store.findDelivery(claim!.deliveryId)
    expect(found).toMatchObject({ state: 'delivered', attempts: 2 })
    const attempts = (await store.attemptsOf([found!])).get(found!.id)
    expect(
      attempts?.map(({ number, outcome, httpStatus }) => [number, outcome, httpStatus]),
    ).toEqual([
      [1, 'faulted', 503],
      [2, 'accepted', 200],
    ])
    expect(text(attempts?.[0]?.responseBody)).toBe('ok')
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 3: a repeated settlement is told apart from a new one': async ({ store, host }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    const settlements = [settle(host, ownedOf(record))]
    const one = await store.commit(group({ settlements }))
    const two = await store.commit(group({ settlements }))
    expect([one.settlements, two.settlements]).toEqual([['written'], ['repeated']])
    const sums = await store.statistics({
      tenantId: null,
      endpointKey: null,
      fromMs: null,
      toMs: null,
      perHour: false,
    })
    expect(sums.map(({ attempts }) => attempts)).toEqual([1])
  },

  'correctness R2: an attempt of a lost claim is kept as late and decides nothing': async (
    scene,
  ) => {
    const { host, reopen } = scene
    const record = accept(host, { owned: true })
    await commitAccepts(scene.store, record)
    const store = await reopen()
    const [claim] = await claimAll(store, host)
    expect(claim?.token).toBe(2)
    const late = settle(host, ownedOf(record), rejected)
    expect((await store.commit(group({ settlements: [late] }))).settlements).toEqual(['late'])
    expect(await store.findDelivery(claim!.deliveryId)).toMatchObject({
      state: 'delivering',
      attempts: 0,
    })
    await store.commit(group({ settlements: [settle(host, claim!)] }))
    const found = await store.findDelivery(claim!.deliveryId)
    const attempts = (await store.attemptsOf([found!])).get(found!.id)
    expect(found).toMatchObject({ state: 'delivered', attempts: 1 })
    expect(attempts?.map((attempt) => attempt.late)).toEqual([true, false])
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness R2: a settlement of what was given back meanwhile is late': async ({
    store,
    host,
  }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    const { deliveryId } = ownedOf(record)
    await store.commit(group({ releases: [{ deliveryId, token: 1, dueAtMs: host.now }] }))
    const late = await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(late.settlements).toEqual(['late'])
    // Its answer was lost: it decides nothing now either.
    const again = await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(again.settlements).toEqual(['late'])
    expect(await store.findDelivery(deliveryId)).toMatchObject({ state: 'waiting', attempts: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'a settlement of a delivery that is not there is late': async ({ store, host }) => {
    const record = accept(host, { owned: true })
    const result = await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(result.settlements).toEqual(['late'])
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness R1: what a dead process owned waits again at once, due when it was': async (
    scene,
  ) => {
    const { host, reopen } = scene
    const owned = accept(host, { owned: true })
    await commitAccepts(scene.store, owned, accept(host))
    await claimAll(scene.store, host)
    const store = await reopen()
    expect(await store.backlog()).toEqual({ waiting: 2, delivering: 0, oldestDueAtMs: host.now })
    expect(await store.heads()).toEqual([
      { endpointKey: endpointKey('endpoint'), dueAtMs: host.now },
    ])
    expect((await store.audit()).problems).toEqual([])
    const claims = await claimAll(store, host)
    expect(claims.map(({ token, attempts }) => [token, attempts])).toEqual([
      [2, 0],
      [2, 0],
    ])
  },

  'correctness 15: after the clock was set back, what waits keeps its delay, not its time': async (
    scene,
  ) => {
    const { host, reopen } = scene
    const rightMs = host.now
    host.now += day
    const retried = accept(host, { id: 'retried', owned: true })
    const later = accept(host, { id: 'later', dueAtMs: rightMs + 2 * day })
    const timed = {
      ...later,
      deliveries: later.deliveries.map((one) => ({
        ...one,
        terms: { alone: true, expiresAtMs: null },
      })),
    }
    const loose = accept(host, { id: 'loose', dueAtMs: host.now + 5_000 })
    await commitAccepts(scene.store, retried, timed, loose)
    const dueAtMs = host.now + 60_000
    await scene.store.saveEndpoint(endpoint('held'), change('registered'))
    const held = { ...retryAt(dueAtMs), effect: { kind: 'hold', untilMs: dueAtMs } } as const
    await scene.store.commit(group({ settlements: [settle(host, ownedOf(retried), held)] }))
    host.now = rightMs + 1_000
    const store = await reopen()
    const dueOf = async (record: AcceptRecord) =>
      (await store.findDelivery(record.deliveries[0]!.id))?.dueAtMs ?? 0
    const delayMs = (await dueOf(retried)) - host.now
    expect(delayMs).toBeGreaterThan(59_000)
    expect(delayMs).toBeLessThanOrEqual(60_000)
    expect(await dueOf(loose)).toBe(host.now + 5_000)
    expect(await dueOf(timed)).toBe(rightMs + 2 * day)
    expect((await store.findFlow(endpointKey('endpoint')))?.heldUntilMs).toBeLessThanOrEqual(
      host.now,
    )
    expect((await store.audit()).problems).toEqual([])
  },

  'a released claim waits again and has used no attempt': async ({ store, host }) => {
    await commitAccepts(store, accept(host))
    const [claim] = await claimAll(store, host)
    const dueAtMs = host.now + 500
    const releases = [{ deliveryId: claim!.deliveryId, token: claim!.token, dueAtMs }]
    await store.commit(group({ releases }))
    await store.commit(group({ releases: [{ ...releases[0]!, token: 9, dueAtMs: 1 }] }))
    expect(await store.findDelivery(claim!.deliveryId)).toMatchObject({
      state: 'waiting',
      attempts: 0,
      dueAtMs,
    })
    host.now = dueAtMs
    expect((await claimAll(store, host))[0]?.token).toBe(2)
  },

  'a commit tells each member of a batch that it cut off, and what it refused': async ({
    store,
    host,
  }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const dueAtMs = host.now + 5_000
    const story = { to: ['one'], dueAtMs }
    const records = [1, 2, 3, 4].map(() => accept(host, story))
    expect((await commitAccepts(store, ...records)).cancelled).toBeUndefined()
    const rule = { size: 2, maxBytes: 10_000 }
    const [tried, unsent] = await claimAll(store, host, 'one', rule)
    const off = endpoint('one', { status: 'disabled' })
    await store.saveEndpoint(off, change('disabled', { version: 2, fields: ['status'] }))
    const late = accept(host, { to: ['one'] })
    const refused = accept(host, { to: ['one'], ended: 'endpoint_backlog_full' })
    const { cancelled = [] } = await store.commit(
      group({
        accepts: [late],
        settlements: [settle(host, { ...tried!, eventType: 'batch' }, retryAt(dueAtMs))],
        releases: [{ deliveryId: unsent!.deliveryId, token: unsent!.token, dueAtMs: null }],
      }),
    )
    const ids = [...records, late].map(({ deliveries }) => deliveries[0]!.id).sort()
    expect(cancelled.map(({ id }) => id).sort()).toEqual(ids)
    expect(new Set(cancelled.map(({ reason }) => reason))).toEqual(new Set(['endpoint_disabled']))
    // What the accept says itself is no news; a wide event says it when it becomes deliveries.
    const on = endpoint('one')
    await store.saveEndpoint(on, change('enabled', { version: 3, fields: ['status'] }))
    expect((await commitAccepts(store, refused)).cancelled).toBeUndefined()
    const wide = accept(host, { to: ['one'], wide: true, ended: 'endpoint_backlog_full' })
    await commitAccepts(store, wide)
    expect((await store.fanOut(10, host.now)).cancelled).toEqual([
      { id: wide.fanOutTo?.[0]?.id, reason: 'endpoint_backlog_full' },
    ])
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 6: a retry for an endpoint that went away ends as cancelled': async ({
    store,
    host,
  }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const records = [1, 2, 3].map(() => accept(host, { owned: true, to: ['one'] }))
    await commitAccepts(store, ...records)
    const [retried, released, finished] = records.map((record) => ownedOf(record))
    await store.removeEndpoint(endpointKey('one'), change('removed', { version: 2 }))
    const result = await store.commit(
      group({
        settlements: [
          settle(host, retried!, retryAt(host.now + 10)),
          settle(host, finished!, delivered),
        ],
        releases: [{ deliveryId: released!.deliveryId, token: 1, dueAtMs: host.now }],
      }),
    )
    const cutOff = [retried, released].map((one) => one!.deliveryId).sort()
    const cancelled = result.cancelled?.toSorted((a, b) => (a.id < b.id ? -1 : 1))
    expect(cancelled).toEqual(cutOff.map((id) => ({ id, reason: 'endpoint_removed' })))
    const states = await Promise.all(
      [retried, released, finished].map(async (one) => {
        const found = await store.findDelivery(one!.deliveryId)
        return [found?.state, found?.reason, found?.attempts]
      }),
    )
    expect(states).toEqual([
      ['cancelled', 'endpoint_removed', 1],
      ['cancelled', 'endpoint_removed', 0],
      ['delivered', 'status_200', 1],
    ])
    expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
    expect((await store.audit()).problems).toEqual([])
  },

  'effects reach the endpoint with the settlement that brought them': async ({ store, host }) => {
    const names = ['held', 'warned', 'gone']
    for (const name of names) await store.saveEndpoint(endpoint(name), change('registered'))
    const records = names.map((name) => accept(host, { owned: true, to: [name] }))
    await commitAccepts(store, ...records)
    const [held, warned, gone] = records.map((record) => ownedOf(record))
    const untilMs = host.now + 60_000
    const settlements = [
      settle(host, held!, { ...retryAt(untilMs), effect: { kind: 'hold', untilMs } }),
      settle(host, warned!, { ...delivered, effect: { kind: 'warn', warning: 'redirects' } }),
      settle(host, gone!, { ...rejected, effect: { kind: 'disable', reason: 'gone' } }),
    ]
    await store.commit(group({ settlements }))
    await store.commit(group({ settlements }))
    const saved = new Map((await store.loadEndpoints()).map((one) => [one.id, one]))
    expect((await store.findFlow(endpointKey('held')))?.heldUntilMs).toBe(untilMs)
    expect(saved.get('warned')?.warning).toBe('redirects')
    expect(saved.get('gone')).toMatchObject({
      status: 'disabled',
      statusReason: 'gone',
      statusChangedAtMs: host.now,
      version: 2,
    })
    const history = await store.endpointHistory(endpointKey('gone'), 100, null)
    expect(history.map(({ what, reason }) => [what, reason])).toEqual([
      ['registered', null],
      ['disabled', 'gone'],
    ])
  },
}
