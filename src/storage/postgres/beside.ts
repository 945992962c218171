/** Long work beside the services: on connections of its own, with all the time it takes. */
import type { AuditReport } from '../storage.ts'
import { audit } from './audit.ts'
import { Database, type Pool, Schema } from './connection.ts'
import {
  checkOptions,
  checkTarget,
  createPool,
  loadDriver,
  type PostgresPool,
  withoutPassword,
} from './postgres.ts'
import { checkServer, requireSchema } from './schema.ts'

export interface BesideOptions {
  /** Schema of the tables. Default `kmsg`. */
  schema?: string | undefined
}

/**
 * Checks the data of a service without opening one on it, also while some run. Changes nothing.
 *
 * @param target `postgres://user:password@host/database`, or a `Pool` of `pg`
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_UNAVAILABLE | OPTION_INVALID
 */
export function auditPostgres(
  target: string | PostgresPool,
  options: BesideOptions = {},
): Promise<AuditReport> {
  return beside(target, options, async (database) => {
    await requireSchema(database)
    return await audit(database)
  })
}

/** Opens the way there for this work alone; a pool that is handed in stays open. */
export async function beside<Result>(
  target: string | PostgresPool,
  { schema }: BesideOptions,
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  checkTarget(target)
  checkOptions({ schema })
  const isOurs = typeof target === 'string'
  const pool: Pool = isOurs ? createPool(await loadDriver(), target, 2, 0) : target
  const location = isOurs ? withoutPassword(target) : 'the pool that was handed in'
  // A connection that breaks while it is idle: the next question says so.
  const unheard = () => {}
  pool.on('error', unheard)
  try {
    const database = new Database(pool, new Schema(schema ?? 'kmsg'), location)
    await checkServer(database)
    return await work(database)
  } finally {
    if (isOurs) await pool.end()
    else pool.off?.('error', unheard)
  }
}
