/**
 * Tells our schema from a foreign or newer one before anything is written to it, and brings an older
 * one up to date: one process at a time, each migration in a transaction of its own.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Connection, Database } from './connection.ts'
import { migrations } from './migrations/migrations.ts'

const oldestServer = 150_000

const describeServer = `
  select current_setting('server_version') as version,
         current_setting('server_version_num')::int as number,
         (extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms,
         current_setting('jit') = 'on' as jit,
         array_to_json(array(
           select name from unnest(array['fsync', 'synchronous_commit', 'full_page_writes']) as name
            where current_setting(name) = 'off')) as unsafe`

export interface Server {
  readonly version: string
  readonly nowMs: number
  /** Settings under which a commit that was answered can be lost. */
  readonly unsafe: readonly string[]
  /** Still on for connections that are not ours to set up. */
  readonly jit: boolean
}

/** @throws WebhookError STORAGE_FOREIGN for a server that is too old */
export async function checkServer(database: Database): Promise<Server> {
  const found = await database.read((connection) =>
    connection.get<{
      version: string
      number: number
      now_ms: number
      jit: boolean
      unsafe: string
    }>(describeServer),
  )
  const { version = '', number = 0, now_ms: nowMs = 0, jit = false, unsafe = '[]' } = found ?? {}
  if (number < oldestServer) {
    throw new WebhookError(
      'STORAGE_FOREIGN',
      `Expected PostgreSQL 15 or newer at ${database.location}, got ${version || 'something else'}; update the server.`,
    )
  }
  return { version, nowMs, unsafe: JSON.parse(unsafe), jit }
}

const takeTurn = `select pg_advisory_xact_lock(hashtextextended('kmsg migration ' || $1, 0))`

/** For readers that must not write: the schema has to be there and be this package's. */
export async function requireSchema(database: Database): Promise<void> {
  const number = await database.read((connection) => schemaNumber(connection, database))
  if (number === migrations.length) return
  const { schema, location } = database
  throw new WebhookError(
    'STORAGE_FOREIGN',
    `Expected schema ${schema.quoted} at ${location} to have number ${migrations.length}, got ${number === 0 ? 'an empty one' : number}; start the service on it once, which brings it up to date, or name another one.`,
  )
}

/** @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER; nothing was changed then */
export async function migrate(database: Database): Promise<void> {
  for (let isDone = false; !isDone; ) {
    isDone = await database.write(async (connection) => {
      // The next one starts when this one has committed, and sees what it did.
      await connection.all(takeTurn, database.schema.name)
      const number = await schemaNumber(connection, database)
      const next = migrations[number]
      if (next === undefined) return true
      if (number === 0) await createSchema(connection, database)
      await connection.exec(next)
      await connection.run('insert into kmsg.migration (number) values ($1)', number + 1)
      return number + 1 === migrations.length
    })
  }
}

async function createSchema(connection: Connection, { schema }: Database): Promise<void> {
  // Asked first: who may use a schema that is there need not have the right to create any.
  const exists = await connection.get('select 1 from pg_namespace where nspname = $1', schema.name)
  if (!exists) await connection.exec(`create schema ${schema.quoted}`)
  await connection.exec(`
    create table if not exists kmsg.migration (
      number integer primary key,
      applied_at timestamptz not null default clock_timestamp()
    )`)
}

const tablesOfSchema = `
  select count(*) as tables, coalesce(bool_or(relname = 'migration'), false) as is_ours
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
   where nspname = $1 and relkind in ('r', 'p', 'v')`

async function schemaNumber(
  connection: Connection,
  { schema, location }: Database,
): Promise<number> {
  const found = await connection.get<{ tables: number; is_ours: boolean }>(
    tablesOfSchema,
    schema.name,
  )
  if (!found?.is_ours) {
    if (!found?.tables) return 0
    throw new WebhookError(
      'STORAGE_FOREIGN',
      `Expected schema ${schema.quoted} at ${location} to be of @k-msg/webhook or empty, got ${found.tables} tables of something else; name another one with \`postgres(url, { schema })\`. Nothing in it was changed.`,
    )
  }
  const row = await connection.get<{ number: number }>(
    'select coalesce(max(number), 0) as number from kmsg.migration',
  )
  const number = row?.number ?? 0
  if (number > migrations.length) {
    throw new WebhookError(
      'STORAGE_SCHEMA_NEWER',
      `Expected schema ${schema.quoted} at ${location} to have number ${migrations.length} or lower, got ${number}: a newer @k-msg/webhook has written it; update this one. Nothing in it was changed.`,
    )
  }
  return number
}
