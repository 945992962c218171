/**
 * The transaction of the caller where he writes through a library of his own: each is asked to run
 * one statement with parameters, by its public interface and typed by shape. What they return is
 * what `dispatchEvent` takes as `transaction`.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Queryable, QueryConfig } from './connection.ts'

/** What `transaction` takes besides a client of `pg`. */
export type CallersTransaction = Queryable

/** What `db.transaction(async (tx) => …)` of Drizzle hands in, with any driver for PostgreSQL. */
export interface DrizzleTransaction {
  execute(query: string | object): PromiseLike<unknown>
  rollback(): never
}

/** `sql` of `drizzle-orm`. */
export type DrizzleSql = (strings: TemplateStringsArray, ...values: unknown[]) => object

/**
 * @param tx what `db.transaction(async (tx) => …)` hands in
 * @param sql the tag of `drizzle-orm`
 * @throws WebhookError OPTION_INVALID for the database itself
 */
export function fromDrizzle(tx: DrizzleTransaction, sql: DrizzleSql): CallersTransaction {
  requireTransaction(typeof tx?.rollback === 'function', 'tx', 'db.transaction(async (tx) => …)')
  return running(async ({ text, values = [] }) => {
    // `insert … values ($1, $2)` as if it were written with the tag: sql`insert … values (${a}, ${b})`
    const numbers = [...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number))
    const strings = text.split(/\$\d+/)
    const template = Object.assign(strings, { raw: strings })
    await tx.execute(sql(template, ...numbers.map((number) => values[number - 1])))
  })
}

/** What `db.transaction().execute(async (trx) => …)` of Kysely hands in. */
export interface KyselyTransaction {
  readonly isTransaction: true
  executeQuery(query: object): Promise<unknown>
}

/**
 * @param trx what `db.transaction().execute(async (trx) => …)` hands in
 * @throws WebhookError OPTION_INVALID for the database itself
 */
export function fromKysely(trx: KyselyTransaction): CallersTransaction {
  const where = 'db.transaction().execute(async (trx) => …)'
  requireTransaction(trx?.isTransaction === true, 'trx', where)
  return running(async ({ text, values = [] }) => {
    // As CompiledQuery.raw(text, values) makes it.
    const query = { kind: 'RawNode', sqlFragments: [text], parameters: [] }
    const queryId = { queryId: crypto.randomUUID() }
    await trx.executeQuery({ sql: text, parameters: values, query, queryId })
  })
}

/** What `prisma.$transaction(async (tx) => …)` hands in. */
export interface PrismaTransaction {
  $executeRawUnsafe(query: string, ...values: unknown[]): PromiseLike<number>
}

/**
 * @param tx what `prisma.$transaction(async (tx) => …)` hands in
 * @throws WebhookError OPTION_INVALID for the client itself
 */
export function fromPrisma(tx: PrismaTransaction): CallersTransaction {
  const isTransaction =
    typeof tx?.$executeRawUnsafe === 'function' &&
    (tx as { $connect?: unknown }).$connect === undefined
  requireTransaction(isTransaction, 'tx', 'prisma.$transaction(async (tx) => …)')
  return running(async ({ text, values = [] }) => {
    // Not $queryRaw: it cannot read what pg_notify returns.
    await tx.$executeRawUnsafe(text, ...values)
  })
}

function running(run: (config: QueryConfig) => Promise<void>): CallersTransaction {
  return {
    async query(config) {
      await run(config)
      return { rows: [], rowCount: null }
    },
  }
}

function requireTransaction(isOne: boolean, name: string, where: string): void {
  if (isOne) return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected the \`${name}\` that ${where} hands in, got something else: outside of it the event would not commit or roll back with your rows.`,
  )
}
