/**
 * Storage in PostgreSQL, for any number of processes on any number of machines. Knows how to get
 * there; what is there belongs to store.ts. Nothing else in the package loads `pg`.
 */
import { describeValue, WebhookError } from '../../model/errors.ts'
import { checkOptions } from '../../model/given.ts'
import type { Storage, StorageHost } from '../storage.ts'
import { Database, type Pool, Schema } from './connection.ts'
import { storageError } from './errors.ts'
import { ConnectionPool } from './pool.ts'
import { type ClientClass, inspect, type OpenClient, Servers } from './servers.ts'
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
/**
 * Events and deliveries in PostgreSQL 15 or newer. Opens nothing until the service starts. Of several
 * servers (a primary and its standbys) the first that answers and takes writes is used, and looked for
 * again when it is lost. A pool that is handed in is used as it is and left open.
 *
 * @param target `postgres://user:password@host/database`, several of them, or a `Pool` of `pg`
 * @throws WebhookError OPTION_UNKNOWN | OPTION_INVALID | OPTION_OUT_OF_RANGE
 */
export function postgres(
  target: string | readonly string[] | PostgresPool,
  options: PostgresOptions = {},
): Storage {
  checkTarget(target)
  checkPostgres(options)
  const schema = new Schema(options.schema ?? 'kmsg')
  const leaseMs = options.leaseMs ?? 30_000
  const urls = typeof target === 'string' ? [target] : isList(target) ? [...target] : null
  const location = urls?.map(withoutPassword).join(', ') ?? 'the pool handed to postgres()'
  return {
    kind: 'postgres',
    async open(host) {
      const way = urls
        ? await ourWay(urls, options.maxConnections ?? 6, host)
        : wayOfApp(target as Pool, host, location)
      const database = new Database({
        pool: way.pool,
        schema,
        location,
        idleInTransactionMs: Math.min(10_000, Math.floor(leaseMs / 2)),
        random: Math.random,
      })
      try {
        const parts = { leaseMs, clock: machineClock, listen: way.listen, onClose: way.leave }
        const store = await openStore(database, host, parts)
        host.log('info', 'storage is open', { location, storage: store.description })
        return store
      } catch (error) {
        await way.leave()
        throw storageError(error, location)
      }
    },
  }
}

/** How this process gets to the database. */
interface Way {
  readonly pool: Pool
  /** One more connection, to listen on; null when none can be made. */
  readonly listen: (() => Promise<OpenClient>) | null
  leave(): Promise<void>
}

export async function ourWay(
  urls: readonly string[],
  max: number,
  host: Pick<StorageHost, 'log'>,
): Promise<Way> {
  const servers = new Servers(await loadDriver(), urls, (url) =>
    host.log('warn', 'another database server takes writes now', {
      location: withoutPassword(url),
    }),
  )
  const connect = () => servers.connect()
  const pool = new ConnectionPool(connect, max)
  return { pool, listen: connect, leave: () => pool.end() }
}

export function wayOfApp(pool: Pool, host: Pick<StorageHost, 'log'>, location: string): Way {
  // A connection that breaks while nobody uses it: the pool makes another. Unheard, it ends the app.
  const unheard = (error: Error) =>
    host.log('warn', 'an idle database connection broke', { location, error: error.message })
  pool.on('error', unheard)
  const leave = async () => {
    pool.off?.('error', unheard)
  }
  return { pool, listen: listenerOf(pool), leave }
}

async function loadDriver(): Promise<ClientClass> {
  try {
    return (await import('pg')).default.Client as unknown as ClientClass
  } catch (error) {
    throw new WebhookError(
      'STORAGE_UNAVAILABLE',
      'Expected the package "pg" to be installed beside the app, and it cannot be loaded; run `npm install pg`.',
      { cause: error },
    )
  }
}

/** A pool of the app's own says with which class its connections are made. */
function listenerOf({ options, Client }: Pool): (() => Promise<OpenClient>) | null {
  if (Client === undefined || options === undefined) return null
  const own = { keepAlive: true, connectionTimeoutMillis: 5_000 }
  return async () => {
    // A pool hides its password from those who only copy.
    const { password } = options as { password?: unknown }
    const client = new Client({ ...options, ...own, ...(password !== undefined && { password }) })
    const destroy = () => void client.end().catch(() => {})
    client.on('error', () => {})
    try {
      await client.connect()
      return { client, isPooled: (await inspect(client)).isPooled, destroy }
    } catch (error) {
      destroy()
      throw error
    }
  }
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

const expectedTarget =
  'Expected a URL like postgres://user:password@host/database, a list of them, or a Pool of `pg`'

export function checkTarget(target: unknown): void {
  if (typeof target === 'string') checkUrl(target)
  else if (isList(target) && target.length > 0) target.forEach(checkUrl)
  else {
    const { connect, on } = (target ?? {}) as { connect?: unknown; on?: unknown }
    if (typeof connect === 'function' && typeof on === 'function') return
    throw new WebhookError('OPTION_INVALID', `${expectedTarget}, got ${describeValue(target)}.`)
  }
}

function checkUrl(url: unknown): void {
  if (typeof url === 'string' && /^postgres(ql)?:\/\//.test(url) && URL.canParse(url)) return
  // Not the text itself: it may hold a password.
  const got = typeof url === 'string' ? 'another text' : describeValue(url)
  throw new WebhookError('OPTION_INVALID', `${expectedTarget}, got ${got}.`)
}

/** `Array.isArray` says nothing about read-only ones. */
export function isList(target: unknown): target is readonly unknown[] {
  return Array.isArray(target)
}

export function checkPostgres(options: PostgresOptions): void {
  checkOptions(options, knownOptions, 'postgres()')
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
