// Who owns what, when one of several processes is slow, stopped or dead. Each process is a store of
// its own with a clock of its own; the numbers are the points of docs/decisions/0012.
import { manualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { deliveryId } from '../../src/model/ids.ts'
import { Database, type Pool, Schema } from '../../src/storage/postgres/connection.ts'
import { hintPauseMs } from '../../src/storage/postgres/hints.ts'
import { postgres } from '../../src/storage/postgres/postgres.ts'
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
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

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
      await this.#isAtRest()
      this.#waits = false
      const polled = new Promise<void>((resolve) => this.#polled.push(resolve))
      this.#clock.advance(1_000)
      await polled
    }
  }

  /** The same where due times are read too seldom to wait for. */
  async polls(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 1_000) {
      await this.#isAtRest()
      this.#waits = false
      this.#clock.advance(1_000)
    }
    await this.#isAtRest()
  }

  async #isAtRest(): Promise<void> {
    while (!this.#waits) await new Promise(setImmediate)
  }

  /** Its clock goes on, but nothing runs: SIGSTOP. */
  sleeps(ms: number): void {
    // Its next poll is due now, and has to be over before anything is judged by it.
    this.#waits = false
    this.#clock.advance(ms)
  }

  /** Its clock goes on while something runs. */
  passes(ms: number): void {
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

  test('correctness R1: what is taken over is sent at once, however seldom due times are read', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    const locked = await connected()
    await locked.query(`begin; lock table ${schema.name}.live`)
    const polled = two.polls(1_000)
    await waitsForLock()
    // The due times take it a second: it may not read them again for fifty.
    two.passes(1_000)
    await locked.query('commit')
    await locked.end()
    await polled
    two.told.length = 0
    await two.polls(leaseMs + 2_000)
    expect(two.told).toContain(`due ${endpointKey('endpoint')}`)
    expect(await claimAll(two.store, host)).toHaveLength(1)
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

  test('correctness 6: a claim tells that endpoints have changed elsewhere', async () => {
    await one.store.saveEndpoint(endpoint('new'), change('registered'), null)
    const { version } = await one.store.changedEndpoints(-1)
    expect(two.told).not.toContain(`endpoints ${version}`)
    await claimAll(two.store, host)
    expect(two.told).toContain(`endpoints ${version}`)
  })

  test('correctness 6: no change that commits later has a lower number', async () => {
    const { version } = await two.store.changedEndpoints(-1)
    const earlier = await connected()
    await earlier.query(`begin; update ${schema.name}.endpoints_version set number = number + 1`)
    const later = one.store.saveEndpoint(endpoint('later'), change('registered'), null)
    await waitsForLock()
    expect((await two.store.changedEndpoints(-1)).version).toBe(version)
    await earlier.query('commit')
    await earlier.end()
    expect(await later).toBe(true)
    expect((await two.store.changedEndpoints(version + 1)).endpoints).toMatchObject([
      { id: 'later' },
    ])
  })

  test('correctness 6: a hold that began first and commits last is not passed over', async () => {
    const slow = await connected()
    await slow.query(
      `begin; insert into ${schema.name}.endpoint_flow (endpoint_key, held_until_ms)
              values ('${endpointKey('slow')}', ${host.now + 60_000})`,
    )
    const open = { state: 'open', epoch: 1, untilMs: host.now + 30_000, openings: 1 } as const
    await one.store.changeBreaker(endpointKey('quick'), open)
    await two.lives(2_000)
    expect(two.told).toContain(`flow ${endpointKey('quick')}`)
    expect(two.told).not.toContain(`flow ${endpointKey('slow')}`)
    await slow.query('commit')
    await slow.end()
    await two.lives(2_000)
    expect(two.told).toContain(`flow ${endpointKey('slow')}`)
  })

  test('correctness R1: the lease is one row, whatever is owned under it', async () => {
    const records = Array.from({ length: 500 }, () => accept(host, { owned: true }))
    await commitAccepts(one.store, ...records)
    const versions = () => rowsOf(`select id, xmin::text from ${schema.name}.live order by id`)
    const beats = async () =>
      Number((await rowsOf(`select max(beat)::int as n from ${schema.name}.worker`))[0]?.n)
    const [before, beaten] = [await versions(), await beats()]
    expect(before).toHaveLength(500)
    await one.lives(leaseMs)
    expect(await beats()).toBeGreaterThan(beaten + 1)
    expect(await versions()).toEqual(before)
    await one.store.commit(
      group({ settlements: records.map((record) => settle(host, ownedOf(record))) }),
    )
  })

  test('correctness 5: what a caller brings counts from his commit, whoever is gone by then', async () => {
    const caller = await connected()
    await caller.query('begin')
    const { event } = accept(host)
    await one.store.acceptWithin(caller, event)
    await two.lives(leaseMs + 2_000)
    const take = (store: Store) =>
      store.takeIntake((given) => {
        const { event: other, deliveries, ...record } = accept(host, { id: given.id, owned: true })
        const ofKey = deliveries.map((one) => ({
          ...one,
          id: deliveryId(given.key, one.endpointKey, 1),
        }))
        return { ...record, event: { ...other, key: given.key }, deliveries: ofKey }
      }, 10)
    expect(await take(two.store)).toEqual([])
    await caller.query('commit')
    await caller.end()
    const taken = await Promise.all([take(two.store), take(two.store)])
    expect(taken.flat()).toMatchObject([{ result: { kind: 'stored' } }])
    // Its lease is the taker's, and young.
    await two.lives(leaseMs - 1_000)
    await expect(claimAll(one.store, host)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
    await one.hears('lost')
    expect(await claimAll(one.store, host)).toEqual([])
    expect(await one.store.backlog()).toMatchObject({ delivering: 1 })
  })

  test('correctness 3: each process adds to sums of its own, and waits for nobody', async () => {
    const records = [one, two].map(() => accept(host, { owned: true }))
    for (const [i, { store }] of [one, two].entries()) {
      await commitAccepts(store, records[i]!)
      const settlements = [settle(host, ownedOf(records[i]!))]
      await store.commit(group({ settlements }))
    }
    const held = await connected()
    const writers = await rowsOf(`select distinct writer from ${schema.name}.rollup order by 1`)
    expect(writers).toHaveLength(2)
    const first = writers[0]?.writer
    await held.query(`begin; select from ${schema.name}.rollup where writer = ${first} for update`)
    const { slot: ofOne } = (
      await rowsOf(`select slot from ${schema.name}.worker order by id limit 1`)
    )[0] as { slot: number }
    const other = ofOne === first ? two : one
    const record = accept(host, { owned: true })
    await commitAccepts(other.store, record)
    const settlements = [settle(host, ownedOf(record))]
    expect((await other.store.commit(group({ settlements }))).settlements).toEqual(['written'])
    await held.query('commit')
    await held.end()
  })

  test('correctness 3: a late outcome is in no sum, and takes no number from anybody', async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    await two.lives(leaseMs + 2_000)
    const [claim] = await claimAll(two.store, host)
    const outcomes = await Promise.all([
      one.store.commit(group({ settlements: [settle(host, ownedOf(record))] })),
      two.store.commit(group({ settlements: [settle(host, claim!)] })),
    ])
    expect(outcomes.map(({ settlements }) => settlements)).toEqual([['late'], ['written']])
    const everything = { tenantId: null, endpointKey: null, fromMs: null, toMs: null }
    const sums = await two.store.statistics({ ...everything, perHour: false })
    expect(sums).toMatchObject([{ attempts: 1, deliveries: 1 }])
    const found = await two.store.findDelivery(claim!.deliveryId)
    const attempts = (await two.store.attemptsOf([found!])).get(claim!.deliveryId)
    expect(attempts?.map(({ number, late }) => [number, late])).toEqual([
      [1, true],
      [1, false],
    ])
  })

  test('correctness 3: two with the same ids in opposite order wait in one direction only', async () => {
    const seen: string[] = []
    const pool = new pg.Pool({ connectionString: schema.url, max: 4 })
    pool.on('connect', (client) => {
      const { query } = client
      client.query = ((...given: unknown[]) => {
        const answer: Promise<unknown> = Reflect.apply(query, client, given)
        answer?.catch?.((error: { code?: string }) => seen.push(error.code ?? 'none'))
        return answer
      }) as typeof client.query
    })
    const third = await postgres(pool, { schema: schema.name }).open(host)
    for (let round = 0; round < 20; round += 1) {
      const ids = Array.from({ length: 40 }, (_, i) => `r${round}_${i}`)
      const records = (order: readonly string[]) =>
        order.map((id) => accept(host, { id, hash: id }))
      const [up, down] = await Promise.all([
        commitAccepts(third, ...records(ids)),
        commitAccepts(third, ...records(ids.toReversed())),
      ])
      const stored = [...up.accepts, ...down.accepts].filter(({ kind }) => kind === 'stored')
      expect(stored).toHaveLength(40)
    }
    expect(seen).toEqual([])
    await third.close()
    await pool.end()
  })

  test('correctness 9: who waits for the same id learns who has won, and what is his', async () => {
    const winner = accept(host, { id: 'raced', hash: 'h' })
    const { key, acceptedAtMs } = winner.event
    const first = await connected()
    await first.query('begin')
    const values = [key, Buffer.from('h'), acceptedAtMs, Buffer.from('{}')]
    await first.query(
      `with k as (insert into ${schema.name}.event_key values ('', 'raced', $1, $2, $3))
       insert into ${schema.name}.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
       values ($1, '', 'raced', 'message.sent', $3, 0, $4)`,
      values,
    )
    const second = commitAccepts(two.store, accept(host, { id: 'raced', hash: 'h' }))
    await waitsForLock()
    await first.query('commit')
    await first.end()
    expect((await second).accepts).toMatchObject([
      { kind: 'duplicate', eventKey: key, sameContent: true, acceptedAtMs },
    ])
  })

  test("correctness 15: a server's clock that jumps a day ends no lease, and keeps none", async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    const jump = (by: string) =>
      rowsOf(`update ${schema.name}.worker set beaten_at = beaten_at ${by} interval '1 day',
                                              started_at = started_at ${by} interval '1 day'`)
    await jump('-')
    await two.lives(leaseMs - 2_000)
    expect(await claimAll(two.store, host)).toEqual([])
    await jump('+')
    await jump('+')
    await two.lives(4_000)
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })

  async function connected(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: schema.url })
    await client.connect()
    return client
  }

  async function rowsOf(statement: string): Promise<Record<string, unknown>[]> {
    return await onServer(schema.url, async (client) => (await client.query(statement)).rows)
  }

  /** Somebody waits for a row of this schema. */
  async function waitsForLock(): Promise<void> {
    const waiting = `select 1 from pg_stat_activity
                      where wait_event_type = 'Lock' and query like '%${schema.name}%'`
    while ((await rowsOf(waiting)).length === 0) await new Promise(setImmediate)
  }

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
