import { expect } from 'vitest'
import type { Store } from '../../../src/storage/storage.ts'
import type { Scene, Stories } from '../conformance.ts'
import {
  accept,
  change,
  commitAccepts,
  day,
  delivered,
  endpoint,
  endpointKey,
  exhausted,
  group,
  hour,
  ownedOf,
  query,
  rejected,
  retryAt,
  settle,
} from '../fixtures.ts'

export const questionStories: Stories = {
  'deliveries come newest first, page by page, each once': async ({ store, host }) => {
    const ids: string[] = []
    for (let i = 0; i < 7; i += 1) {
      host.now += 10
      const record = accept(host, { to: ['one', 'two'], owned: i % 2 === 0 })
      ids.push(...record.deliveries.map(({ id }) => id))
      await commitAccepts(store, record)
      if (i % 2 > 0) continue
      await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    }
    const seen: string[] = []
    let before: string | null = null
    for (;;) {
      const page = await store.listDeliveries(query({ before, limit: 4 }))
      seen.push(...page.map(({ id }) => id))
      before = page.at(-1)?.id ?? null
      if (page.length < 4) break
    }
    expect(seen).toEqual(ids.sort().reverse())
  },

  "one endpoint's are found among everybody else's, at any time": async ({ store, host }) => {
    const ids: string[] = []
    for (let i = 0; i < 24; i += 1) {
      // Several in one moment, then seconds, then a day of nothing.
      host.now += i % 6 === 0 ? day : i % 3 === 0 ? 2_000 : 0
      const to = i % 5 === 0 ? ['rare', 'busy'] : ['busy']
      const record = accept(host, { to, owned: i % 2 === 0, wide: i % 10 === 5 })
      if (i % 5 === 0) ids.push(`dlv_${record.event.key}_${endpointKey('rare')}`)
      await commitAccepts(store, record)
      if (i % 10 === 5) await store.fanOut(100, host.now)
      if (i % 2 > 0) continue
      await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    }
    const rare = { endpointKey: endpointKey('rare') }
    const seen: string[] = []
    for (let before: string | null = null; ; ) {
      const [one] = await store.listDeliveries(query({ ...rare, before, limit: 1 }))
      if (!one) break
      seen.push(one.id)
      before = one.id
    }
    expect(seen).toEqual(ids.reverse())
    const all = await store.listDeliveries(query({ ...rare, limit: 100 }))
    expect(all.map(({ id }) => id)).toEqual(ids)
    const since = await store.listDeliveries(query({ ...rare, fromMs: host.now - day }))
    expect(since.length).toBeGreaterThan(0)
    expect(since.length).toBeLessThan(ids.length)
    expect(await store.listDeliveries(query({ endpointKey: endpointKey('none') }))).toEqual([])
    expect((await store.audit()).problems).toEqual([])
  },

  'each filter narrows the list': async (scene) => {
    const { store } = scene
    const { startedMs } = await mixedHistory(scene)
    const count = async (fields: Parameters<typeof query>[0]) =>
      (await store.listDeliveries(query(fields))).length
    expect(await count({})).toBe(10)
    expect(await count({ tenantId: 't' })).toBe(2)
    expect(await count({ tenantId: '' })).toBe(8)
    expect(await count({ endpointKey: endpointKey('two') })).toBe(2)
    expect(await count({ eventType: 'template.created' })).toBe(2)
    expect(await count({ states: ['delivered'] })).toBe(4)
    expect(await count({ states: ['waiting', 'delivering'] })).toBe(3)
    expect(await count({ states: ['exhausted', 'rejected'] })).toBe(3)
    expect(await count({ states: ['exhausted', 'delivering'] })).toBe(2)
    expect(await count({ states: ['waiting'], endpointKey: endpointKey('one') })).toBe(3)
    expect(await count({ states: ['rejected'], endpointKey: endpointKey('two') })).toBe(1)
    expect(await count({ fromMs: startedMs + hour })).toBe(5)
    expect(await count({ toMs: startedMs + hour })).toBe(5)
    expect(await count({ fromMs: startedMs + 1, toMs: startedMs + hour + 1 })).toBe(5)
  },

  'failed ones leave the list of open failures once retried': async (scene) => {
    const { store, host } = scene
    await mixedHistory(scene)
    const failures = () =>
      store.listDeliveries(query({ states: ['exhausted', 'rejected'], skipRetried: true }))
    const [first, ...others] = await failures()
    expect(others).toHaveLength(2)
    await store.retryDelivery(first!.id, host.now)
    expect((await failures()).map(({ id }) => id)).toEqual(others.map(({ id }) => id))
    const all = await store.listDeliveries(query({ states: ['exhausted', 'rejected'] }))
    expect(all).toHaveLength(3)
    expect((await store.audit()).problems).toEqual([])
  },

  'a delivery knows the id its endpoint has or had': async ({ store, host }) => {
    await store.saveEndpoint(endpoint('billing-hook'), change('registered'))
    const record = accept(host, { to: ['billing-hook'], owned: true })
    await commitAccepts(store, record)
    await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    await store.removeEndpoint(endpointKey('billing-hook'), change('removed', { version: 2 }))
    const found = await store.findDelivery(record.deliveries[0]!.id)
    expect(found?.endpointId).toBe('billing-hook')
  },

  'attempts of many deliveries are read at once': async ({ store, host }) => {
    const records = [1, 2, 3].map(() => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    await store.commit(
      group({
        settlements: [
          settle(host, ownedOf(records[0]!), exhausted, {
            outcome: 'timed-out',
            status: null,
            error: 'timed out (headers)',
            answer: null,
            latencyMs: 30_000.25,
          }),
          settle(host, ownedOf(records[1]!)),
        ],
      }),
    )
    const found = await store.listDeliveries(query())
    const attempts = await store.attemptsOf(found)
    expect([...attempts.values()].map((list) => list.length)).toEqual([0, 1, 1])
    expect(attempts.get(records[0]!.deliveries[0]!.id)).toEqual([
      {
        number: 1,
        startedAtMs: host.now,
        latencyMs: 30_000.25,
        outcome: 'timed-out',
        httpStatus: null,
        error: 'timed out (headers)',
        responseBody: null,
        endpointVersion: 1,
        late: false,
      },
    ])
  },

  'statistics sum attempts by type, outcome, state and latency class': async ({ store, host }) => {
    const records = Array.from({ length: 6 }, () => accept(host, { owned: true, to: ['one'] }))
    await commitAccepts(store, ...records)
    const settlements = records.map((record, i) =>
      settle(host, ownedOf(record), i < 4 ? delivered : retryAt(host.now + 1), {
        latencyMs: i === 0 ? 100 : 2,
      }),
    )
    await store.commit(group({ settlements }))
    const sums = await store.statistics(everything)
    expect(sums).toEqual([
      sum({ outcome: 'accepted', state: 'delivered', latencyClass: 3, attempts: 3, total: 6 }),
      sum({ outcome: 'accepted', state: 'delivered', latencyClass: 20, attempts: 1, total: 100 }),
      sum({ outcome: 'faulted', state: 'waiting', latencyClass: 3, attempts: 2, total: 4 }),
    ])
  },

  'statistics keep hours, endpoints and tenants apart': async (scene) => {
    const { store } = scene
    const { startedMs } = await mixedHistory(scene)
    const firstHour = startedMs - (startedMs % hour)
    const attempts = async (fields: Partial<typeof everything>) =>
      total(await store.statistics({ ...everything, ...fields }))
    expect(await attempts({})).toBe(8)
    expect(await attempts({ tenantId: 't' })).toBe(2)
    expect(await attempts({ endpointKey: endpointKey('two') })).toBe(2)
    expect(await attempts({ fromMs: firstHour + hour })).toBe(4)
    expect(await attempts({ toMs: firstHour + hour })).toBe(4)
    expect(await attempts({ endpointKey: endpointKey('one'), fromMs: firstHour + hour })).toBe(3)
    expect(await attempts({ fromMs: firstHour + 2 * hour })).toBe(0)
    // Whole hours: one that is touched counts.
    expect(await attempts({ fromMs: firstHour + hour + 1 })).toBe(4)
    expect(await attempts({ toMs: firstHour + 1 })).toBe(4)
    const perHour = await store.statistics({ ...everything, perHour: true })
    expect(new Set(perHour.map(({ hourMs }) => hourMs))).toEqual(
      new Set([firstHour, firstHour + hour]),
    )
    expect(total(perHour)).toBe(8)
  },

  'the backlog counts deliveries, and its oldest is the one most overdue': async (scene) => {
    const { store, host } = scene
    expect(await store.backlog()).toEqual({ waiting: 0, delivering: 0, oldestDueAtMs: null })
    await commitAccepts(
      store,
      accept(host, { to: ['one', 'two'], dueAtMs: host.now - 50 }),
      accept(host, { to: ['three'], dueAtMs: host.now + 50 }),
      accept(host, { to: ['three'], owned: true }),
    )
    expect(await store.backlog()).toEqual({
      waiting: 3,
      delivering: 1,
      oldestDueAtMs: host.now - 50,
    })
    await store.cancelDeliveries(endpointKey('one'), 'by request', host.now, 10)
    expect(await store.backlog()).toMatchObject({ waiting: 2, delivering: 1 })
  },

  'what nobody may send now is not the oldest due': async ({ store, host }) => {
    const heldUntilMs = host.now + 1_000
    await store.saveEndpoint(endpoint('open'), change('registered'))
    await store.saveEndpoint(endpoint('paused', { status: 'paused' }), change('registered'))
    await store.saveEndpoint(endpoint('held'), change('registered'))
    const open = { state: 'open', epoch: 1, untilMs: heldUntilMs, openings: 1 } as const
    await store.changeBreaker(endpointKey('held'), open)
    await commitAccepts(
      store,
      accept(host, { to: ['paused'], dueAtMs: host.now - 90_000 }),
      accept(host, { to: ['held'], dueAtMs: host.now - 60_000 }),
      accept(host, { to: ['open'], dueAtMs: host.now - 30_000 }),
    )
    const started = host.now
    expect((await store.backlog()).oldestDueAtMs).toBe(started - 30_000)
    host.now = heldUntilMs
    expect((await store.backlog()).oldestDueAtMs).toBe(started - 60_000)
  },
}

const everything = {
  tenantId: null as string | null,
  endpointKey: null as string | null,
  fromMs: null as number | null,
  toMs: null as number | null,
  perHour: false,
}

function sum(fields: {
  outcome: string
  state: string
  latencyClass: number
  attempts: number
  total: number
}) {
  const { total: latencySumMs, attempts, ...others } = fields
  return {
    hourMs: null,
    eventType: 'message.sent',
    attempts,
    deliveries: attempts,
    latencySumMs,
    ...others,
  }
}

function total(rows: Awaited<ReturnType<Store['statistics']>>): number {
  return rows.reduce((n, { attempts }) => n + attempts, 0)
}

/** Five deliveries, an hour later five more: each hour 2 delivered and another mix of the rest. */
async function mixedHistory({ store, host }: Scene): Promise<{ startedMs: number }> {
  const startedMs = host.now
  for (const wave of [0, 1]) {
    host.now = startedMs + wave * hour
    const stories = [
      { to: ['one'], owned: true },
      { to: ['one'], owned: true, tenantId: 't' },
      { to: ['two'], owned: true, type: 'template.created' },
      { to: ['one'], owned: true },
      { to: ['one'] },
    ]
    const records = stories.map((story) => accept(host, story))
    await commitAccepts(store, ...records)
    const ends = [
      delivered,
      delivered,
      wave === 0 ? rejected : exhausted,
      wave === 0 ? exhausted : retryAt(host.now + 2 ** 32),
    ]
    await store.commit(
      group({ settlements: ends.map((end, i) => settle(host, ownedOf(records[i]!), end)) }),
    )
  }
  return { startedMs }
}
