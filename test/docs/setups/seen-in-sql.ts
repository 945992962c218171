import { createRequire } from 'node:module'
import type { WebhookReceiver } from '@k-msg/webhook/receiver'
import { expect } from 'vitest'
import { signed } from '../receivers.ts'

interface Database {
  prepare(sql: string): { all(...values: unknown[]): Record<string, unknown>[] }
}
const { DatabaseSync } = createRequire(import.meta.url)('@photostructure/sqlite') as {
  DatabaseSync: new (file: string) => Database
}
const database = new DatabaseSync(':memory:')

/** The part of PostgreSQL's client that is used, in front of SQLite, where `$1` is spelled `?1`. */
export const pool = {
  async query(sql: string, values: unknown[] = []): Promise<{ rows: Record<string, unknown>[] }> {
    return { rows: database.prepare(sql.replaceAll(/\$(\d)/g, '?$1')).all(...values) }
  },
}

export async function check({ receiver }: { receiver: WebhookReceiver }): Promise<void> {
  let handled = 0
  receiver.on('*', () => {
    handled += 1
  })
  const { headers, body } = signed
  expect((await receiver.receive({ headers, body })).status).toBe(200)
  expect((await receiver.receive({ headers, body })).status).toBe(200)
  expect(handled).toBe(1)
}
