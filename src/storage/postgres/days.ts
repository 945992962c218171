/**
 * The days of the tables that are partitioned by the time in their ids: which there are, and that
 * those to come are made ahead. A row that finds no day goes to the default partition, so a day that
 * could not be made costs only that its rows are deleted one by one later.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { Connection, Database } from './connection.ts'
import { sqlState } from './errors.ts'
import { textArray } from './text.ts'

export const dayMs = 86_400_000

/** Today and the next two: the janitor comes every ten minutes, and may be kept away for a while. */
const daysAhead = 2
/** As far as a move makes them; what is older goes to the default partition. */
const daysBehind = 45

/** Whoever waits for the lock keeps all others waiting behind it. */
export const lockWaitMs = 50

export type DailyTable = 'event' | 'done' | 'attempt'
const tables: readonly DailyTable[] = ['event', 'done', 'attempt']

/** One day, as milliseconds and as keys of events: from (inclusive) and to (exclusive). */
export interface Day {
  /** `20261128` */
  readonly name: string
  readonly fromMs: number
  readonly toMs: number
  readonly fromKey: string
  readonly toKey: string
}

/** Some days in a row, or a part of one. */
export type Days = Pick<Day, 'fromKey' | 'toKey'>

export function dayOf(ms: number): Day {
  const fromMs = Math.floor(ms / dayMs) * dayMs
  const toMs = fromMs + dayMs
  return {
    name: new Date(fromMs).toISOString().slice(0, 10).replaceAll('-', ''),
    fromMs,
    toMs,
    fromKey: eventKeyFloor(fromMs),
    toKey: eventKeyFloor(toMs),
  }
}

export function partitionOf(table: DailyTable, day: Day): string {
  return `kmsg.${table}_${day.name}`
}

/** The bounds of a day in this table, as literals: keys are of 0–9 and a–z. */
export function boundsOf(table: DailyTable, days: Days): { from: string; to: string } {
  const prefix = table === 'event' ? '' : 'dlv_'
  return { from: `'${prefix}${days.fromKey}'`, to: `'${prefix}${days.toKey}'` }
}

const partitions = `
  select parent.relname as table, child.relname as name
    from pg_inherits
    join pg_class as parent on parent.oid = inhparent
    join pg_class as child on child.oid = inhrelid
    join pg_namespace on pg_namespace.oid = parent.relnamespace
   where nspname = $1 and parent.relname in ('event', 'done', 'attempt')
   order by child.relname`

/** The days that there are, oldest first, each with the tables that have it. */
export async function readDays(
  connection: Connection,
  schemaName: string,
): Promise<Map<string, { day: Day; tables: Set<DailyTable> }>> {
  const rows = await connection.all<{ table: DailyTable; name: string }>(partitions, schemaName)
  const days = new Map<string, { day: Day; tables: Set<DailyTable> }>()
  const dated = rows
    .map(({ table, name }) => ({ table, date: /_(\d{4})(\d\d)(\d\d)$/.exec(name) }))
    .sort((a, b) => ((a.date?.[0] ?? '') < (b.date?.[0] ?? '') ? -1 : 1))
  for (const { table, date } of dated) {
    if (date === null) continue
    const day = dayOf(Date.UTC(Number(date[1]), Number(date[2]) - 1, Number(date[3])))
    const found = days.get(day.name) ?? { day, tables: new Set() }
    found.tables.add(table)
    days.set(day.name, found)
  }
  return days
}

/**
 * The event with this key, for a join: one day is looked into for each row. Without the limit the
 * planner may read all events of all days instead, as it does when it thinks that there are few.
 * A plan made so opens and locks every day there is, so it is for what is asked seldom.
 */
export function eventOf(key: string): string {
  return `
    select key, tenant_id, id, type, accepted_at_ms, body from kmsg.event
     where event.key = ${key} limit 1`
}

/** The same where the event is of these days; their bounds are literals, so no other day is opened. */
export function eventWithin(key: string, { fromKey, toKey }: Days): string {
  return `
    select key, tenant_id, id, type, accepted_at_ms, body from kmsg.event
     where event.key = ${key} and event.key >= '${fromKey}' and event.key < '${toKey}' limit 1`
}

/** Yesterday and today: when most of what is claimed was accepted. */
export function recentDays(nowMs: number): Days {
  return { fromKey: dayOf(nowMs - dayMs).fromKey, toKey: dayOf(nowMs).toKey }
}

export interface EventRow {
  readonly key: string
  readonly tenant_id: string
  readonly id: string
  readonly type: string
  readonly accepted_at_ms: number
  /** Null when retention or erasure took it. */
  readonly body: Uint8Array | null
}

const eventsByKey = `
  select key, tenant_id, id, type, accepted_at_ms, body from kmsg.event where key = any($1::text[])`

/** Of any day. Planned with these keys, because a plan for any keys opens and locks every day. */
export async function readEvents(
  connection: Connection,
  keys: readonly string[],
): Promise<Map<string, EventRow>> {
  if (keys.length === 0) return new Map()
  const rows = await connection.planned<EventRow>(eventsByKey, textArray(keys))
  return new Map(rows.map((row) => [row.key, row]))
}

const takeTurn = `select pg_advisory_xact_lock(hashtextextended('kmsg days ' || $1, 0))`

/**
 * Makes the days from today on that are missing.
 *
 * @param fromMs of the first day, where events come that were accepted elsewhere before
 * @returns why it could not; null when all are there
 */
export async function makeDays(
  database: Database,
  nowMs: number,
  fromMs = nowMs,
): Promise<string | null> {
  const firstMs = Math.max(dayOf(fromMs).fromMs, dayOf(nowMs).fromMs - daysBehind * dayMs)
  const lastMs = nowMs + daysAhead * dayMs
  const wanted: Day[] = []
  for (let ms = firstMs; ms <= lastMs; ms += dayMs) wanted.push(dayOf(ms))
  try {
    if ((await missingDays(database, wanted)).length === 0) return null
    await database.write(async (connection) => {
      await connection.all(takeTurn, database.schema.name)
      await connection.exec(`set local lock_timeout = ${lockWaitMs}`)
      const days = await readDays(connection, database.schema.name)
      for (const day of wanted) {
        for (const table of tables) {
          if (!days.get(day.name)?.tables.has(table)) await makeDay(connection, table, day)
        }
      }
    })
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

async function missingDays(database: Database, wanted: readonly Day[]): Promise<Day[]> {
  const days = await database.read((connection) => readDays(connection, database.schema.name))
  return wanted.filter((day) => days.get(day.name)?.tables.size !== tables.length)
}

/** Made apart and then attached: only that lets others write meanwhile. */
async function makeDay(connection: Connection, table: DailyTable, day: Day): Promise<void> {
  const { from, to } = boundsOf(table, day)
  const column = keyColumns[table]
  // A day that has begun in the default partition stays there; to move it would hold up everybody.
  const [begun] = await connection.once(
    `select from kmsg.${table}_default where ${column} >= ${from} and ${column} < ${to} limit 1`,
  )
  if (begun !== undefined) return
  const name = partitionOf(table, day)
  await connection.exec(`create table ${name} (like kmsg.${table} including all)`)
  await attach(connection, table, day, name)
}

export const keyColumns: Readonly<Record<DailyTable, string>> = {
  event: 'key',
  done: 'id',
  attempt: 'delivery_id',
}

export async function attach(
  connection: Connection,
  table: DailyTable,
  day: Day,
  name: string,
): Promise<void> {
  const { from, to } = boundsOf(table, day)
  await connection.exec(
    `alter table kmsg.${table} attach partition ${name} for values from (${from}) to (${to})`,
  )
}

const lockNotAvailable = '55P03'

/**
 * Inside a transaction: takes the locks, or gives up after that time and leaves it as it was.
 *
 * @returns whether it has them
 */
export async function lockWithin(
  connection: Connection,
  lock: string,
  waitMs: number,
): Promise<boolean> {
  await connection.exec(`savepoint before_lock; set local lock_timeout = ${waitMs}`)
  try {
    await connection.exec(lock)
    return true
  } catch (error) {
    if (sqlState(error) !== lockNotAvailable) throw error
    await connection.exec('rollback to savepoint before_lock')
    return false
  }
}
