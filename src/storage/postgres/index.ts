/** The public surface of `@k-msg/webhook/postgres`. Named exports only; a test keeps the list. */
export { auditPostgres, type BesideOptions } from './beside.ts'
export {
  type CallersTransaction,
  type DrizzleSql,
  type DrizzleTransaction,
  fromDrizzle,
  fromKysely,
  fromPrisma,
  type KyselyTransaction,
  type PrismaTransaction,
} from './callers.ts'
export { type PostgresOptions, type PostgresPool, postgres } from './postgres.ts'
