/**
 * Tells our database from a foreign, newer or damaged one before anything is written to it, and
 * brings an older one up to date.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Connection } from './connection.ts'
import { migrations } from './migrations/migrations.ts'

/** `kmsg` in ASCII. */
export const applicationId = 0x6b6d7367

/**
 * @returns the schema number found; 0 for a database still empty
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER
 */
export function schemaNumber(connection: Connection, location: string): number {
  const found = readPragma(connection, 'application_id')
  const number = readPragma(connection, 'user_version')
  const { tables } = connection.get<{ tables: number }>(
    'select count(*) as tables from sqlite_schema',
  ) ?? { tables: 0 }
  if (found === 0 && number === 0 && tables === 0) return 0
  if (found !== applicationId) {
    throw new WebhookError(
      'STORAGE_FOREIGN',
      `Expected ${location} to be a database of @k-msg/webhook, got one of another application (application_id ${found}, ${tables} tables); name another file in \`storage\`. Nothing in it was changed.`,
    )
  }
  if (number > migrations.length) {
    throw new WebhookError(
      'STORAGE_SCHEMA_NEWER',
      `Expected ${location} to have schema ${migrations.length} or older, got ${number}: a newer @k-msg/webhook has written it; update this one. Nothing in it was changed.`,
    )
  }
  return number
}

/** For readers that must not write: the schema has to be there and be this package's. */
export function requireSchema(connection: Connection, location: string): void {
  const number = schemaNumber(connection, location)
  if (number === migrations.length) return
  throw new WebhookError(
    'STORAGE_FOREIGN',
    `Expected ${location} to have schema ${migrations.length}, got ${number === 0 ? 'an empty database' : number}; start the service on it once, which brings it up to date.`,
  )
}

/**
 * All that are missing are one transaction, so that a crash leaves the schema that was found, and a
 * new database costs one sync instead of one for each. They may move rows that hold secrets, and no
 * copy may stay behind.
 */
export function migrate(connection: Connection, from: number): void {
  if (from === migrations.length) return
  connection.erasing(() =>
    connection.write(() => {
      for (const migration of migrations.slice(from)) connection.database.exec(migration)
      connection.database.exec(`pragma application_id = ${applicationId}`)
      connection.database.exec(`pragma user_version = ${migrations.length}`)
    }),
  )
}

function readPragma(connection: Connection, name: string): number {
  return connection.get<Record<string, number>>(`pragma ${name}`)?.[name] ?? 0
}
