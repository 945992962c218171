// Every invariant is seen to fail on a database that was broken by hand: an audit that finds nothing
// wrong says something only then.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { audit } from '../../src/storage/sqlite/audit.ts'
import { Connection } from '../../src/storage/sqlite/connection.ts'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { invariants } from '../../src/storage/sqlite/invariants.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  delivered,
  endpoint,
  exhausted,
  group,
  ownedOf,
  rejected,
  retryAt,
  settle,
  testHost,
} from './fixtures.ts'

/** What each invariant is broken with. `ignore_check_constraints` is on. */
const breakages: Readonly<Record<string, string>> = {
  event_has_all_its_deliveries:
    "delete from done where id = (select id from done where state = 'delivered' limit 1)",
  delivery_is_in_one_table: `
    insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                      created_at_ms, settled_at_ms)
    select id, event_key, endpoint_key, 'cancelled', 'x', round, attempts, token, created_at_ms, 1
      from live where kind = 'single' limit 1`,
  delivery_has_its_event:
    "update live set event_key = 'nowhere' where kind = 'single' and batch_id is null",
  delivery_is_listed: 'delete from delivery_slot',
  waiting_delivery_has_its_body: 'update event set body = null',
  live_delivery_is_due_or_owned: 'update live set owner = 99 where owner is not null',
  waiting_delivery_has_an_open_endpoint: "update endpoint set status = 'disabled'",
  cancelled_delivery_does_not_wait: "update live set cancel_reason = 'x' where owner is null",
  retried_delivery_goes_on: "update done set retried_as = 'nowhere'",
  ended_with_a_reason: "update done set reason = '' where state = 'exhausted'",
  delivered_means_accepted: "update attempt set outcome = 'faulted'",
  attempts_add_up: 'update done set attempts = attempts + 1, token = token + 1',
  attempt_has_its_delivery: `
    insert into attempt values ('dlv_nobody', 1, 1, 1, 1, 'accepted', 200, null, null, 1, 0)`,
  statistics_add_up: "update rollup set attempts = attempts + 1 where endpoint_key <> ''",
  statistics_agree: 'update rollup set deliveries = deliveries + 1 where hour_ms = -1',
  ended_deliveries_are_counted: `
    update done set state = 'rejected' where state = 'exhausted'`,
  sealed_batch_is_whole: 'update live set batch_id = null where batch_id is not null',
  ordered_keys_go_on: `
    update live set order_key = 'k', order_no = 1, due_at_ms = 9000000000000000
     where id = (select id from live where kind = 'single' and batch_id is null limit 1)`,
  event_id_has_its_event: "update event_key set key = 'nowhere'",
  event_has_its_id: 'delete from event_key where key in (select event_key from live)',
  fan_out_has_its_event: 'update fan_out set position = total',
}

let folder: string
let file: string

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
  file = path.join(folder, 'webhooks.db')
  const host = testHost()
  const store = await sqlite({ path: file }).open(host)
  await store.saveEndpoint(endpoint('endpoint'), change('registered'))
  await store.saveEndpoint(endpoint('batched'), change('registered'))
  const records = Array.from({ length: 5 }, () => accept(host, { owned: true }))
  const toBatch = [1, 2, 3, 4].map(() => accept(host, { to: ['batched'] }))
  const wide = accept(host, { to: ['endpoint', 'batched'], wide: true })
  await commitAccepts(store, ...records, ...toBatch, wide, accept(host))
  const rule = { size: 2, maxBytes: 10_000 }
  const [first, second] = await claimAll(store, host, 'batched', rule)
  const ends = [delivered, exhausted, rejected, retryAt(host.now)]
  await store.commit(
    group({
      settlements: [
        ...ends.map((end, i) => settle(host, ownedOf(records[i]!), end)),
        settle(host, first!, delivered),
        settle(host, second!, retryAt(host.now)),
      ],
    }),
  )
  await store.close()
})

afterAll(() => rmSync(folder, { recursive: true }))

function auditAfter(sql: string): string[] {
  const connection = new Connection(loadDriver([import.meta.url]).open(':memory:'))
  connection.database.exec(`attach '${file}' as original`)
  for (const { sql: create } of connection.all<{ sql: string | null }>(
    "select sql from original.sqlite_schema where name not like 'sqlite_%' order by type desc",
  )) {
    if (create) connection.database.exec(create)
  }
  for (const { name } of connection.all<{ name: string }>(
    "select name from main.sqlite_schema where type = 'table' and name not like 'sqlite_%'",
  )) {
    connection.database.exec(`insert into main.${name} select * from original.${name}`)
  }
  connection.database.exec('detach original; pragma ignore_check_constraints = on')
  connection.database.exec(sql)
  const { problems } = audit(connection)
  connection.close()
  return problems.map(({ invariant }) => invariant)
}

test('the data these tests break is sound to begin with', () => {
  expect(auditAfter('select 1')).toEqual([])
})

test('every invariant has its breakage', () => {
  expect(invariants.map(({ name }) => name).sort()).toEqual(Object.keys(breakages).sort())
})

test.for(Object.entries(breakages))('%s', ([name, sql]) => {
  expect(auditAfter(sql)).toContain(name)
})

test('a file with a row that its own rules forbid is not sound', () => {
  const broken = auditAfter(`
    update live set token = -1, attempts = -1 where kind = 'single';
    pragma ignore_check_constraints = off`)
  expect(broken).toContain('file_is_sound')
})

test('a problem comes with its count and some ids', async () => {
  const connection = new Connection(loadDriver([import.meta.url]).open(file))
  connection.run(
    'update event set matched = matched + 1 where key in (select key from event limit 2)',
  )
  connection.close()
  const store = await sqlite({ path: file }).open(testHost())
  const { problems } = await store.audit()
  expect(problems).toEqual([
    {
      invariant: 'event_has_all_its_deliveries',
      count: 2,
      examples: [expect.any(String), expect.any(String)],
    },
  ])
  await store.close()
})
