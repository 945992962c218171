/**
 * Chooses the SQLite of this process: the one built into the runtime when it is new enough, else
 * the npm package with the same API. Knows no schema and opens no file of its own.
 *
 * SQLite up to 3.51.2 can lose committed rows in WAL mode when a write races a checkpoint on
 * another connection (sqlite.org/wal.html), so an older one is never used.
 */
// Not by name: the usual banner of an ESM bundle with CommonJS in it declares `createRequire` itself.
import nodeModule from 'node:module'
import { WebhookError } from '../../model/errors.ts'

export type SqlValue = string | number | null | Uint8Array

export interface Statement {
  run(...values: SqlValue[]): { changes: number | bigint }
  get(...values: SqlValue[]): unknown
  all(...values: SqlValue[]): unknown[]
  iterate(...values: SqlValue[]): Iterable<unknown>
}

/** The part of `DatabaseSync` that we use; typed by shape, because Node 20 has no types for it. */
export interface Database {
  exec(sql: string): void
  prepare(sql: string): Statement
  close(): void
}

export interface Driver {
  readonly name: 'node:sqlite' | '@photostructure/sqlite'
  readonly version: string
  open(path: string, options?: { readOnly?: boolean }): Database
}

interface SqliteModule {
  DatabaseSync: new (path: string, options?: { readOnly?: boolean }) => Database
}

const oldestVersion = '3.51.3'

/**
 * @param loadFrom files or folders to resolve the npm package from, in this order: a thread started
 *   from text and an app in one bundle have no `node_modules` of their own
 * @throws WebhookError STORAGE_UNAVAILABLE when neither is there
 */
export function loadDriver(loadFrom: readonly string[]): Driver {
  const builtin = loadBuiltin()
  const driver = builtin && asDriver('node:sqlite', builtin)
  if (driver && isAtLeast(driver.version, oldestVersion)) return driver
  const causes: unknown[] = []
  for (const from of loadFrom) {
    try {
      const loaded = nodeModule.createRequire(from)('@photostructure/sqlite') as SqliteModule
      return asDriver('@photostructure/sqlite', loaded)
    } catch (error) {
      causes.push(error)
    }
  }
  throw new WebhookError(
    'STORAGE_UNAVAILABLE',
    `Expected SQLite ${oldestVersion} or newer, got ${driver ? `${driver.version} built into this runtime` : 'none built into this runtime'} and no loadable package "@photostructure/sqlite"; install that package beside the app (npm install @photostructure/sqlite), or use a newer Node.`,
    { cause: causes[0] },
  )
}

function asDriver(name: Driver['name'], { DatabaseSync }: SqliteModule): Driver {
  const probe = new DatabaseSync(':memory:')
  const row = probe.prepare('select sqlite_version() as version').get() as { version: string }
  probe.close()
  return {
    name,
    version: row.version,
    open: (path, options = {}) => new DatabaseSync(path, options),
  }
}

/** Node 22 warns that SQLite is experimental; only that one warning is kept from the console. */
function loadBuiltin(): SqliteModule | undefined {
  const emitWarning = process.emitWarning
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    if (String(warning).includes('SQLite is an experimental feature')) return
    Reflect.apply(emitWarning, process, [warning, ...rest])
  }) as typeof process.emitWarning
  try {
    return process.getBuiltinModule('node:sqlite' as 'node:fs') as unknown as SqliteModule
  } finally {
    process.emitWarning = emitWarning
  }
}

function isAtLeast(version: string, oldest: string): boolean {
  return version.localeCompare(oldest, 'en', { numeric: true }) >= 0
}
