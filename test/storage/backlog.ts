// A backlog as large as a test wants, written straight into the tables: accepting a million events
// through the store would take a minute, and what is measured is what comes after.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'vitest'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  commitAccepts,
  endpointKey,
  query,
  room,
  startMs,
  type TestHost,
  testHost,
} from './fixtures.ts'

/** `waiting` deliveries, nine of ten of them of one endpoint that is paused and oldest. */
function writeBacklog(file: string, waiting: number, busyEndpoints: number): void {
  const database = loadDriver([import.meta.url]).open(file)
  database.exec(`
    begin;
    create temp table source as
      with recursive n (i) as (select 0 union all select i + 1 from n where i < ${waiting - 1})
      select printf('%010d%014d', i / 20, i) as key,
             iif(i % 10 < 9, '${endpointKey('paused')}', printf('busy%04d', i % ${busyEndpoints})) as endpoint
        from n;
    insert into event (key, tenant_id, id, type, accepted_at_ms, matched, body)
      select key, '', 'old' || key, 'message.sent', ${startMs}, 1, zeroblob(300) from source;
    insert into event_key (tenant_id, id, key, content_hash, accepted_at_ms)
      select '', 'old' || key, key, x'00', ${startMs} from source;
    insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts, due_at_ms,
                      round, created_at_ms)
      select 'dlv_' || key || '_' || endpoint, 'single', 0, key, endpoint, 'waiting', 0, 0,
             ${startMs} - 1000 + rowid / 1000, 1, ${startMs} from source;
    insert into delivery_slot (endpoint_key, slot)
      select distinct endpoint, 'dlv_' || substr(key, 1, 8) from source;
    commit`)
  database.close()
}

interface Speeds {
  readonly claimMs: number
  readonly acceptMs: number
  readonly headsMs: number
  readonly backlogMs: number
  readonly listMs: number
  readonly listOfEndpointMs: number
}

/** Medians of 21 rounds: 100 accepts, then a claim of what came, and some questions. */
async function measure(store: Store, host: TestHost): Promise<Speeds> {
  const rounds: Speeds[] = []
  for (let i = 0; i < 21; i += 1) {
    const records = Array.from({ length: 100 }, () => accept(host, { to: ['fresh'] }))
    const acceptMs = await timed(() => commitAccepts(store, ...records))
    const rooms = [room('fresh', 100), room('busy0001', 20), room('none', 10)]
    rounds.push({
      acceptMs,
      claimMs: await timed(() => store.claim(rooms, host.now + 10_000_000)),
      headsMs: await timed(() => store.heads()),
      backlogMs: await timed(() => store.backlog()),
      listMs: await timed(() => store.listDeliveries(query({ limit: 50 }))),
      listOfEndpointMs: await timed(() =>
        store.listDeliveries(query({ limit: 50, endpointKey: 'busy0009' })),
      ),
    })
  }
  const median = (name: keyof Speeds) =>
    rounds.map((round) => round[name]).sort((a, b) => a - b)[10] ?? Number.NaN
  return {
    claimMs: median('claimMs'),
    acceptMs: median('acceptMs'),
    headsMs: median('headsMs'),
    backlogMs: median('backlogMs'),
    listMs: median('listMs'),
    listOfEndpointMs: median('listOfEndpointMs'),
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return performance.now() - startedMs
}

async function speedsWith(backlog: number): Promise<Speeds> {
  const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
  const file = path.join(folder, 'webhooks.db')
  const host = testHost()
  await (await sqlite({ path: file }).open(host)).close()
  if (backlog > 0) writeBacklog(file, backlog, 50)
  const openedMs = performance.now()
  const store = await sqlite({ path: file }).open(host)
  const openMs = performance.now() - openedMs
  try {
    const speeds = await measure(store, host)
    console.log(`${backlog} waiting: open ${openMs.toFixed(0)} ms`, rounded(speeds))
    return speeds
  } finally {
    await store.close()
    rmSync(folder, { recursive: true })
  }
}

const rounded = (speeds: Speeds) =>
  Object.fromEntries(Object.entries(speeds).map(([name, ms]) => [name, Number(ms.toFixed(2))]))

/** Compares a store with hardly any backlog to one with `waiting` deliveries. */
export async function expectFlat(waiting: number): Promise<void> {
  const small = await speedsWith(1_000)
  const large = await speedsWith(waiting)
  // Twice, and two milliseconds for a machine that is doing other things.
  expect(large.claimMs).toBeLessThan(2 * small.claimMs + 2)
  expect(large.acceptMs).toBeLessThan(2 * small.acceptMs + 2)
  expect(large.headsMs).toBeLessThan(20)
  expect(large.backlogMs).toBeLessThan(20)
  expect(large.listMs).toBeLessThan(50)
  expect(large.listOfEndpointMs).toBeLessThan(100)
}
