/**
 * Days that are over leave as a whole: what little of one must stay is copied into a new table, which
 * takes the day's place, and the old table is dropped. A million rows so cost one scan, and leave no
 * dead row behind. The place is changed under a lock that everybody feels, so it is asked for briefly
 * and given up: the next pass tries again. docs/decisions/0014 has the figures.
 */
import type { RetentionCutoffs } from '../storage.ts'
import type { Connection, Database } from './connection.ts'
import {
  attach,
  boundsOf,
  type DailyTable,
  type Day,
  keyColumns,
  lockWaitMs,
  lockWithin,
  partitionOf,
} from './days.ts'

/** Only who changes rows of that old day waits: longer than autovacuum needs to make room. */
const lockDayMs = 1_500
const lockTries = 5

/** Where the rows of a day that stay are put, and where the table goes that they came from. */
interface Names {
  readonly fresh: string
  readonly gone: string
}

function namesOf(table: DailyTable, day: Day, tag: string): Names {
  const name = partitionOf(table, day)
  return { fresh: `${name}_new_${tag}`, gone: `${name}_gone_${tag}` }
}

/** Nothing of the day changes from here on; reading goes on. */
async function holdDay(
  connection: Connection,
  tables: readonly DailyTable[],
  day: Day,
): Promise<boolean> {
  const names = tables.map((table) => partitionOf(table, day)).join(', ')
  return await lockWithin(connection, `lock table ${names} in exclusive mode`, lockDayMs)
}

/**
 * Puts the fresh tables, where there are any, in the place of the day's.
 *
 * @returns false when somebody reads for so long that the lock cannot be had: nothing is changed then
 */
async function replaceDay(
  connection: Connection,
  day: Day,
  tables: readonly { table: DailyTable; isKept: boolean; names: Names }[],
): Promise<boolean> {
  const locked = tables.map(({ table }) => [
    `only kmsg.${table}`,
    partitionOf(table, day),
    `kmsg.${table}_default`,
  ])
  const lock = `lock table ${locked.flat().join(', ')} in access exclusive mode`
  let has = false
  for (let tries = 1; tries <= lockTries && !has; tries += 1) {
    // Those who waited behind the last try go first.
    if (tries > 1) await connection.exec('select pg_sleep(0.2)')
    has = await lockWithin(connection, lock, lockWaitMs)
  }
  if (!has) return false
  for (const { table, isKept, names } of tables) {
    const name = partitionOf(table, day)
    const bare = (qualified: string) => qualified.slice('kmsg.'.length)
    await connection.exec(`
      alter table kmsg.${table} detach partition ${name};
      alter table ${name} rename to ${bare(names.gone)}`)
    if (!isKept) {
      await connection.exec(`drop table ${names.fresh}`)
      continue
    }
    await connection.exec(`alter table ${names.fresh} rename to ${bare(name)}`)
    await attach(connection, table, day, name)
    await connection.exec(`alter table ${name} drop constraint in_day`)
  }
  return true
}

const goneTables = `
  select relname as name from pg_class join pg_namespace on pg_namespace.oid = relnamespace
   where nspname = $1 and relkind = 'r' and not relispartition
     and relname ~ '^(event|done|attempt)_[0-9]{8}_gone_'`

/** Apart from the change of place: to free a million rows takes time, and these are nobody's. */
export async function dropGone(database: Database): Promise<void> {
  const rows = await database.read((connection) =>
    connection.all<{ name: string }>(goneTables, database.schema.name),
  )
  for (const { name } of rows) {
    await database.read((connection) => connection.exec(`drop table if exists kmsg.${name}`))
  }
}

/** The constraint spares a scan under the lock. */
async function makeFresh(
  connection: Connection,
  table: DailyTable,
  day: Day,
  names: Names,
): Promise<void> {
  const { from, to } = boundsOf(table, day)
  const column = keyColumns[table]
  await connection.exec(`
    create table ${names.fresh} (like kmsg.${table} including all,
      constraint in_day check (${column} >= ${from} and ${column} < ${to}))`)
}

async function countOf(connection: Connection, sql: string): Promise<number> {
  return (await connection.once<{ n: number }>(sql))[0]?.n ?? 0
}

/**
 * Inside a transaction: for statements about all rows of a day, which may take longer than a server
 * allows others. A table that was just put together has no statistics yet, and the planner, which takes
 * it for small, would compare each row with each.
 */
async function aboutAll<Result>(
  connection: Connection,
  work: () => Promise<Result>,
): Promise<Result> {
  await connection.exec('set local enable_nestloop = off; set local statement_timeout = 0')
  const result = await work()
  await connection.exec('set local enable_nestloop = on')
  return result
}

/** Inside a transaction: what ends with null leaves everything as it was. */
async function allOrNothing<Result>(
  connection: Connection,
  work: () => Promise<Result | null>,
): Promise<Result | null> {
  await connection.exec('savepoint before_work')
  const result = await aboutAll(connection, work)
  if (result === null) await connection.exec('rollback to savepoint before_work')
  return result
}

// ── ended deliveries and their attempts ──────────────────────────────────────────────────────────

export interface DayOfDeliveries {
  readonly total: number
  readonly over: number
}

export async function examineDeliveries(
  connection: Connection,
  day: Day,
  { settledBeforeMs }: RetentionCutoffs,
): Promise<DayOfDeliveries> {
  const { from, to } = boundsOf('done', day)
  const [found] = await connection.once<DayOfDeliveries>(
    `select count(*) as total, count(*) filter (where settled_at_ms < $1::bigint) as over
       from kmsg.done where id >= ${from} and id < ${to}`,
    Math.floor(settledBeforeMs),
  )
  return found ?? { total: 0, over: 0 }
}

/** Their events are not told one by one: the day is marked instead, for the audit. */
export function retireDeliveries(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  return allOrNothing(connection, () => moveDeliveries(connection, day, cutoffs, tag))
}

async function moveDeliveries(
  connection: Connection,
  day: Day,
  { settledBeforeMs }: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  if (!(await holdDay(connection, ['done', 'attempt'], day))) return null
  const { from, to } = boundsOf('done', day)
  const cutoff = Math.max(0, Math.floor(settledBeforeMs))
  const inDay = `done.id >= ${from} and done.id < ${to}`
  await connection.once(`
    insert into kmsg.pruned as p (endpoint_key, state, deliveries, attempts)
    select endpoint_key, state, count(*),
           coalesce(sum(attempts) filter (where batch_id is null), 0)
      from kmsg.done where ${inDay} and settled_at_ms < ${cutoff}
     group by 1, 2 order by 1, 2
    on conflict (endpoint_key, state)
       do update set deliveries = p.deliveries + excluded.deliveries,
                     attempts = p.attempts + excluded.attempts`)
  await connection.exec(`
    insert into kmsg.pruned_day (from_key, to_key) values ('${day.fromKey}', '${day.toKey}')
        on conflict do nothing`)
  const done = namesOf('done', day, tag)
  const attempt = namesOf('attempt', day, tag)
  await makeFresh(connection, 'done', day, done)
  await makeFresh(connection, 'attempt', day, attempt)
  const deliveries = await countOf(
    connection,
    `with kept as (
       insert into ${done.fresh}
       select done.* from kmsg.done where ${inDay} and settled_at_ms >= ${cutoff} returning 1)
     select count(*) as n from kept`,
  )
  const attempts = await countOf(
    connection,
    `with staying as materialized (
       select id from kmsg.live where id >= ${from} and id < ${to}
       union select id from ${done.fresh}
     ), kept as (
       insert into ${attempt.fresh}
       select attempt.* from kmsg.attempt join staying on staying.id = delivery_id
        where delivery_id >= ${from} and delivery_id < ${to} returning 1)
     select count(*) as n from kept`,
  )
  const tables = [
    { table: 'done', isKept: deliveries > 0, names: done },
    { table: 'attempt', isKept: attempts > 0, names: attempt },
  ] as const
  return (await replaceDay(connection, day, tables)) ? [done.gone, attempt.gone] : null
}

/**
 * Attempts that are left where all deliveries of the day are gone: those of deliveries that still
 * wait, and late ones, which go with the rest.
 */
export async function retireAttempts(
  connection: Connection,
  day: Day,
  tag: string,
): Promise<readonly string[] | null> {
  const { from, to } = boundsOf('attempt', day)
  const [kept] = await aboutAll(connection, () =>
    connection.once(`
      with staying as materialized (
        select id from kmsg.live where id >= ${from} and id < ${to}
        union select id from kmsg.done where id >= ${from} and id < ${to}
      )
      select from kmsg.attempt join staying on staying.id = delivery_id
       where delivery_id >= ${from} and delivery_id < ${to} limit 1`),
  )
  if (kept !== undefined) return null
  return await allOrNothing(connection, async () => {
    if (!(await holdDay(connection, ['attempt'], day))) return null
    const names = namesOf('attempt', day, tag)
    await makeFresh(connection, 'attempt', day, names)
    const isGone = await replaceDay(connection, day, [{ table: 'attempt', isKept: false, names }])
    return isGone ? [names.gone] : null
  })
}

// ── events and their bodies ──────────────────────────────────────────────────────────────────────

export interface DayOfEvents {
  readonly total: number
  /** Rows that go. */
  readonly gone: number
  /** Rows that stay without their body. */
  readonly emptied: number
}

/** `fate`: what becomes of each event of the day. The rules are those of prune-rows.ts, for many. */
function fateOf(day: Day, cutoffs: RetentionCutoffs): string {
  const { from, to } = boundsOf('event', day)
  const deliveries = boundsOf('done', day)
  const at = (ms: number) => Math.max(0, Math.floor(ms))
  return `
    with ended as materialized (
      select event_key, max(settled_at_ms) filter (where state <> 'delivered') as failed_at_ms
        from kmsg.done where id >= ${deliveries.from} and id < ${deliveries.to} group by 1
    ), unsettled as materialized (
      select event_key from kmsg.live where id >= ${deliveries.from} and id < ${deliveries.to}
      union select event_key from kmsg.fan_out where event_key >= ${from} and event_key < ${to}
    ), judged as (
      select event.key, body is not null as has_body,
             unsettled.event_key is null
               and case when failed_at_ms is null
                        then accepted_at_ms < ${at(cutoffs.deliveredBodiesBeforeMs)}
                        else failed_at_ms < ${at(cutoffs.failedBodiesBeforeMs)} end as is_body_over,
             unsettled.event_key is null and ended.event_key is null
               and accepted_at_ms < ${at(Math.min(cutoffs.eventIdsBeforeMs, cutoffs.settledBeforeMs))}
               as is_row_over
        from kmsg.event left join ended on ended.event_key = event.key
                        left join unsettled on unsettled.event_key = event.key
       where event.key >= ${from} and event.key < ${to}
    ), fate as (
      select key, is_row_over and (not has_body or is_body_over) as is_gone,
             has_body and is_body_over as is_emptied from judged)`
}

export async function examineEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
): Promise<DayOfEvents> {
  const [found] = await aboutAll(connection, () =>
    connection.once<DayOfEvents>(`${fateOf(day, cutoffs)}
      select count(*) as total, count(*) filter (where is_gone) as gone,
             count(*) filter (where is_emptied and not is_gone) as emptied from fate`),
  )
  return found ?? { total: 0, gone: 0, emptied: 0 }
}

/** Keys of events that something becomes of. */
export async function overEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  limit: number,
): Promise<string[]> {
  const rows = await aboutAll(connection, () =>
    connection.once<{ key: string }>(`${fateOf(day, cutoffs)}
      select key from fate where is_gone or is_emptied limit ${limit}`),
  )
  return rows.map(({ key }) => key)
}

/** The ids of events that go are forgotten before. */
export function retireEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  return allOrNothing(connection, () => moveEvents(connection, day, cutoffs, tag))
}

async function moveEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  if (!(await holdDay(connection, ['event'], day))) return null
  const names = namesOf('event', day, tag)
  await makeFresh(connection, 'event', day, names)
  const columns = await connection.once<{ name: string }>(
    `select attname as name from pg_attribute
      where attrelid = 'kmsg.event'::regclass and attnum > 0 and not attisdropped order by attnum`,
  )
  const values = columns.map(({ name }) =>
    name === 'body' ? 'case when not is_emptied then event.body end' : `event.${name}`,
  )
  const kept = await countOf(
    connection,
    `${fateOf(day, cutoffs)}, kept as (
       insert into ${names.fresh}
       select ${values.join(', ')} from kmsg.event join fate on fate.key = event.key
        where not is_gone and event.key >= '${day.fromKey}' and event.key < '${day.toKey}'
       returning 1)
     select count(*) as n from kept`,
  )
  if (kept === 0) {
    await connection.exec(`delete from kmsg.pruned_day where from_key = '${day.fromKey}'`)
  }
  const isDone = await replaceDay(connection, day, [{ table: 'event', isKept: kept > 0, names }])
  return isDone ? [names.gone] : null
}
