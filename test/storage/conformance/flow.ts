import { expect } from 'vitest'
import { type Breaker, closedBreaker } from '../../../src/model/flow.ts'
import type { Store } from '../../../src/storage/storage.ts'
import type { Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  endpoint,
  endpointKey,
  group,
  hour,
  ownedOf,
  retryAt,
  settle,
  type TestHost,
} from '../fixtures.ts'

const key = endpointKey('one')
const open = (epoch: number, untilMs: number): Breaker => ({
  state: 'open',
  epoch,
  untilMs,
  openings: 1,
})

async function hold(store: Store, host: TestHost, untilMs: number): Promise<void> {
  const record = accept(host, { owned: true, to: ['one'] })
  await commitAccepts(store, record)
  const held = { ...retryAt(untilMs), effect: { kind: 'hold', untilMs } } as const
  await store.commit(group({ settlements: [settle(host, ownedOf(record), held)] }))
}

export const flowStories: Stories = {
  'nothing is stored of an endpoint that was never held, broken or limited': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    expect(await store.findFlow(key)).toBeNull()
    expect(await store.loadFlows()).toEqual([])
  },

  'the longest hold counts, and is there after a restart': async ({ store, host, reopen }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await hold(store, host, host.now + 60_000)
    await hold(store, host, host.now + 5_000)
    const again = await reopen()
    const flow = await again.findFlow(key)
    expect(flow).toEqual({
      endpointKey: key,
      heldUntilMs: host.now + 60_000,
      breaker: closedBreaker,
      nextSendAtMs: 0,
    })
    expect(await again.loadFlows()).toEqual([flow])
  },

  'correctness 14: a breaker is changed from the state that was seen, once': async ({
    store,
    host,
    reopen,
  }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const tries = await Promise.all(
      [1, 2, 3].map((n) => store.changeBreaker(key, open(1, host.now + n))),
    )
    const [won] = tries.filter(({ isChanged }) => isChanged)
    expect(tries.filter(({ isChanged }) => isChanged)).toHaveLength(1)
    for (const { flow } of tries) expect(flow).toEqual(won?.flow)
    const halfOpen = { ...open(2, host.now + 90_000), state: 'half-open' } as const
    expect((await store.changeBreaker(key, halfOpen)).isChanged).toBe(true)
    expect((await store.changeBreaker(key, halfOpen)).isChanged).toBe(false)
    expect(await store.changeBreaker(key, open(9, 1))).toMatchObject({
      isChanged: false,
      flow: { breaker: halfOpen },
    })
    expect((await (await reopen()).findFlow(key))?.breaker).toEqual(halfOpen)
  },

  'a breaker of which nothing is stored can only be opened first': async ({ store }) => {
    const change = await store.changeBreaker(key, open(5, 1))
    expect(change).toMatchObject({ isChanged: false, flow: { breaker: closedBreaker } })
    expect(await store.findFlow(key)).toBeNull()
  },

  'a hold and a breaker leave each other alone': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await store.changeBreaker(key, open(1, host.now + 5))
    await hold(store, host, host.now + 60_000)
    await store.changeBreaker(key, open(2, host.now + 6))
    expect(await store.findFlow(key)).toMatchObject({
      heldUntilMs: host.now + 60_000,
      breaker: open(2, host.now + 6),
    })
  },

  'another address, and a word that it may be sent to, lift hold and breaker': async ({
    store,
    host,
  }) => {
    const record = endpoint('one')
    await store.saveEndpoint(record, change('registered'))
    await store.changeBreaker(key, open(1, host.now + 5))
    await hold(store, host, host.now + 60_000)
    const held = await store.findFlow(key)
    const others = [change('updated', { version: 2, fields: ['name', 'headers'] })]
    others.push(change('paused', { version: 2, fields: ['status'] }))
    for (const other of others) {
      const status = other.what === 'paused' ? 'paused' : 'active'
      await store.saveEndpoint({ ...record, status }, other)
      expect(await store.findFlow(key)).toEqual(held)
    }
    await store.saveEndpoint(record, change('resumed', { version: 3, fields: ['status'] }))
    const lifted = {
      endpointKey: key,
      heldUntilMs: 0,
      breaker: { ...closedBreaker, epoch: 2 },
      nextSendAtMs: 0,
    }
    expect(await store.findFlow(key)).toEqual(lifted)
    await hold(store, host, host.now + 60_000)
    await store.saveEndpoint(record, change('updated', { version: 4, fields: ['url'] }))
    expect(await store.findFlow(key)).toEqual({
      ...lifted,
      breaker: { ...closedBreaker, epoch: 3 },
    })
  },

  'correctness 14: send times are handed out once each, in their distance': async ({
    store,
    host,
    reopen,
  }) => {
    const ask = { endpointKey: key, count: 3, intervalMs: 100.5 }
    const other = { endpointKey: endpointKey('two'), count: 1, intervalMs: 1_000 }
    const given = await Promise.all(
      [1, 2, 3].map(() => store.takeSendTimes([ask, other], host.now, host.now + hour)),
    )
    const firsts = given.map(([one]) => one!.firstAtMs - host.now).sort((a, b) => a - b)
    for (const [i, ms] of [0, 301.5, 603].entries()) expect(firsts[i]).toBeCloseTo(ms, 3)
    const others = given.map(([, two]) => two!.firstAtMs - host.now).sort((a, b) => a - b)
    for (const [i, ms] of [0, 1_000, 2_000].entries()) expect(others[i]).toBeCloseTo(ms, 3)
    const again = await reopen()
    const [next] = await again.takeSendTimes([ask], host.now, host.now + hour)
    expect(next!.firstAtMs - host.now).toBeCloseTo(904.5, 3)
    expect(next).toMatchObject(ask)
  },

  'correctness 15: no send time lies in the past, or beyond all reason ahead': async ({
    store,
    host,
  }) => {
    const ask = { endpointKey: key, count: 2, intervalMs: 100 }
    await store.takeSendTimes([ask], host.now, host.now)
    const inAnHour = host.now + hour
    const [later] = await store.takeSendTimes([ask], inAnHour, inAnHour)
    expect(later?.firstAtMs).toBe(inAnHour)
    // The clock was wrong by an hour, and was set right.
    const [back] = await store.takeSendTimes([ask], host.now, host.now)
    expect(back).toEqual({ ...ask, firstAtMs: host.now })
    const [next] = await store.takeSendTimes([ask], host.now, host.now + 1_000)
    expect(next?.firstAtMs).toBe(host.now + 200)
  },

  'correctness 14: no send time is taken that comes later than wanted': async ({ store, host }) => {
    const ask = { endpointKey: key, count: 1, intervalMs: 60_000 }
    const other = { endpointKey: endpointKey('two'), count: 2, intervalMs: 100 }
    const takenAt = (nowMs: number) => store.takeSendTimes([ask, other], nowMs, nowMs + 1_000)
    const [first] = await takenAt(host.now)
    expect(first).toEqual({ ...ask, firstAtMs: host.now })
    const freeAtMs = host.now + 60_000
    for (let i = 0; i < 10; i += 1) {
      const [none, two] = await takenAt(host.now + i * 1_000)
      expect(none).toEqual({ ...ask, count: 0, firstAtMs: freeAtMs })
      expect(two?.count).toBe(2)
    }
    expect((await store.findFlow(key))?.nextSendAtMs).toBe(freeAtMs)
    // Of several that ask at one moment one has it, and the others learn that it is not theirs.
    const given = await Promise.all([1, 2, 3].map(() => takenAt(freeAtMs - 1_000)))
    const mine = given.map(([one]) => one)
    const won = mine.filter((one) => one?.count === 1)
    expect(won.map((one) => one?.firstAtMs)).toEqual([freeAtMs])
    for (const one of mine) if (one?.count === 0) expect(one.firstAtMs).toBeGreaterThan(freeAtMs)
    expect((await store.findFlow(key))?.nextSendAtMs).toBe(freeAtMs + 60_000)
  },

  'another rate limit begins anew, any other change does not': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const ask = { endpointKey: key, count: 5, intervalMs: 1_000 }
    await store.takeSendTimes([ask], host.now, host.now)
    const renamed = endpoint('one', { name: 'other', version: 2 })
    await store.saveEndpoint(renamed, change('updated', { version: 2, fields: ['name'] }))
    expect((await store.findFlow(key))?.nextSendAtMs).toBe(host.now + 5_000)
    const limited = endpoint('one', { rateLimit: { limit: 9, perMs: 60_000 }, version: 3 })
    await store.saveEndpoint(limited, change('updated', { version: 3, fields: ['rateLimit'] }))
    expect((await store.findFlow(key))?.nextSendAtMs).toBe(0)
    expect((await store.loadEndpoints())[0]?.rateLimit).toEqual({ limit: 9, perMs: 60_000 })
  },

  'a removed endpoint leaves nothing behind': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await store.changeBreaker(key, open(1, host.now))
    await store.removeEndpoint(key, change('removed', { version: 2 }))
    expect(await store.loadFlows()).toEqual([])
  },

  'a claim that is given back as it was keeps its due time': async ({ store, host }) => {
    const record = accept(host, { dueAtMs: host.now - 5_000 })
    await commitAccepts(store, record)
    const [claim] = await claimAll(store, host)
    const { deliveryId, token } = claim!
    await store.commit(group({ releases: [{ deliveryId, token, dueAtMs: null }] }))
    expect(await store.findDelivery(deliveryId)).toMatchObject({
      state: 'waiting',
      dueAtMs: host.now - 5_000,
      attempts: 0,
    })
  },
}
