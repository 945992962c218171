// Several processes bring the same event at the same moment: one stores it, the others find it.
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { AcceptRecord } from '../../src/storage/commit-records.ts'
import { postgres } from '../../src/storage/postgres/index.ts'
import type { Store } from '../../src/storage/storage.ts'
import { accept, group, type TestHost, testHost } from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

let schema: TestSchema
let store: Store
let other: pg.Client

beforeEach(async () => {
  schema = freshSchema()
  store = await postgres(schema.url, { schema: schema.name }).open(testHost())
  other = new pg.Client({ connectionString: schema.url })
  await other.connect()
})

afterEach(async () => {
  await other.end()
  await store.close()
  await schema.drop()
})

test.each([0, 1])(
  'correctness 9: who is a moment too late finds the event that won, and stores %i others',
  async (others) => {
    const host = testHost()
    const mine = matched(host, 'both')
    const theirs = matched(host, 'both')
    const rest = Array.from({ length: others }, (_, i) => matched(host, `mine ${i}`))
    await other.query('begin')
    await other.query(
      `insert into ${schema.name}.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
     values ($1, 'both', $2, $3, 1)`,
      [theirs.event.tenantId, theirs.event.key, theirs.event.contentHash],
    )
    const committed = store.commit(group({ accepts: [mine, ...rest] }))
    await someoneWaits()
    await other.query('commit')
    expect((await committed).accepts).toMatchObject([
      { kind: 'duplicate', eventKey: theirs.event.key, sameContent: true },
      ...rest.map(() => ({ kind: 'stored' })),
    ])
    const { rows } = await other.query(`select id from ${schema.name}.event order by id`)
    expect(rows).toEqual(rest.map(({ event }) => ({ id: event.id })))
  },
)

test('the same id twice in one group is stored once', async () => {
  const host = testHost()
  const twice = [matched(host, 'twice'), matched(host, 'twice')]
  const { accepts } = await store.commit(group({ accepts: twice }))
  expect(accepts.map(({ kind }) => kind).sort()).toEqual(['duplicate', 'stored'])
})

test('what is known is told from what is new, by each of the ways in which groups are written', async () => {
  const host = testHost()
  await store.close()
  store = await postgres(schema.url, { schema: schema.name }).open(host)
  const first = matched(host, 'known')
  const commit = async (...accepts: AcceptRecord[]) =>
    (await store.commit(group({ accepts }))).accepts.map(({ kind }) => kind)
  expect(await commit(first)).toEqual(['stored'])
  for (const [round, afterMs] of [0, 1_000, 58_000, 2_000, 0].entries()) {
    host.now += afterMs
    const name = `round ${round}`
    const kinds = await commit(
      matched(host, `${name} a`),
      matched(host, 'known'),
      matched(host, name),
    )
    expect(kinds, name).toEqual(['stored', 'duplicate', 'stored'])
    expect(await commit(matched(host, `${name} alone`))).toEqual(['stored'])
  }
  // The answer to the first commit was lost, and the group is written again.
  host.now += 120_000
  expect(await commit(first, matched(host, 'last'))).toEqual(['stored', 'stored'])
  const { rows } = await other.query(`select count(*)::int as events,
    (select count(*)::int from ${schema.name}.live) as live from ${schema.name}.event`)
  expect(rows).toEqual([{ events: 17, live: 17 }])
})

test('of a group that was matched with endpoints of different times, each is judged by itself', async () => {
  const host = testHost()
  const [old, current] = [matched(host, 'old'), matched(host, 'current')]
  const { accepts } = await store.commit(
    group({ accepts: [{ ...old, endpointsVersion: 0 }, current] }),
  )
  expect(accepts.map(({ kind }) => kind)).toEqual(['stale', 'stored'])
  const { rows } = await other.query(`select id from ${schema.name}.event`)
  expect(rows).toEqual([{ id: 'current' }])
})

/** With the newest endpoints, as nearly all are. */
function matched(host: TestHost, id: string): AcceptRecord {
  return { ...accept(host, { id, owned: true }), endpointsVersion: 1 }
}

/** Until somebody waits for the end of the transaction of `other`. */
async function someoneWaits(): Promise<void> {
  const waiting = `
    select from pg_locks where not granted and transactionid = pg_current_xact_id()::text::xid`
  while ((await other.query(waiting)).rowCount === 0) await new Promise(setImmediate)
}
