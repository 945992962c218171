// A backlog of more rows than are counted.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import { testHost } from '../storage/fixtures.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

let schema: TestSchema
let store: Store

beforeEach(async () => {
  schema = freshSchema()
  store = await postgres(schema.url, { schema: schema.name }).open(testHost())
})

afterEach(async () => {
  await store.close()
  await schema.drop()
})

test('is estimated, and its oldest is still known to the millisecond', async () => {
  await onServer(schema.url, async (client) => {
    await client.query(`set search_path to ${schema.name}`)
    await client.query(`
      insert into live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                        due_at_ms, round, created_at_ms)
      select 'dlv_' || i, 'single', 1, 'event' || i, 'endpoint',
             case when i % 4 = 0 then 'delivering' else 'waiting' end, case when i % 4 = 0 then 1 end,
             1, 0, i, 1, 1
        from generate_series(1, 160000) as i`)
    await client.query('analyze live')
  })
  const { waiting, delivering, oldestDueAtMs } = await store.backlog()
  expect(Math.abs(waiting - 120_000)).toBeLessThan(5_000)
  expect(Math.abs(delivering - 40_000)).toBeLessThan(5_000)
  expect(oldestDueAtMs).toBe(1)
})
