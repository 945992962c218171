/**
 * Takes over everything that another store holds, in one transaction: it is all there, read back and
 * found to be the same, or nothing is. So there is no half-done move to resume or to clear away.
 */
import { WebhookError } from '../../model/errors.ts'
import {
  Checksum,
  type ColumnKind,
  fingerprinted,
  type MovedTable,
  type MovingRow,
  type MovingSource,
  type MovingTable,
  type MovingValue,
  movingTables,
} from '../moving.ts'
import { type BesideOptions, beside } from './beside.ts'
import { endCancelled } from './cancel.ts'
import type { Connection, Database } from './connection.ts'
import { makeDays } from './days.ts'
import { raiseVersion } from './endpoint.ts'
import { migrate } from './schema.ts'
import { booleanArray, bytesArray, fromText, jsonArray, numberArray, textArray } from './text.ts'

export interface ImportWatcher {
  /** Between slices: what it aborts is rolled back. */
  readonly signal: AbortSignal
  /** The target is empty and locked; from now on rows are written. */
  begins(): void
  /** Rows of this table that are written so far. */
  wrote(table: MovingTable, rows: number): void
  /** Of every table, when all are written and before anything is committed. */
  checked(table: MovedTable): void
}

/** Waiting longer for somebody else's transaction says that the target is in use. */
const lockWithinMs = 5_000
const rowsPerFetch = 1_000

/** Sums of attempts that this process has not made are nobody's in particular. */
const constants: Readonly<Record<string, string>> = { rollup: 'writer' }
const firstWriter = 0

/** @throws WebhookError STORAGE_NOT_EMPTY; STORAGE_CORRUPT when a table differs; nothing is kept then */
export async function importInto(
  target: string,
  options: BesideOptions,
  source: MovingSource,
  watcher: ImportWatcher,
): Promise<void> {
  await beside(target, options, async (database) => {
    await migrate(database)
    await makeDays(database, Date.now(), oldestEventMs(source))
    await database.write(async (connection) => {
      await lockTables(connection)
      await requireEmpty(connection, database)
      watcher.begins()
      const read = new Map<string, Checksum>()
      for (const table of movingTables) {
        read.set(table.name, await load(connection, table, source, watcher))
        // Or the first statements of a service would be planned for an empty table.
        await connection.exec(`analyze kmsg.${table.name}`)
      }
      await compare(connection, database, read, watcher)
      // Cancelled while a process of the old place sent it: nobody is left who could end it.
      await endCancelled({ database }, connection, null)
      // A service that already runs there reads the endpoints again.
      const endpoints = await connection.all<{ key: string }>('select key from kmsg.endpoint')
      await raiseVersion(
        connection,
        endpoints.map(({ key }) => key),
      )
    })
  })
}

/** Retention drops days, so each event goes to its own. Undefined when there is none. */
function oldestEventMs(source: MovingSource): number | undefined {
  const events = movingTables.find(({ name }) => name === 'event')
  if (events === undefined) return undefined
  const column = Object.keys(events.columns).indexOf('accepted_at_ms')
  for (const [first] of source.slices(events)) {
    const acceptedAtMs = first?.[column]
    return typeof acceptedAtMs === 'number' ? acceptedAtMs : undefined
  }
  return undefined
}

/** Readers go on; who writes waits for the move to end. */
async function lockTables(connection: Connection): Promise<void> {
  const names = [...movingTables.map(({ name }) => name), 'intake']
  await connection.exec(`set local lock_timeout = ${lockWithinMs}`)
  await connection.exec(
    `lock table ${names.map((name) => `kmsg.${name}`).join(', ')} in exclusive mode`,
  )
}

async function requireEmpty(connection: Connection, { schema, location }: Database): Promise<void> {
  const found: string[] = []
  for (const name of [...movingTables.map((table) => table.name), 'intake']) {
    if (await connection.get(`select 1 from kmsg.${name} limit 1`)) found.push(name)
  }
  if (found.length === 0) return
  throw new WebhookError(
    'STORAGE_NOT_EMPTY',
    `Expected schema ${schema.quoted} at ${location} to hold nothing yet, got rows in ${found.join(', ')}; name another one, or drop that one first if nobody needs what is in it. Nothing in it was changed.`,
  )
}

async function load(
  connection: Connection,
  table: MovingTable,
  source: MovingSource,
  watcher: ImportWatcher,
): Promise<Checksum> {
  const sum = new Checksum()
  const insert = insertOf(table)
  let rows = 0
  for (const slice of source.slices(table)) {
    watcher.signal.throwIfAborted()
    for (const row of slice) sum.add(fingerprinted(table, row))
    await connection.run(insert, ...toColumns(table, slice))
    rows += slice.length
    watcher.wrote(table, rows)
  }
  return sum
}

const typeOf: Readonly<Record<ColumnKind, string>> = {
  text: 'text',
  json: 'json',
  integer: 'bigint',
  real: 'float8',
  boolean: 'boolean',
  bytes: 'bytea',
}

function insertOf({ name, columns }: MovingTable): string {
  const names = Object.keys(columns)
  const types = Object.values(columns).map((kind, i) => `$${i + 1}::${typeOf[kind]}[]`)
  const constant = constants[name]
  return `
    insert into kmsg.${name} (${[...names, ...(constant ? [constant] : [])].join(', ')})
    select given.*${constant ? `, ${firstWriter}` : ''} from unnest(${types.join(', ')}) as given`
}

function toColumns({ columns }: MovingTable, rows: readonly MovingRow[]): string[] {
  return Object.values(columns).map((kind, i) => {
    const values = rows.map((row) => row[i] ?? null)
    return toArray[kind](values as never[])
  })
}

const toArray: Readonly<Record<ColumnKind, (values: never[]) => string>> = {
  text: textArray,
  json: jsonArray,
  integer: numberArray,
  real: numberArray,
  boolean: booleanArray,
  bytes: bytesArray,
}

async function compare(
  connection: Connection,
  { location }: Database,
  read: ReadonlyMap<string, Checksum>,
  watcher: ImportWatcher,
): Promise<void> {
  const different: string[] = []
  for (const table of movingTables) {
    const before = (read.get(table.name) ?? new Checksum()).result()
    const written = (await checksumOf(connection, table, watcher.signal)).result()
    const same = before.rows === written.rows && before.checksum === written.checksum
    if (!same) different.push(table.name)
    watcher.checked({ name: table.name, read: before, written, same })
  }
  if (different.length === 0) return
  throw new WebhookError(
    'STORAGE_CORRUPT',
    `Expected ${location} to give back what was written to it, but ${different.join(', ')} read back differently; nothing was kept there, and the source is as it was.`,
  )
}

/** Long values stay there: the server fingerprints what it has stored. */
const readAs: Readonly<Record<ColumnKind, (column: string) => string>> = {
  text: (column) => column,
  json: (column) => `encode(sha256(convert_to(${column}::text, 'UTF8')), 'hex') as ${column}`,
  integer: (column) => column,
  real: (column) => column,
  boolean: (column) => column,
  bytes: (column) => `encode(sha256(${column}), 'hex') as ${column}`,
}

async function checksumOf(
  connection: Connection,
  { name, columns }: MovingTable,
  signal: AbortSignal,
): Promise<Checksum> {
  const kinds = Object.entries(columns)
  const read = kinds.map(([column, kind]) => readAs[kind](column))
  const cursor = `moved_${name}`
  await connection.exec(
    `declare ${cursor} no scroll cursor for select ${read.join(', ')} from kmsg.${name}`,
  )
  const sum = new Checksum()
  for (;;) {
    signal.throwIfAborted()
    const rows = await connection.all<Record<string, MovingValue>>(
      `fetch ${rowsPerFetch} from ${cursor}`,
    )
    for (const row of rows) {
      sum.add(
        kinds.map(([column, kind]) => {
          const value = row[column] ?? null
          return kind === 'text' && typeof value === 'string' ? fromText(value) : value
        }),
      )
    }
    if (rows.length < rowsPerFetch) break
  }
  await connection.exec(`close ${cursor}`)
  return sum
}
