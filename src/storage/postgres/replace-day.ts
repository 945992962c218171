/**
 * Puts a new table in the place of a day's, and drops the old one after. The place is changed under a
 * lock that everybody feels, so it is asked for briefly and given up: the next pass tries again.
 */
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
export interface Names {
  readonly fresh: string
  readonly gone: string
}

export function namesOf(table: DailyTable, day: Day, tag: string): Names {
  const name = partitionOf(table, day)
  return { fresh: `${name}_new_${tag}`, gone: `${name}_gone_${tag}` }
}

/** Nothing of the day changes from here on; reading goes on. */
export async function holdDay(
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
export async function replaceDay(
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
export async function makeFresh(
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

export async function countOf(connection: Connection, sql: string): Promise<number> {
  return (await connection.once<{ n: number }>(sql))[0]?.n ?? 0
}

/**
 * Inside a transaction: for statements about all rows of a day, which may take longer than a server
 * allows others. A table that was just put together has no statistics yet, and the planner, which takes
 * it for small, would compare each row with each.
 */
export async function aboutAll<Result>(
  connection: Connection,
  work: () => Promise<Result>,
): Promise<Result> {
  await connection.exec('set local enable_nestloop = off; set local statement_timeout = 0')
  const result = await work()
  await connection.exec('set local enable_nestloop = on')
  return result
}

/** Inside a transaction: what ends with null leaves everything as it was. */
export async function allOrNothing<Result>(
  connection: Connection,
  work: () => Promise<Result | null>,
): Promise<Result | null> {
  await connection.exec('savepoint before_work')
  const result = await aboutAll(connection, work)
  if (result === null) await connection.exec('rollback to savepoint before_work')
  return result
}
