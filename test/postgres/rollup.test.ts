// Sums that every commit adds to, behind a transaction that lets nothing old be cleared away.
import pg from 'pg'
import { expect, test } from 'vitest'
import { postgres } from '../../src/storage/postgres/index.ts'
import { accept, commitAccepts, group, ownedOf, settle, testHost } from '../storage/fixtures.ts'
import { freshSchema } from './schemas.ts'

const commits = 600

test('a commit goes through few versions of its sums, and they add up', async () => {
  const schema = freshSchema()
  const host = testHost()
  const store = await postgres(schema.url, { schema: schema.name }).open(host)
  const other = new pg.Client({ connectionString: schema.url })
  await other.connect()
  const records = Array.from({ length: commits }, () => accept(host, { owned: true }))
  await commitAccepts(store, ...records)
  await other.query('begin isolation level repeatable read')
  await other.query('select pg_current_xact_id()')
  for (const record of records) {
    await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
  }
  const reader = new pg.Client({ connectionString: schema.url })
  await reader.connect()
  const newest = await reader.query(
    `select * from ${schema.name}.rollup where hour_ms = -1 order by writer desc limit 1`,
  )
  const key = ['hour_ms', 'tenant_id', 'event_type', 'outcome', 'state', 'latency_class', 'writer']
  const same = key.map((column) => `${column} = '${newest.rows[0][column]}'`).join(' and ')
  const { rows } = await reader.query(
    `explain (analyze, buffers, format json)
     select * from ${schema.name}.rollup where endpoint_key = '' and ${same}`,
  )
  const [{ Plan: plan }] = rows[0]['QUERY PLAN']
  expect(plan['Actual Rows']).toBe(1)
  // All of its versions are on more pages; it meets those since the number changed.
  expect(plan['Shared Hit Blocks'] + plan['Shared Read Blocks']).toBeLessThan(12)
  await other.query('rollback')
  await other.end()

  const sums = await reader.query(
    `select sum(attempts)::int as attempts, count(distinct writer)::int as writers
       from ${schema.name}.rollup where hour_ms = -1`,
  )
  expect(sums.rows[0].attempts).toBe(commits)
  expect((await store.audit()).problems).toEqual([])
  await store.close()
  // The lasting ones, and those of the last commits.
  const left = await reader.query(
    `select count(distinct writer)::int as n from ${schema.name}.rollup`,
  )
  expect(left.rows[0].n).toBe(2)
  await reader.end()
  await schema.drop()
})
