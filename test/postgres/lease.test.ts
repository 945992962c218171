// Who owns what, when one of several processes is slow, stopped or dead (docs/decisions/0012).
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gate } from '../journey/stage.ts'
import {
  accept,
  claimAll,
  commitAccepts,
  endpointKey,
  group,
  ownedOf,
  settle,
  type TestHost,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'
import { connected, leaseMs, rowsOf, StoreProcess, waitsForLock } from './store-process.ts'

describe('several processes', () => {
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
    const crashing: StoreProcess[] = []
    for (let i = 0; i < 3; i += 1) {
      const another = await StoreProcess.start(schema, host)
      crashing.push(another)
      await another.lives(9_000)
      expect(await claimAll(another.store, host)).toEqual([])
    }
    const last = await StoreProcess.start(schema, host)
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
    const locked = await connected(schema.url)
    await locked.query(`begin; lock table ${schema.name}.live`)
    const polled = two.polls(1_000)
    await waitsForLock(schema)
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

  test('correctness R1: a claim that is answered after it was taken over is not begun', async () => {
    const hold = gate()
    const claimed = gate()
    const asleep = await StoreProcess.start(schema, host, async (statement) => {
      if (!statement.includes('row_number() over')) return
      claimed.open()
      await hold.opened
    })
    const record = accept(host)
    await commitAccepts(two.store, record)
    const claims = claimAll(asleep.store, host).catch((error) => error.code)
    await claimed.opened
    await two.lives(leaseMs + 2_000)
    expect(await claimAll(two.store, host)).toMatchObject([{ token: 2 }])
    await asleep.lives(leaseMs / 3 + 1_000)
    await asleep.hears('lost')
    hold.open()
    expect(await claims).toBe('STORAGE_UNAVAILABLE')
    await asleep.store.close()
  })

  test("correctness 15: silence before a beat is nobody's to count", async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    await two.lives(leaseMs - 5_000)
    await one.lives(leaseMs / 3)
    const newcomer = await StoreProcess.start(schema, host)
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
    const third = await StoreProcess.start(schema, host)
    await commitAccepts(third.store, accept(host, { owned: true }))
    await third.store.close()
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })

  test('correctness R1: the lease is one row, whatever is owned under it', async () => {
    const records = Array.from({ length: 500 }, () => accept(host, { owned: true }))
    await commitAccepts(one.store, ...records)
    const versions = () =>
      rowsOf(schema.url, `select id, xmin::text from ${schema.name}.live order by id`)
    const beats = async () =>
      Number(
        (await rowsOf(schema.url, `select max(beat)::int as n from ${schema.name}.worker`))[0]?.n,
      )
    const [before, beaten] = [await versions(), await beats()]
    expect(before).toHaveLength(500)
    await one.lives(leaseMs)
    expect(await beats()).toBeGreaterThan(beaten + 1)
    expect(await versions()).toEqual(before)
    await one.store.commit(
      group({ settlements: records.map((record) => settle(host, ownedOf(record))) }),
    )
  })

  test("correctness 15: a server's clock that jumps a day ends no lease, and keeps none", async () => {
    const record = accept(host, { owned: true })
    await commitAccepts(one.store, record)
    const jump = (by: string) =>
      rowsOf(
        schema.url,
        `update ${schema.name}.worker set beaten_at = beaten_at ${by} interval '1 day',
                                              started_at = started_at ${by} interval '1 day'`,
      )
    await jump('-')
    await two.lives(leaseMs - 2_000)
    expect(await claimAll(two.store, host)).toEqual([])
    await jump('+')
    await jump('+')
    await two.lives(4_000)
    expect(await claimAll(two.store, host)).toHaveLength(1)
  })
})
