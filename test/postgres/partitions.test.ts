// Days of what grows: what goes as a whole, what stays, and that nobody is held up by it.
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createKeyMaker } from '../../src/model/ids.ts'
import { Database, type Pool, Schema } from '../../src/storage/postgres/connection.ts'
import { makeDays } from '../../src/storage/postgres/days.ts'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import type { RetentionCutoffs } from '../../src/storage/upkeep.ts'
import {
  accept,
  claimAll,
  commitAccepts,
  day,
  delivered,
  exhausted,
  group,
  hour,
  ownedOf,
  retryAt,
  room,
  settle,
  startMs,
  type TestHost,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

let schema: TestSchema
let host: TestHost
let store: Store
let sql: pg.Client

beforeEach(async () => {
  schema = freshSchema()
  host = testHost()
  store = await postgres(schema.url, { schema: schema.name }).open(host)
  sql = new pg.Client({ connectionString: schema.url })
  await sql.connect()
  await sql.query(`set search_path to ${schema.name}`)
})

afterEach(async () => {
  await sql.end()
  await store.close()
  await schema.drop()
})

function allBefore(ms: number): RetentionCutoffs {
  return {
    settledBeforeMs: ms,
    deliveredBodiesBeforeMs: ms,
    failedBodiesBeforeMs: ms,
    eventIdsBeforeMs: ms,
  }
}

async function pruneAll(cutoffs: RetentionCutoffs, limit = 500): Promise<number> {
  let deleted = 0
  for (let some = 1; some > 0; deleted += some) some = await store.prune(cutoffs, limit)
  return deleted
}

/** The days that a table has, as dates. */
async function daysOf(table: string): Promise<string[]> {
  const { rows } = await sql.query<{ name: string }>(
    `select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
      where inhparent = $1::regclass and relname ~ '[0-9]{8}$' order by 1`,
    [table],
  )
  return rows.map(({ name }) => name.slice(-8))
}

async function count(from: string): Promise<number> {
  const { rows } = await sql.query<{ n: string }>(`select count(*) as n from ${from}`)
  return Number(rows[0]?.n)
}

/** Accepted and ended at the host's time, at the second attempt: the first has a row of its own. */
async function sent(events: number, settlement = delivered) {
  const records = Array.from({ length: events }, () => accept(host, { owned: true }))
  await commitAccepts(store, ...records)
  await store.commit(
    group({ settlements: records.map((one) => settle(host, ownedOf(one), retryAt(host.now))) }),
  )
  const claimed = await claimAll(store, host)
  await store.commit(group({ settlements: claimed.map((one) => settle(host, one, settlement)) }))
  return records
}

async function problems() {
  return (await store.audit()).problems
}

describe('days', () => {
  test('today and two more are there from the start, and made ahead from then on', async () => {
    expect(await daysOf('event')).toEqual(['20260105', '20260106', '20260107'])
    host.now += day
    await store.prune(allBefore(0), 10)
    for (const table of ['event', 'done', 'attempt']) {
      expect(await daysOf(table)).toEqual(['20260105', '20260106', '20260107', '20260108'])
    }
  })

  test('tables whose rows come and go bring their vacuum settings', async () => {
    const { rows } = await sql.query<{ name: string; settings: string[] | null }>(
      `select relname as name, reloptions as settings from pg_class
        where relnamespace = $1::regnamespace and relkind = 'r' order by 1`,
      [schema.name],
    )
    const having = (setting: string) =>
      rows.filter(({ settings }) => settings?.includes(setting)).map(({ name }) => name)
    expect(having('autovacuum_vacuum_threshold=5000')).toEqual(['intake', 'live'])
    expect(having('autovacuum_vacuum_cost_delay=0')).toEqual(['intake', 'live', 'rollup'])
    const parts = Array.from({ length: 8 }, (_, i) => `event_key_${i}`)
    expect(having('autovacuum_vacuum_scale_factor=0.02')).toEqual(['batch', ...parts])
  })

  test('several processes make the same day at once', async () => {
    const pools = Array.from(
      { length: 4 },
      () => new pg.Pool({ connectionString: schema.url, max: 2 }) as unknown as Pool,
    )
    const found = await Promise.all(
      pools.map((pool) =>
        makeDays(
          new Database({
            pool,
            schema: new Schema(schema.name),
            location: 'the test',
            idleInTransactionMs: 0,
            random: Math.random,
          }),
          host.now + 10 * day,
        ),
      ),
    )
    await Promise.all(pools.map((pool) => pool.end()))
    // Who waited too long for the others says so; all is there all the same.
    expect(found.filter((problem) => problem === null).length).toBeGreaterThan(0)
    expect((await daysOf('done')).slice(3)).toEqual(['20260115', '20260116', '20260117'])
  })

  test('what finds no day goes to the default partition, and from there row by row', async () => {
    host.now += 40 * day
    const records = await sent(7)
    expect(await count('event_default')).toBe(7)
    expect(await count('done_default')).toBe(7)
    expect(await count('attempt_default')).toBe(7)
    const first = records[0]!.deliveries[0]!.id
    expect(await store.findDelivery(first)).toMatchObject({ state: 'delivered' })
    // The day has begun there, so it stays there; the next ones are made.
    await store.prune(allBefore(0), 10)
    expect(await daysOf('event')).not.toContain('20260214')
    expect(await daysOf('event')).toContain('20260215')
    host.now += day
    await pruneAll(allBefore(host.now), 3)
    expect(await count('event_default')).toBe(0)
    expect(await count('done_default')).toBe(0)
    expect(await count('attempt_default')).toBe(0)
    expect(await count('event_key')).toBe(0)
    expect(await problems()).toEqual([])
  })

  test('a day that cannot be made is told, and nothing fails', async () => {
    await sql.query('begin')
    await sql.query('select from event_default')
    host.now += 10 * day
    await store.prune(allBefore(0), 10)
    await sql.query('rollback')
    expect(host.logged).toContainEqual(
      expect.objectContaining({ level: 'warn', message: expect.stringContaining('days to come') }),
    )
    await sent(1)
    expect(await count('event_default')).toBe(1)
  })
})

describe('a day that is over', () => {
  test('correctness R5: is dropped, not deleted from', async () => {
    await sent(30)
    await sent(5, exhausted)
    host.now += 31 * day
    const [old] = (await sql.query<{ oid: number }>(`select 'done_20260105'::regclass::oid as oid`))
      .rows
    expect(await pruneAll(allBefore(host.now - 29 * day))).toBe(35 + 35 + 35)
    for (const table of ['event', 'done', 'attempt']) {
      expect(await daysOf(table)).not.toContain('20260105')
    }
    expect((await sql.query('select from pg_class where oid = $1', [old?.oid])).rowCount).toBe(0)
    expect(await count(`pg_class where relname ~ '_gone_|_new_'`)).toBe(0)
    expect(await count('pruned_day')).toBe(0)
    expect(await problems()).toEqual([])
    const sums = await sql.query(
      'select state, sum(deliveries)::int as n from pruned group by 1 order by 1',
    )
    expect(sums.rows).toEqual([
      { state: 'delivered', n: 30 },
      { state: 'exhausted', n: 5 },
    ])
  })

  test('correctness 11: leaves what waits, with its event, its body and its attempts', async () => {
    await sent(20)
    const waits = accept(host, { id: 'waits', owned: true })
    await commitAccepts(store, waits)
    await store.commit(
      group({ settlements: [settle(host, ownedOf(waits), retryAt(host.now + 90 * day))] }),
    )
    host.now += 60 * day
    await pruneAll(allBefore(host.now - 29 * day))
    expect(await daysOf('event')).toContain('20260105')
    expect(await daysOf('done')).not.toContain('20260105')
    expect(await count('event_20260105')).toBe(1)
    expect(await count('attempt_20260105')).toBe(1)
    expect(await problems()).toEqual([])
    host.now += 90 * day
    const [claim] = await claimAll(store, host)
    expect(claim).toMatchObject({ deliveryId: waits.deliveries[0]!.id, attempts: 1 })
    await store.commit(group({ settlements: [settle(host, claim!)] }))
    expect(await problems()).toEqual([])
    // Its end finds no day any more; the day goes once it is gone.
    expect(await count('done_default')).toBe(1)
    host.now += 31 * day
    await pruneAll(allBefore(host.now - 29 * day))
    await pruneAll(allBefore(host.now - 29 * day))
    expect(await daysOf('event')).not.toContain('20260105')
    expect(await daysOf('attempt')).not.toContain('20260105')
    expect(await count('attempt')).toBe(0)
    expect(await problems()).toEqual([])
  })

  test('leaves what has ended later than its day', async () => {
    await sent(20)
    const late = accept(host, { id: 'late', owned: true })
    await commitAccepts(store, late)
    host.now += 3 * day
    await store.commit(group({ settlements: [settle(host, ownedOf(late), exhausted)] }))
    await pruneAll(allBefore(host.now - hour))
    expect(await store.findDelivery(late.deliveries[0]!.id)).toMatchObject({ state: 'exhausted' })
    expect(await count('event where body is not null')).toBe(1)
    expect(await count('done')).toBe(1)
    expect(await count('attempt_made')).toBe(1)
    expect(await problems()).toEqual([])
    host.now += 2 * hour
    await pruneAll(allBefore(host.now - hour))
    await pruneAll(allBefore(host.now - hour))
    expect(await count('done')).toBe(0)
    expect(await count('event')).toBe(0)
    expect(await problems()).toEqual([])
  })

  test('goes without its bodies where ids and ended deliveries are kept for longer', async () => {
    await sent(3)
    const [failed] = await sent(1, exhausted)
    host.now += 8 * day
    const cutoffs = { ...allBefore(0), deliveredBodiesBeforeMs: host.now - 6 * day }
    expect(await pruneAll(cutoffs)).toBe(3)
    expect(await count('event where body is not null')).toBe(1)
    expect(await store.retryDelivery(failed!.deliveries[0]!.id, host.now)).toMatchObject({
      kind: 'created',
    })
    expect(await problems()).toEqual([])
  })

  test('is kept to the minute while it is small', async () => {
    await sent(3)
    host.now += hour
    await sent(2)
    expect(await pruneAll(allBefore(host.now - 1))).toBe(9)
    expect(await count('done')).toBe(2)
    expect(await daysOf('done')).toContain('20260105')
    expect(await problems()).toEqual([])
  })

  test('correctness 11: is left alone while somebody reads it, and commits go on', async () => {
    await sent(20)
    host.now += 31 * day
    await store.prune(allBefore(0), 10)
    await sql.query('begin')
    await sql.query('select count(*) from done')
    const pruning = pruneAll({ ...allBefore(0), settledBeforeMs: host.now - 29 * day })
    let isOver = false
    void pruning.finally(() => {
      isOver = true
    })
    let slowestMs = 0
    while (!isOver) {
      const beganMs = performance.now()
      await sent(1)
      slowestMs = Math.max(slowestMs, performance.now() - beganMs)
    }
    expect(await pruning).toBe(0)
    // Five tries of 50 ms, with the others going first in between.
    expect(slowestMs).toBeLessThan(2_000)
    await sql.query('commit')
    expect(await pruneAll({ ...allBefore(0), settledBeforeMs: host.now - 29 * day })).toBe(20)
    expect(await daysOf('done')).not.toContain('20260105')
    expect(await problems()).toEqual([])
  })
})

describe('many rows', () => {
  const rows = 12_000

  /** Rows that were updated or deleted, as far as the server was told. */
  async function changed(tables: string): Promise<number> {
    const found = await sql.query<{ n: number }>(
      `select coalesce(sum(n_tup_upd + n_tup_del), 0)::int as n from pg_stat_user_tables
        where schemaname = $1 and relname ~ ('^' || $2)`,
      [schema.name, tables],
    )
    return found.rows[0]?.n ?? 0
  }

  /** Written by the server: 12,000 delivered events in that day. */
  async function fill(atMs: number): Promise<void> {
    const next = createKeyMaker(
      () => atMs,
      (size) => new Uint8Array(size),
    )
    const keys = Array.from({ length: rows }, () => next())
    await sql.query(
      `insert into event (key, tenant_id, id, type, accepted_at_ms, matched, body)
       select key, '', 'evt_' || key, 'message.sent', $2, 1, '{}' from unnest($1::text[]) as key`,
      [keys, atMs],
    )
    await sql.query(`insert into event_key (tenant_id, id, key, content_hash, accepted_at_ms)
      select tenant_id, id, key, '', accepted_at_ms from event`)
    await sql.query(
      `insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                         created_at_ms, settled_at_ms)
       select 'dlv_' || key || '_endpoint', key, 'endpoint', 'delivered', 'status_200', 1, 1, 1, $1, $1
         from event`,
      [atMs],
    )
    await sql.query(
      `insert into attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome,
                            endpoint_version, late)
       select id, 1, 1, $1, 1, 'accepted', 1, false from done`,
      [atMs],
    )
    await sql.query(
      `insert into rollup (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class,
                           writer, attempts, deliveries, latency_sum_ms)
       select key, hour, '', 'message.sent', 'accepted', 'delivered', 0, 0, $1, $1, 1
         from (values ('endpoint', $2::bigint), ('', $2), ('', -1)) as grain (key, hour)`,
      [rows, atMs],
    )
    await sql.query(`insert into delivery_slot (endpoint_key, slot)
      select distinct 'endpoint', substr(id, 1, 12) from done`)
  }

  test('lose their bodies without one row being updated, and go without one being deleted', async () => {
    await fill(startMs)
    expect(await problems()).toEqual([])
    host.now += 8 * day
    const bodies = { ...allBefore(0), deliveredBodiesBeforeMs: host.now - 6 * day }
    expect(await store.prune(bodies, 500)).toBe(rows)
    expect(await pruneAll(bodies)).toBe(0)
    expect(await count('event_20260105 where body is null')).toBe(rows)
    host.now += 30 * day
    const all = allBefore(host.now - 20 * day)
    // Ids one step after the other; everything else at once.
    expect(await store.prune(all, 500)).toBe(rows)
    expect(await daysOf('done')).not.toContain('20260105')
    expect(await problems()).toEqual([])
    await pruneAll(all, 5_000)
    expect(await daysOf('event')).not.toContain('20260105')
    expect(await count('event_key')).toBe(0)
    // Connections tell what they did at their end at the latest; these deletions they did do.
    await store.close()
    await expect.poll(() => changed('event_key_'), { timeout: 20_000 }).toBe(rows)
    expect(await changed('(event|done|attempt)_(2|default)')).toBe(0)
  })

  test('lose ids and bodies at once with their day, and what waits keeps both', async () => {
    await fill(startMs)
    const waits = accept(host, { id: 'waits' })
    await commitAccepts(store, waits)
    host.now += 31 * day
    const all = allBefore(host.now - 29 * day)
    expect(await store.prune(all, 500)).toBe(rows)
    expect(await count('done')).toBe(0)
    // Bodies go at once, before the first id.
    expect(await store.prune(all, 500)).toBe(rows)
    expect(await count('event where body is not null')).toBe(1)
    expect(await count('event_key')).toBe(rows + 1)
    expect(await problems()).toEqual([])
    expect(await store.prune(all, 500)).toBe(500)
    expect(await problems()).toEqual([])
    await pruneAll(all, 5_000)
    expect(await count('event_20260105')).toBe(1)
    expect(await count('event_key')).toBe(1)
    expect((await store.findEvent('', 'waits'))?.body).not.toBeNull()
    const [again] = (await commitAccepts(store, accept(host, { id: 'waits', hash: 'other' })))
      .accepts
    expect(again).toMatchObject({ kind: 'duplicate', sameContent: false })
    expect(await problems()).toEqual([])
  })

  test('that became over since the ids of their day were forgotten stay for the next pass', async () => {
    await fill(startMs)
    const all = allBefore(startMs + 2 * day)
    host.now += 31 * day
    await pruneAll({ ...all, eventIdsBeforeMs: 0 }, 5_000)
    await sql.query('begin')
    await sql.query('select from event limit 1')
    await pruneAll(all, 5_000)
    expect(await count('event_key')).toBe(0)
    expect(await count('event')).toBe(rows)
    expect(await problems()).toEqual([])
    await sql.query('rollback')
    const key = (await sql.query<{ key: string }>('select max(key) as key from event')).rows[0]?.key
    await sql.query(
      `insert into event (key, tenant_id, id, type, accepted_at_ms, matched)
       values ($1, '', 'straggler', 'message.sent', $2, 0)`,
      [`${key?.slice(0, -6)}zzzzzz`, startMs],
    )
    await sql.query(`insert into event_key (tenant_id, id, key, content_hash, accepted_at_ms)
      select tenant_id, id, key, '', accepted_at_ms from event where id = 'straggler'`)
    await store.prune(all, 5_000)
    expect(await count('event')).toBe(1)
    expect(await count('event_key')).toBe(1)
    // The rest of this pass, and the next one.
    await pruneAll(all, 5_000)
    await pruneAll(all, 5_000)
    expect(await count('event')).toBe(0)
    expect(await count('event_key')).toBe(0)
    expect(await problems()).toEqual([])
  })

  test('go without what holds a key up, which stays with its body and can be sent again', async () => {
    await fill(startMs)
    const order = { key: 'a', blocks: true }
    const terms = { alone: true, expiresAtMs: null, order }
    const records = ['first', 'second'].map((id) => {
      const record = accept(host, { id })
      return { ...record, deliveries: record.deliveries.map((one) => ({ ...one, terms })) }
    })
    await commitAccepts(store, ...records)
    const [head] = await claimAll(store, host)
    const failed = { ...settle(host, head!, exhausted), ordered: head?.ordered }
    await store.commit(group({ settlements: [failed] }))
    host.now += 31 * day
    const all = allBefore(host.now - 29 * day)
    expect(await store.prune(all, 500)).toBe(rows)
    await pruneAll(all, 5_000)
    expect(await count('done_20260105')).toBe(1)
    expect(await count('event_20260105 where body is not null')).toBe(2)
    expect(await problems()).toEqual([])
    await pruneAll(all, 5_000)
    expect(await store.retryDelivery(head?.deliveryId ?? '', host.now)).toMatchObject({
      kind: 'created',
    })
    for (const id of ['first', 'second']) {
      const [claim] = await claimAll(store, host)
      expect(claim?.eventId).toBe(id)
      const ended = { ...settle(host, claim!), ordered: claim?.ordered }
      await store.commit(group({ settlements: [ended] }))
    }
    host.now += 31 * day
    await pruneAll(allBefore(host.now - day), 5_000)
    await pruneAll(allBefore(host.now - day), 5_000)
    expect([await count('event'), await count('done')]).toEqual([0, 0])
    expect(await problems()).toEqual([])
  })

  test('a large day waits until all of it is over', async () => {
    await fill(startMs)
    host.now += 2 * day
    expect(await pruneAll(allBefore(startMs + 6 * hour))).toBe(0)
    expect(await count('done_20260105')).toBe(rows)
  })
})

describe('plans', () => {
  const eventKey = '01kd8zk0000000000000000000'.slice(0, 24)
  const id = `dlv_${eventKey}_endpoint`

  async function plan(mode: string, statement: string, types: string, values: string) {
    await sql.query(`set plan_cache_mode = ${mode}`)
    await sql.query(`prepare asked (${types}) as ${statement}`)
    const { rows: lines } = await sql.query<{ 'QUERY PLAN': string }>(
      `explain (analyze, costs off, timing off, summary off) execute asked (${values})`,
    )
    await sql.query('deallocate asked')
    return lines.map((line) => line['QUERY PLAN'])
  }

  /** Partitions of this table that were looked into. */
  function lookedInto(lines: readonly string[], table: string): string[] {
    return lines
      .filter((line) => !line.includes('never executed'))
      .flatMap(
        (line) => line.match(new RegExp(`\\b${table}_(\\d{8}|default)(?= |_pkey| \\w)`))?.[0] ?? [],
      )
      .filter((name, i, all) => all.indexOf(name) === i)
  }

  test('each verb looks into the day of what it is asked about, however often', async () => {
    const records = await sent(3)
    await sent(1, exhausted)
    host.now += 2 * day
    await store.prune(allBefore(0), 10)
    const lanes = Array.from({ length: 100 }, (_, i) => `lane${i}`)
    await commitAccepts(store, ...lanes.map((lane) => accept(host, { to: [lane] })))
    await sql.query('analyze')
    for (let i = 0; i < 12; i += 1) {
      // Of many lanes: the planner expects many rows, and few events to read instead.
      await store.claim(
        lanes.map((lane) => room(lane, 10)),
        host.now,
      )
      const { event, deliveries } = records[i % 3]!
      const found = await store.findDelivery(deliveries[0]!.id)
      await store.attemptsOf([found!])
      await store.findEvent('', event.id)
      const again = { ...accept(host, { id: event.id }), deliveries: [] }
      await commitAccepts(store, again)
      const waits = accept(host)
      await commitAccepts(store, waits)
      const [claim] = await claimAll(store, host)
      await store.commit(group({ settlements: [settle(host, claim!)] }))
    }
    await store.close()
    const scans = async (name: string) => {
      const found = await sql.query<{ n: number }>(
        `select (coalesce(sum(seq_scan), 0) + coalesce(sum(idx_scan), 0))::int as n
           from pg_stat_user_tables where schemaname = $1 and relname = $2`,
        [schema.name, name],
      )
      return found.rows[0]?.n ?? 0
    }
    await expect.poll(() => scans('event_20260105'), { timeout: 20_000 }).toBeGreaterThan(30)
    // The day between: its indexes were built, retention looked for the oldest, and no verb came by.
    for (const table of ['event', 'done', 'attempt']) {
      expect(await scans(`${table}_20260106`), table).toBeLessThan(6)
    }
  })

  for (const mode of ['force_generic_plan', 'force_custom_plan']) {
    test(`a question by id looks into one day (${mode})`, async () => {
      const wanted: [string, string, string, string][] = [
        ['done', 'select * from done where id = $1', 'text', `'${id}'`],
        ['event', 'select * from event where key = $1', 'text', `'${eventKey}'`],
        [
          'done',
          'select * from done where id >= $1 and id < $2',
          'text, text',
          `'${id}', '${id}a'`,
        ],
      ]
      for (const [table, statement, types, values] of wanted) {
        const lines = await plan(mode, statement, types, values)
        expect(lookedInto(lines, table).length, lines.join('\n')).toBeLessThanOrEqual(1)
      }
    })
  }
})
