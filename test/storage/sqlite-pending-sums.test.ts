// Sums of large commits wait in rows of their own before they are added together (decision 0022).

import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { movingTables } from '../../src/storage/moving.ts'
import { audit } from '../../src/storage/sqlite/audit.ts'
import { Connection } from '../../src/storage/sqlite/connection.ts'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { exportFile } from '../../src/storage/sqlite/export.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import type { Store } from '../../src/storage/storage.ts'
import { emptyFolder } from '../cli/command.ts'
import {
  accept,
  change,
  commitAccepts,
  endpoint,
  endpointKey,
  group,
  hour,
  ownedOf,
  settle,
  type TestHost,
  testHost,
} from './fixtures.ts'

const everything = { endpointKey: null, tenantId: null, fromMs: null, toMs: null, perHour: false }
/** One in each class: with two endpoints these are more sums than are added at once. */
const latencies = Array.from({ length: 50 }, (_, i) => 1.25 ** (i + 0.5))

let file: string
let host: TestHost
let store: Store

beforeEach(async () => {
  file = path.join(await emptyFolder(), 'sums.db')
  host = testHost()
  store = await sqlite({ path: file }).open(host)
  await store.saveEndpoint(endpoint('one'), change('registered'))
  await store.saveEndpoint(endpoint('two'), change('registered'))
})
afterEach(() => store.close())

/** Delivers one event for each latency to each endpoint, in one commit. */
async function deliver(): Promise<void> {
  const to = latencies.flatMap(() => ['one', 'two'])
  const records = to.map((name) => accept(host, { owned: true, to: [name] }))
  await commitAccepts(store, ...records)
  const settlements = records.map((record, i) =>
    settle(host, ownedOf(record), undefined, { latencyMs: latencies[i >> 1] ?? 0 }),
  )
  await store.commit(group({ settlements }))
}

async function sumsOf(endpoint: string | null) {
  const rows = await store.statistics({ ...everything, endpointKey: endpoint })
  return rows.map(({ latencyClass, attempts, deliveries, latencySumMs }) => ({
    ...{ latencyClass, attempts, deliveries },
    latencySumMs: Number(latencySumMs.toPrecision(9)),
  }))
}

/** What nobody has to know, and this test does: which way the sums went. */
function pending(): number {
  const connection = new Connection(loadDriver([import.meta.url]).open(file, { readOnly: true }))
  const { n } = connection.get<{ n: number }>('select count(*) as n from rollup_pending') ?? {
    n: -1,
  }
  const { problems } = audit(connection)
  connection.close()
  expect(problems).toEqual([])
  return n
}

test('statistics of an endpoint are exact after every commit, pending or not', async () => {
  const seen: number[] = []
  for (let times = 1; times <= 18; times += 1) {
    await deliver()
    const sums = await sumsOf(endpointKey('one'))
    expect(sums).toEqual(await sumsOf(endpointKey('two')))
    expect(sums.reduce((sum, { deliveries }) => sum + deliveries, 0)).toBe(times * 50)
    const latencyMs = sums.reduce((sum, { latencySumMs }) => sum + latencySumMs, 0)
    expect(latencyMs).toBeCloseTo(times * latencies.reduce((sum, ms) => sum + ms), 2)
    seen.push(pending())
  }
  expect(seen).toEqual([...Array.from({ length: 15 }, (_, i) => i + 1), 0, 1, 2])
})

test('hours stay apart, pending or not', async () => {
  const startedMs = host.now - (host.now % hour)
  await deliver()
  host.now += hour
  for (let i = 0; i < 2; i += 1) await deliver()
  expect(pending()).toBe(3)
  const perHour = await store.statistics({
    ...everything,
    endpointKey: endpointKey('one'),
    perHour: true,
  })
  const attempts = (hourMs: number) =>
    perHour.reduce((sum, row) => sum + (row.hourMs === hourMs ? row.attempts : 0), 0)
  expect([attempts(startedMs), attempts(startedMs + hour)]).toEqual([50, 100])
})

test('they survive a restart, and move to another store as one row each', async () => {
  for (let i = 0; i < 18; i += 1) await deliver()
  const before = await sumsOf(endpointKey('one'))
  await store.close()
  const source = await exportFile(file)
  const table = movingTables.find(({ name }) => name === 'rollup')
  if (table === undefined) throw new Error('Expected a table of sums.')
  const rows = [...source.slices(table)].flat()
  expect(source.count(table)).toBe(rows.length)
  source.close()
  expect(new Set(rows.map((row) => row.slice(0, 7).join(' '))).size).toBe(rows.length)
  const deliveriesAt = Object.keys(table.columns).indexOf('deliveries')
  const ofOne = rows.filter(([key]) => key === endpointKey('one'))
  expect(ofOne.reduce((sum, row) => sum + Number(row[deliveriesAt]), 0)).toBe(900)
  store = await sqlite({ path: file }).open(host)
  expect(await sumsOf(endpointKey('one'))).toEqual(before)
  expect(pending()).toBe(2)
})
