/**
 * Storage in PostgreSQL, for any number of processes on any number of machines. Knows how to get
 * there; what is there belongs to store.ts. Nothing else in the package loads `pg`.
 */
import { describeValue, WebhookError } from '../../model/errors.ts'
import type { Storage, StorageHost, Store } from '../storage.ts'
import { Database, type Pool, type Queryable, Schema } from './connection.ts'
import { storageError } from './errors.ts'
import type { NotifyingClient } from './hints.ts'
import { openStore } from './store.ts'
import type { WorkerClock } from './worker.ts'

/** A pool of `pg`: typed by shape, so that its version and ours need not be the same. */
export type PostgresPool = Pool

export interface PostgresOptions {
  /** Schema of the tables; created when it is not there. Default `kmsg`. */
  schema?: string | undefined
  /** Connections of this process at the most; not with a pool of your own. Default 6. */
  maxConnections?: number | undefined
  /**
   * How long a process that does not answer keeps what it is sending; then others send it. At least
   * 1,000. Default 30,000.
   */
  leaseMs?: number | undefined
}

const knownOptions: readonly string[] = ['schema', 'maxConnections', 'leaseMs']
const connectWithinMs = 5_000
const answerWithinMs = 30_000

/**
 * Events and deliveries in PostgreSQL 15 or newer. Opens nothing until the service starts. A pool
 * that is handed in is used and left open; one made here is closed with the service.
 *
 * @param target `postgres://user:password@host/database`, or a `Pool` of `pg`
 * @throws WebhookError OPTION_UNKNOWN | OPTION_INVALID | OPTION_OUT_OF_RANGE
 */
export function postgres(target: string | PostgresPool, options: PostgresOptions = {}): Storage {
  checkTarget(target)
  checkOptions(options)
  const schema = new Schema(options.schema ?? 'kmsg')
  const leaseMs = options.leaseMs ?? 30_000
  return {
    kind: 'postgres',
    async open(host) {
      const isOurs = typeof target === 'string'
      const pg = isOurs ? await loadDriver() : null
      const pool = pg
        ? createPool(pg, String(target), options.maxConnections ?? 6)
        : (target as Pool)
      const location = isOurs ? withoutPassword(target) : 'the pool handed to postgres()'
      return await openPool(
        new Database(pool, schema, location),
        host,
        leaseMs,
        isOurs,
        listenerOf(pool, pg),
      )
    },
  }
}

async function openPool(
  database: Database,
  host: StorageHost,
  leaseMs: number,
  isOurs: boolean,
  createListener: (() => NotifyingClient) | null,
): Promise<Store> {
  const { pool, location } = database
  // A connection that breaks while nobody uses it: the pool makes another. Unheard, it ends the app.
  const unheard = (error: Error) =>
    host.log('warn', 'an idle database connection broke', { location, error: error.message })
  pool.on('error', unheard)
  const leave = async () => {
    if (isOurs) await pool.end()
    else pool.off?.('error', unheard)
  }
  try {
    const store = await openStore(database, host, {
      leaseMs,
      clock: machineClock,
      createListener,
      onClose: leave,
    })
    host.log('info', 'storage is open', { location, storage: store.description })
    return store
  } catch (error) {
    await leave()
    throw storageError(error, location)
  }
}

interface Driver {
  readonly Pool: new (options: object) => Pool
  readonly Client: new (options: object) => NotifyingClient
}

export async function loadDriver(): Promise<Driver> {
  try {
    return (await import('pg')).default as unknown as Driver
  } catch (error) {
    throw new WebhookError(
      'STORAGE_UNAVAILABLE',
      'Expected the package "pg" to be installed beside the app, and it cannot be loaded; run `npm install pg`.',
      { cause: error },
    )
  }
}

/** @param answerMs how long one statement may take; 0 for as long as it likes */
export function createPool(
  { Pool: PgPool }: Driver,
  url: string,
  max: number,
  answerMs: number = answerWithinMs,
): Pool {
  return new PgPool({
    connectionString: url,
    max,
    connectionTimeoutMillis: connectWithinMs,
    // A connection that is half open gives no error by itself, ever.
    query_timeout: answerMs,
    keepAlive: true,
    application_name: 'kmsg-webhook',
    // Compiling our statements would take longer than running them.
    verify: (client: Queryable, done: (error?: unknown) => void) => {
      client.query({ text: 'set jit = off; set enable_seqscan = off' }).then(() => done(), done)
    },
  })
}

/** A pool of the app's own says with which class its connections are made. */
function listenerOf(pool: Pool, driver: Driver | null): (() => NotifyingClient) | null {
  const { options, Client } = pool as Pool & { Client?: Driver['Client'] }
  const Made = driver?.Client ?? Client
  if (Made === undefined || options === undefined) return null
  return () => new Made({ ...options, keepAlive: true })
}

/** Neither keeps the process alive: what is under way does. */
const machineClock: WorkerClock = {
  steadyMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(callback, delayMs) {
    const handle = setTimeout(callback, delayMs)
    handle.unref()
    return () => clearTimeout(handle)
  },
}

export function withoutPassword(url: string): string {
  const { protocol, hostname, port, pathname } = new URL(url)
  return `${protocol}//${hostname}${port && `:${port}`}${pathname}`
}

export function checkTarget(target: unknown): void {
  if (typeof target === 'string') {
    if (/^postgres(ql)?:\/\//.test(target) && URL.canParse(target)) return
    throw new WebhookError(
      'OPTION_INVALID',
      'Expected a URL like postgres://user:password@host/database, or a Pool of `pg`, got another text.',
    )
  }
  const { query, connect } = (target ?? {}) as { query?: unknown; connect?: unknown }
  if (typeof query === 'function' && typeof connect === 'function') return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected a URL like postgres://user:password@host/database, or a Pool of \`pg\`, got ${describeValue(target)}.`,
  )
}

export function checkOptions(options: PostgresOptions): void {
  for (const name of Object.keys(options)) {
    if (knownOptions.includes(name)) continue
    throw new WebhookError(
      'OPTION_UNKNOWN',
      `Expected an option of postgres() (${knownOptions.join(', ')}), got \`${name}\`.`,
    )
  }
  const { schema, maxConnections, leaseMs } = options
  if (schema !== undefined && !/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`schema\` of postgres() to be up to 63 of a–z, 0–9 and _, got ${describeValue(schema)}.`,
    )
  }
  requireAtLeast('maxConnections', maxConnections, 2)
  requireAtLeast('leaseMs', leaseMs, 1_000)
}

function requireAtLeast(name: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${name}\` of postgres() to be a whole number, at least ${least}, got ${describeValue(value)}.`,
  )
}
