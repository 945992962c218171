// What several stores on one database see of each other's writes.
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { deliveryId } from '../../src/model/ids.ts'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
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
import { connected, leaseMs, rowsOf, StoreProcess, waitsForLock } from './store-process.ts'

describe('several stores', () => {
  let schema: TestSchema
  let host: TestHost
  let one: StoreProcess
  let two: StoreProcess

  beforeEach(async () => {
    schema = freshSchema()
    host = testHost()
    one = await StoreProcess.start(schema, host)
    two = await StoreProcess.start(schema, host)
  })
  afterEach(async () => {
    expect((await two.store.audit()).problems).toEqual([])
    await one.store.close()
    await two.store.close()
    await schema.drop()
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
    const earlier = await connected(schema.url)
    await earlier.query(`begin; update ${schema.name}.endpoints_version set number = number + 1`)
    const later = one.store.saveEndpoint(endpoint('later'), change('registered'), null)
    await waitsForLock(schema)
    expect((await two.store.changedEndpoints(-1)).version).toBe(version)
    await earlier.query('commit')
    await earlier.end()
    expect(await later).toBe(true)
    expect((await two.store.changedEndpoints(version + 1)).endpoints).toMatchObject([
      { id: 'later' },
    ])
  })

  test('correctness 6: a hold that began first and commits last is not passed over', async () => {
    const slow = await connected(schema.url)
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

  test('correctness 5: what a caller brings counts from his commit, whoever is gone by then', async () => {
    const caller = await connected(schema.url)
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

  test('what callers have brought is erased before it is taken in, and leaves its skeleton', async () => {
    const caller = await connected(schema.url)
    await caller.query('begin')
    for (const id of ['one', 'two', 'two']) {
      const { event } = accept(host, { id, tenantId: 't' })
      await one.store.acceptWithin(caller, event)
    }
    await caller.query('commit')
    await caller.end()
    const unused = () => {
      throw new Error('Expected nothing to take in.')
    }
    const ids = { kind: 'ids', tenantId: 't', ids: ['one', 'none'] } as const
    expect(await two.store.eraseEvents(ids, host.now, 100)).toMatchObject({ erased: 1 })
    const rest = { kind: 'before', tenantId: 't', beforeMs: host.now + 1 } as const
    expect(await two.store.eraseEvents({ ...rest, tenantId: 'u' }, host.now, 100)).toMatchObject({
      erased: 0,
    })
    expect(await two.store.eraseEvents(rest, host.now, 100)).toMatchObject({ erased: 1 })
    expect(await two.store.takeIntake(unused, 10)).toEqual([])
    for (const id of ['one', 'two']) {
      const found = await two.store.findEvent('t', id)
      expect(found).toMatchObject({ id, body: null, deliveries: [], pendingFanOut: 0 })
    }
  })

  test('correctness 3: each process adds to sums of its own, and waits for nobody', async () => {
    const records = [one, two].map(() => accept(host, { owned: true }))
    for (const [i, { store }] of [one, two].entries()) {
      await commitAccepts(store, records[i]!)
      const settlements = [settle(host, ownedOf(records[i]!))]
      await store.commit(group({ settlements }))
    }
    const held = await connected(schema.url)
    const writers = await rowsOf(
      schema.url,
      `select distinct writer from ${schema.name}.rollup order by 1`,
    )
    expect(writers).toHaveLength(2)
    const first = writers[0]?.writer as number
    await held.query(`begin; select from ${schema.name}.rollup where writer = ${first} for update`)
    const { slot: ofOne } = (
      await rowsOf(schema.url, `select slot from ${schema.name}.worker order by id limit 1`)
    )[0] as { slot: number }
    // A slot has a thousand numbers, see rollup.ts.
    const other = ofOne === Math.floor(first / 1_000) ? two : one
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
    const first = await connected(schema.url)
    await first.query('begin')
    const values = [key, Buffer.from('h'), acceptedAtMs, Buffer.from('{}')]
    await first.query(
      `with k as (insert into ${schema.name}.event_key values ('', 'raced', $1, $2, $3))
       insert into ${schema.name}.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
       values ($1, '', 'raced', 'message.sent', $3, 0, $4)`,
      values,
    )
    const second = commitAccepts(two.store, accept(host, { id: 'raced', hash: 'h' }))
    await waitsForLock(schema)
    await first.query('commit')
    await first.end()
    expect((await second).accepts).toMatchObject([
      { kind: 'duplicate', eventKey: key, sameContent: true, acceptedAtMs },
    ])
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
