/** Long work beside the services: on connections of its own, with all the time it takes. */
import { checkOptions } from '../../model/given.ts'
import type { AuditReport } from '../upkeep.ts'
import { audit } from './audit.ts'
import { Database, type Patience, Schema } from './connection.ts'
import {
  checkPostgres,
  checkTarget,
  isList,
  ourWay,
  type PostgresPool,
  wayOfApp,
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
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_UNAVAILABLE | OPTION_…
 */
export async function auditPostgres(
  target: string | readonly string[] | PostgresPool,
  options: BesideOptions = {},
): Promise<AuditReport> {
  checkOptions(options, ['schema'], 'auditPostgres()')
  return await beside(target, options, async (database) => {
    await requireSchema(database)
    return await audit(database)
  })
}

/** What is under way is a person's, who can stop it. */
const allItTakes: Patience = { answerWithinMs: Number.POSITIVE_INFINITY, repeatForMs: 0 }
/** A connection that breaks while it is idle: the next question says so. */
const quiet = { log: () => {} }

/** Opens the way there for this work alone; a pool that is handed in stays open. */
export async function beside<Result>(
  target: string | readonly string[] | PostgresPool,
  { schema }: BesideOptions,
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  checkTarget(target)
  checkPostgres({ schema })
  const urls = typeof target === 'string' ? [target] : isList(target) ? [...target] : null
  const location = urls?.map(withoutPassword).join(', ') ?? 'the pool that was handed in'
  const way = urls
    ? await ourWay(urls, 2, quiet)
    : wayOfApp(target as PostgresPool, quiet, location)
  try {
    const parts = { pool: way.pool, location, random: Math.random, idleInTransactionMs: 0 }
    const database = new Database({ ...parts, schema: new Schema(schema ?? 'kmsg') }, allItTakes)
    await checkServer(database)
    return await work(database)
  } finally {
    await way.leave()
  }
}
