/**
 * Reads everything that a file holds, for a store elsewhere. The file is locked, as by a service, so
 * that nothing in it changes meanwhile; and opened to read only, so that this changes nothing either.
 */
import { realpathSync } from 'node:fs'
import type { MovingRow, MovingSource, MovingTable, MovingValue } from '../moving.ts'
import { requireFile } from './beside.ts'
import { Connection } from './connection.ts'
import { loadDriver, type SqlValue } from './driver.ts'
import { storageError } from './errors.ts'
import { type Lock, lockFile } from './lock.ts'
import { requireSchema } from './schema.ts'
import { loadFrom } from './worker-url.ts'

/** What one slice holds at the most; a body may be larger than all others together. */
const rowsPerSlice = 1_000
const bytesPerSlice = 4 * 1024 * 1024

/** What a process held when it ended waits again, due when it was, as after any start. */
const readAs: Readonly<Record<string, string>> = { 'live.state': "'waiting'" }

/**
 * @throws WebhookError OPTION_INVALID | STORAGE_LOCKED | STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER |
 *   STORAGE_CORRUPT | STORAGE_READ_ONLY
 */
export async function exportFile(file: string): Promise<MovingSource> {
  const location = realpathSync(requireFile(file))
  let lock: Lock | null = null
  try {
    const driver = loadDriver(loadFrom())
    lock = await lockFile(driver, location, 0)
    return openSource(new Connection(driver.open(location, { readOnly: true })), location, lock)
  } catch (error) {
    lock?.release()
    throw storageError(error, location)
  }
}

/** What is spread over several rows there, as the one row that it is in another store. */
const readFrom: Readonly<Record<string, string>> = {
  rollup: `(
    select endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class,
           sum(attempts) as attempts, sum(deliveries) as deliveries,
           sum(latency_sum_ms) as latency_sum_ms
      from rollup_all group by 1, 2, 3, 4, 5, 6, 7)`,
}

function openSource(connection: Connection, location: string, lock: Lock): MovingSource {
  const close = () => {
    connection.close()
    lock.release()
  }
  try {
    requireSchema(connection, location)
    connection.database.exec('begin')
  } catch (error) {
    connection.close()
    throw error
  }
  return {
    location,
    count: ({ name }) =>
      connection.get<{ n: number }>(`select count(*) as n from ${readFrom[name] ?? name}`)?.n ?? 0,
    slices: (table) => slicesOf(connection, table),
    close,
  }
}

function* slicesOf(
  connection: Connection,
  { name, columns }: MovingTable,
): Generator<readonly MovingRow[]> {
  const kinds = Object.entries(columns)
  const read = kinds.map(([column, kind]) => {
    const value = readAs[`${name}.${column}`] ?? column
    // As bytes: the npm driver would read a text up to its first NUL.
    return kind === 'text' ? `cast(${value} as blob) as ${column}` : value
  })
  const rows = connection.iterate<Record<string, SqlValue>>(
    `select ${read.join(', ')} from ${readFrom[name] ?? name}`,
  )
  let slice: MovingRow[] = []
  let bytes = 0
  for (const row of rows) {
    slice.push(
      kinds.map(([column, kind]): MovingValue => {
        const value = row[column] ?? null
        bytes += sizeOf(value)
        if (kind === 'boolean') return value === 1
        return kind === 'text' && value instanceof Uint8Array ? textOf(value) : value
      }),
    )
    if (slice.length < rowsPerSlice && bytes < bytesPerSlice) continue
    yield slice
    slice = []
    bytes = 0
  }
  if (slice.length > 0) yield slice
}

function textOf({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('utf8')
}

function sizeOf(value: SqlValue): number {
  return typeof value === 'string' || value instanceof Uint8Array ? value.length : 8
}
