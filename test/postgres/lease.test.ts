// Who owns what, when one of several processes is slow, stopped or dead. Each process is a store of
// its own with a clock of its own; the numbers are the points of docs/decisions/0012.
import { manualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database, type Pool, Schema } from '../../src/storage/postgres/connection.ts'
import { hintPauseMs } from '../../src/storage/postgres/hints.ts'
import { openStore } from '../../src/storage/postgres/store.ts'
import { pollEveryMs } from '../../src/storage/postgres/watch.ts'
import type { Store, StoreWatcher } from '../../src/storage/storage.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  endpoint,
  endpointKey,
  group,
  ownedOf,
  settle,
  type TestHost,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

const leaseMs = 30_000

interface TimerWatch {
  set: (delayMs: number) => void
}

class Process {
  readonly store: Store
  readonly told: string[] = []
  readonly #clock: ReturnType<typeof manualClock>
  /** The timer of its next poll is set. */
  #waits = false
  #polled: (() => void)[] = []

  private constructor(store: Store, clock: ReturnType<typeof manualClock>, timers: TimerWatch) {
    this.store = store
    this.#clock = clock
    timers.set = (delayMs) => {
      if (delayMs <= pollEveryMs && delayMs !== hintPauseMs) this.#waits = true
    }
  }

  static async start(schema: TestSchema, host: TestHost): Promise<Process> {
    const clock = manualClock()
    const timers: TimerWatch = { set: () => {} }
    const pool = new pg.Pool({ connectionString: schema.url, max: 3 }) as unknown as Pool
    const database = new Database({
      pool,
      schema: new Schema(schema.name),
      location: 'the test',
      idleInTransactionMs: 10_000,
      random: Math.random,
    })
    const store = await openStore(database, host, {
      leaseMs,
      clock: {
        steadyMs: clock.nowMs,
        wallMs: clock.nowMs,
        setTimer(callback, delayMs) {
          timers.set(delayMs)
          return clock.setTimer(callback, delayMs)
        },
      },
      listen: null,
      onClose: () => pool.end(),
    })
    const started = new Process(store, clock, timers)
    await store.watch(started.#watcher())
    return started
  }

  #watcher(): StoreWatcher {
    return {
      endpointsChanged: (version) => this.told.push(`endpoints ${version}`),
      repairs: () => this.told.push('repairs'),
      flowsChanged: (flows) => this.told.push(...flows.map((one) => `flow ${one.endpointKey}`)),
      sharesChanged: () => true,
      intake: () => this.told.push('intake'),
      due: (heads) => {
        for (const { endpointKey: key } of heads) this.told.push(`due ${key}`)
        for (const resolve of this.#polled.splice(0)) resolve()
      },
      lost: () => this.told.push('lost'),
      confirmed: () => this.told.push('confirmed'),
    }
  }

  /** Its time passes second by second, and it does what it does in each. */
  async lives(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 1_000) {
      while (!this.#waits) await new Promise(setImmediate)
      this.#waits = false
      const polled = new Promise<void>((resolve) => this.#polled.push(resolve))
      this.#clock.advance(1_000)
      await polled
    }
  }

  /** Its clock goes on, but nothing runs: SIGSTOP. */
  sleeps(ms: number): void {
    // Its next poll is due now, and has to be over before anything is judged by it.
    this.#waits = false
    this.#clock.advance(ms)
  }

  async hears(what: string): Promise<void> {
    while (!this.told.includes(what)) await new Promise(setImmediate)
  }
}

describe('several processes', () => {
  let schema: TestSchema
  let host: TestHost
  let one: Process
  let two: Process

  beforeEach(async () => {
    schema = freshSchema()
    host = testHost()
    one = await Process.start(schema, host)
    two = await Process.start(schema, host)
  })
  afterEach(async () => {
    expect((await two.store.audit()).problems).toEqual([])
    await one.store.close()
    await two.store.close()
    await schema.drop()
  })

  test('correctness R1: what a dead one held is taken over when its lease is over, not before', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    await two.lives(leaseMs - 1_000)
    expect(await claimAll(two.store, host)).toEqual([])
    await two.lives(2_000)
    const [claim] = await claimAll(two.store, host)
    expect(claim).toMatchObject({ deliveryId: ownedOf(record).deliveryId, token: 2, attempts: 0 })
    // It was only asleep: what it did with the old token is kept, and decides nothing.
    const late = await one.store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(late.settlements).toEqual(['late'])
    const end = await two.store.commit(group({ settlements: [settle(host, claim!)] }))
    expect(end.settlements).toEqual(['written'])
  })

  test('correctness R1: is taken over although nobody lives for a whole lease', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    const crashing: Process[] = []
    for (let i = 0; i < 3; i += 1) {
      const another = await Process.start(schema, host)
      crashing.push(another)
      await another.lives(9_000)
      expect(await claimAll(another.store, host)).toEqual([])
    }
    const last = await Process.start(schema, host)
    await last.lives(9_000)
    expect(await claimAll(last.store, host)).toMatchObject([
      { deliveryId: ownedOf(record).deliveryId, token: 2 },
    ])
    const claims = ownedOf(record)
    const settled = settle(host, { ...claims, token: 2 })
    await last.store.commit(group({ settlements: [settled] }))
    for (const process of [...crashing, last]) await process.store.close()
  })

  test("correctness 15: silence before a beat is nobody's to count", async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    await two.lives(leaseMs - 5_000)
    await one.lives(leaseMs / 3)
    const newcomer = await Process.start(schema, host)
    await newcomer.lives(leaseMs - 2_000)
    expect(await claimAll(newcomer.store, host)).toEqual([])
    const end = await one.store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(end.settlements).toEqual(['written'])
    await newcomer.store.close()
  })

  test('correctness 4: one that beats keeps what it holds, however long', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    for (let i = 0; i < 5; i += 1) {
      await one.lives(leaseMs / 2)
      await two.lives(leaseMs / 2)
    }
    expect(await claimAll(two.store, host)).toEqual([])
    const end = await one.store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(end.settlements).toEqual(['written'])
  })

  test('correctness 15: after the database was away, everybody has a whole lease to show that he lives', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    await two.lives(2_000)
    // Nobody could beat or look meanwhile; this one is the first to be answered again.
    two.sleeps(leaseMs * 2)
    await two.lives(leaseMs - 1_000)
    expect(await claimAll(two.store, host)).toEqual([])
    const end = await one.store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    expect(end.settlements).toEqual(['written'])
  })

  test('a dead one whose last transaction is still open holds up nobody who looks', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    const locked = new pg.Client({ connectionString: schema.url })
    await locked.connect()
    await locked.query(`begin; select from ${schema.name}.worker for key share`)
    await two.lives(leaseMs + 2_000)
    expect(await claimAll(two.store, host)).toEqual([])
    await locked.end()
    await two.lives(2_000)
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })

  test('correctness 4: one that was stopped begins nothing until the server has answered', async () => {
    expect(one.store.isOwner).toBe(true)
    one.sleeps((leaseMs * 2) / 3 + 1)
    expect(one.store.isOwner).toBe(false)
    await one.hears('confirmed')
    expect(one.store.isOwner).toBe(true)
  })

  test('correctness R1: one whose lease is gone can own nothing, is told, and goes on as another', async () => {
    await two.lives(leaseMs + 2_000)
    const record = accept(host, { owned: true })
    const refused = { code: 'STORAGE_UNAVAILABLE' }
    await expect(commitAccepts(one.store, record)).rejects.toMatchObject(refused)
    expect(await two.store.findEvent('', record.event.id)).toBeNull()
    await one.hears('lost')
    expect((await commitAccepts(one.store, record)).accepts).toEqual([{ kind: 'stored' }])
    await two.lives(2_000)
    expect(await claimAll(two.store, host)).toEqual([])
    expect(await claimAll(one.store, host)).toEqual([])
  })

  test('correctness R1: a claim without a lease takes nothing', async () => {
    await commitAccepts(one.store, accept(host))
    await two.lives(leaseMs + 2_000)
    await expect(claimAll(one.store, host)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })

  test('one that leaves gives back at once', async () => {
    const third = await Process.start(schema, host)
    await commitAccepts(third.store, accept(host, { owned: true }))
    await third.store.close()
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })

  test('correctness 8: each delivery is claimed by one of them', async () => {
    await commitAccepts(one.store, ...Array.from({ length: 200 }, () => accept(host)))
    const claimed = await Promise.all(
      [one, two, one, two].map(({ store }) => claimAll(store, host)),
    )
    const ids = claimed.flat().map(({ deliveryId }) => deliveryId)
    expect(ids).toHaveLength(200)
    expect(new Set(ids).size).toBe(200)
  })

  test('correctness 6: an accept that was matched before a change elsewhere is refused', async () => {
    const [version] = two.told.map((said) => Number(said.split(' ')[1]))
    const matched = { ...accept(host, { to: [] }), endpointsVersion: version! }
    await one.store.saveEndpoint(endpoint('new'), change('registered'), null)
    expect((await commitAccepts(two.store, matched)).accepts).toEqual([{ kind: 'stale' }])
    expect(await two.store.findEvent('', matched.event.id)).toBeNull()
    await two.hears(`endpoints ${version! + 1}`)
    const again = { ...matched, endpointsVersion: version! + 1 }
    expect((await commitAccepts(two.store, again)).accepts).toEqual([{ kind: 'stored' }])
    // Repeated because its answer was lost, and stale by now: still its own.
    await one.store.saveEndpoint(endpoint('newer'), change('registered'), null)
    expect((await commitAccepts(two.store, again)).accepts).toEqual([{ kind: 'stored' }])
  })

  test('of a thousand endpoints only those that changed are read again', async () => {
    await one.store.saveEndpoint(endpoint('same'), change('registered'), null)
    await one.store.saveEndpoint(endpoint('gone'), change('registered'), null)
    const { version, endpoints } = await two.store.changedEndpoints(-1)
    expect(endpoints).toHaveLength(2)
    const renamed = endpoint('new', { name: 'other' })
    await one.store.saveEndpoint(renamed, change('registered'), null)
    await one.store.removeEndpoint(endpointKey('gone'), change('removed', { version: 2 }))
    expect(await two.store.changedEndpoints(version)).toEqual({
      version: version + 2,
      endpoints: [renamed],
      removedKeys: [endpointKey('gone')],
    })
    expect((await two.store.changedEndpoints(version + 2)).endpoints).toEqual([])
  })

  test('a breaker that one has opened the other is told of with its next poll', async () => {
    const open = { state: 'open', epoch: 1, untilMs: host.now + 30_000, openings: 1 } as const
    await one.store.changeBreaker(endpointKey('broken'), open)
    await two.lives(1_000)
    await two.hears(`flow ${endpointKey('broken')}`)
  })

  test('correctness 6: a change that began from an older version is refused', async () => {
    const first = endpoint('shop')
    expect(await one.store.saveEndpoint(first, change('registered'), null)).toBe(true)
    const twin = endpoint('shop', { key: endpointKey('twin') })
    expect(await two.store.saveEndpoint(twin, change('registered'), null)).toBe(false)
    const second = { ...first, version: 2, name: 'by one' }
    expect(await one.store.saveEndpoint(second, change('updated', { version: 2 }), 1)).toBe(true)
    const other = { ...first, version: 2, name: 'by two' }
    expect(await two.store.saveEndpoint(other, change('updated', { version: 2 }), 1)).toBe(false)
    expect(await two.store.loadEndpoints()).toEqual([second])
    expect(await two.store.endpointHistory(first.key, 100, null)).toHaveLength(2)
  })

  test('correctness 16: wide events are fanned out by all of them, each delivery once', async () => {
    const to = Array.from({ length: 30 }, (_, i) => `e${i + 10}`)
    const wide = [1, 2, 3, 4].map(() => accept(host, { to, wide: true }))
    await commitAccepts(one.store, ...wide)
    for (let more = true; more; ) {
      const steps = await Promise.all(
        [one, two, one, two].map(({ store }) => store.fanOut(10, host.now)),
      )
      more = steps.some((step) => step.more)
    }
    expect(await one.store.backlog()).toMatchObject({ waiting: 120 })
  })

  test('correctness 3: sums of all of them add up', async () => {
    for (const { store } of [one, two, one]) {
      const record = accept(host, { owned: true })
      await commitAccepts(store, record)
      await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    }
    const everything = { tenantId: null, endpointKey: null, fromMs: null, toMs: null }
    const sums = await one.store.statistics({ ...everything, perHour: false })
    expect(sums).toMatchObject([{ attempts: 3, deliveries: 3 }])
  })
})
