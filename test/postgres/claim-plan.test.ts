// What a claim visits, by the server's own count of pages, rows and locks: no bound here is a time.
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LaneRoom } from '../../src/storage/claims.ts'
import { Database, type Pool, Schema } from '../../src/storage/postgres/connection.ts'
import { makeDays } from '../../src/storage/postgres/days.ts'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  commitAccepts,
  day,
  endpointKey,
  hour,
  room,
  startMs,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

const paused = 200_000
const lanes = 100
const rowsPerLane = 1_000
const daysBefore = 365

interface Statement {
  readonly text: string
  readonly values: unknown[]
}

let schema: TestSchema
let store: Store
let pool: pg.Pool
let sql: pg.Client
/** What the store has asked, latest last. */
let asked: Statement[] = []
const host = testHost()

/** Two of three rows are of a paused endpoint, and due longer than all that is claimed. */
beforeAll(async () => {
  schema = freshSchema()
  pool = new pg.Pool({ connectionString: schema.url, max: 3 })
  pool.on('connect', (client) => {
    const { query } = client
    client.query = ((...given: unknown[]) => {
      const [config] = given as [Statement]
      if (typeof config === 'object') asked.push(config)
      return Reflect.apply(query, client, given)
    }) as typeof client.query
  })
  store = await postgres(pool, { schema: schema.name }).open(host)
  await makeYear()
  sql = new pg.Client({ connectionString: schema.url })
  await sql.connect()
  await sql.query(`set search_path to ${schema.name}`)
  await seed(paused, () => endpointKey('paused'))
  await seed(lanes * rowsPerLane, (i) => lane(i % lanes))
  await sql.query('vacuum analyze live')
  await sql.query('analyze event')
}, 120_000)

afterAll(async () => {
  await store.close()
  await pool.end()
  // More tables than one transaction may lock.
  const { rows } = await sql.query<{ name: string }>(
    `select relname as name from pg_class where relname ~ '_[0-9]{8}$' and relkind = 'r'
        and relnamespace = $1::regnamespace`,
    [schema.name],
  )
  for (let i = 0; i < rows.length; i += 100) {
    const names = rows.slice(i, i + 100).map(({ name }) => name)
    await sql.query(`drop table ${names.join()}`)
  }
  await sql.end()
  await schema.drop()
})

const lane = (i: number) => `lane${String(i).padStart(4, '0')}`
const laneRoom = (i: number, limit: number): LaneRoom => ({
  endpointKey: lane(i),
  limit,
  batch: null,
})

async function makeYear(): Promise<void> {
  const database = new Database({
    pool: pool as unknown as Pool,
    schema: new Schema(schema.name),
    location: 'the test',
    idleInTransactionMs: 60_000,
    random: Math.random,
  })
  for (let before = daysBefore; before > 0; before -= 30) {
    // It makes those of some days ago when it is told that this is the day.
    const dayMs = startMs - before * day
    expect(await makeDays(database, dayMs + 28 * day, dayMs)).toBeNull()
  }
}

let seeded = 0
/** Rows of one event each, all due, the first ones longest. */
async function seed(rows: number, keyOf: (i: number) => string): Promise<void> {
  const record = accept(host)
  await commitAccepts(store, { ...record, deliveries: [], event: { ...record.event, matched: 0 } })
  const keys = Array.from({ length: Math.min(rows, lanes) }, (_, i) => keyOf(i))
  await sql.query(
    `insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts, due_at_ms,
                       round, created_at_ms)
     select 'dlv_' || $1::text || '_' || $2::int + i, 'single', 0, $1, ($3::text[])[1 + i % cardinality($3::text[])],
            'waiting', 0, 0, $4::bigint + $2 + i, 1, $4
       from generate_series(0, $5::int - 1) as i`,
    [record.event.key, seeded, keys, startMs - hour, rows],
  )
  seeded += rows
}

interface Visit {
  /** Pages of tables and indexes, each time one is looked at. */
  readonly pages: number
  readonly planningPages: number
  readonly rowsPassedOver: number
  readonly isWhole: boolean
  /** Days that are opened. */
  readonly days: readonly string[]
}

interface Plan {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Rows Removed by Filter'?: number
  readonly 'Shared Hit Blocks': number
  readonly 'Shared Read Blocks': number
  readonly Plans?: readonly Plan[]
}

/** Runs the statement once more, has it explained, and takes it back. */
async function visit({ text, values }: Statement, mode: 'custom' | 'generic'): Promise<Visit> {
  await sql.query('begin')
  try {
    await sql.query(`set local plan_cache_mode = force_${mode}_plan`)
    await sql.query(`prepare asked as ${text}`)
    const literals = values.map((value) => pg.escapeLiteral(String(value)))
    const { rows } = await sql.query(
      `explain (analyze, buffers, timing off, format json) execute asked (${literals})`,
    )
    const [{ Plan: plan, Planning: planning }] = rows[0]['QUERY PLAN'] as [
      { Plan: Plan; Planning?: Plan },
    ]
    const locked = await sql.query<{ name: string }>(
      `select distinct relname as name from pg_locks join pg_class on pg_class.oid = relation
        where pid = pg_backend_pid() and relname ~ '_[0-9]{8}$'`,
    )
    const scans = allOf(plan).filter((node) => node['Relation Name'] === 'live')
    return {
      pages: pagesOf(plan),
      planningPages: planning === undefined ? 0 : pagesOf(planning),
      rowsPassedOver: scans.reduce((n, node) => n + (node['Rows Removed by Filter'] ?? 0), 0),
      isWhole: scans.some((node) => node['Node Type'] === 'Seq Scan'),
      days: locked.rows.map(({ name }) => name),
    }
  } finally {
    await sql.query('rollback')
    await sql.query('deallocate all')
  }
}

function allOf(plan: Plan): Plan[] {
  return [plan, ...(plan.Plans ?? []).flatMap(allOf)]
}

function pagesOf(plan: Plan): number {
  return plan['Shared Hit Blocks'] + plan['Shared Read Blocks']
}

/** Gives back what it took, so that the explained one meets the same rows. */
async function claimOf(rooms: readonly LaneRoom[]): Promise<Statement> {
  asked = []
  await store.claim(rooms, host.now)
  const found = asked.find(({ text }) => text.includes('row_number() over'))
  if (found === undefined) throw new Error('Expected the store to claim by a statement.')
  await sql.query(`update live set owner = null, claim_no = null, state = 'waiting'
                    where state = 'delivering'`)
  return found
}

test.each(['custom', 'generic'] as const)(
  'correctness 8: of 300,000 rows, most of them paused and older, a claim visits what it takes (%s plan)',
  async (mode) => {
    const rooms = Array.from({ length: 20 }, (_, i) => laneRoom(i * 5, 10))
    const found = await visit(await claimOf(rooms), mode)
    console.log(`${mode} plan`, found)
    expect(found.isWhole).toBe(false)
    expect(found.rowsPassedOver).toBeLessThanOrEqual(200)
    // 200 rows: of each its entry, the row, its new version with its entries, its event.
    expect(found.pages).toBeLessThan(200 * 40)
    const empty = await visit(await claimOf([room('nothing', 10)]), mode)
    expect(empty.pages).toBeLessThan(60)
  },
)

test.each(['custom', 'generic'] as const)(
  'correctness 8: a year of days is not opened by a claim of today (%s plan)',
  async (mode) => {
    const made = await sql.query(`select from pg_inherits where inhparent = 'event'::regclass`)
    expect(made.rowCount).toBeGreaterThan(daysBefore)
    const { days, planningPages } = await visit(await claimOf([laneRoom(1, 10)]), mode)
    expect(days.filter((name) => name.startsWith('event')).length).toBeLessThanOrEqual(2)
    expect(days.filter((name) => !name.startsWith('event'))).toEqual([])
    // Of the catalogue, for the days that are opened.
    expect(planningPages).toBeLessThan(2_000)
  },
)

test('correctness 8: what is older is claimed with its event, which opens its days alone', async () => {
  const ago = (days: number) => ({ ...testHost(), now: startMs - days * day })
  const old = accept(ago(200), { id: 'old', to: ['old'], body: '{"old":1}' })
  const oldest = accept(ago(203), { id: 'oldest', to: ['old'], body: '{"oldest":1}' })
  await commitAccepts(store, old, oldest)
  asked = []
  const { claims } = await store.claim([room('old', 10)], host.now)
  expect(claims.map(({ eventId, body }) => [eventId, Buffer.from(body).toString()])).toEqual([
    ['oldest', '{"oldest":1}'],
    ['old', '{"old":1}'],
  ])
  const second = asked.find(({ text }) => text.includes('event where key = any'))
  expect(second).not.toHaveProperty('name')
  const { days } = await visit(second as Statement, 'custom')
  expect(days.toSorted()).toEqual(['event_20250616', 'event_20250619'])
})

test('correctness 8: what was claimed behind a long transaction is not looked at again', async () => {
  const reader = new pg.Client({ connectionString: schema.url })
  await reader.connect()
  await reader.query('begin isolation level repeatable read')
  await reader.query('select count(*) from pg_class')
  const gone = 20_000
  await seed(gone, () => endpointKey('gone'))
  await sql.query(`update live set owner = 1, state = 'delivering' where endpoint_key = $1`, [
    endpointKey('gone'),
  ])
  const records = Array.from({ length: 3 }, () => accept(host, { to: ['gone'] }))
  await commitAccepts(store, ...records)
  const batch = { size: 3, maxBytes: 100_000 }
  const known = { ...room('gone', 1), headMs: host.now }
  // The first look of a minute is from the lane's beginning.
  await store.claim([room('gone', 0), { ...room('gone', 0), batch }], host.now)
  asked = []
  const single = await store.claim([known], host.now)
  const sealed = await store.claim([{ ...known, batch: { ...batch, size: 2 } }], host.now)
  expect([single.claims.length, sealed.claims[0]?.members?.length]).toEqual([1, 2])
  const looks = asked.filter(
    ({ text }) => text.includes('due_at_ms between') || text.includes('due_at_ms >= $3'),
  )
  expect(looks.length).toBeGreaterThanOrEqual(4)
  for (const look of looks) {
    const { pages } = await visit(look, 'custom')
    expect(pages, look.text).toBeLessThan(200)
  }
  // It would be noticed: the same without a floor. A batching lane looks for retries alone, of which
  // none were claimed here.
  const ofRetries = (look: Statement) => look.values[3] === '{t}'
  for (const look of looks.filter((one) => !ofRetries(one))) {
    const floor = host.now - 10_000
    const values = look.values.map((value) =>
      value === floor ? 0 : value === `{${floor}}` ? '{0}' : value,
    )
    expect(values).not.toEqual(look.values)
    const { pages } = await visit({ ...look, values }, 'custom')
    expect(pages, look.text).toBeGreaterThan(500)
  }
  await reader.end()
})
