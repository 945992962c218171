// A repair of events whose day is over: what is left of them goes, what is not is said.
import { postgres } from '@k-msg/webhook/postgres'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventKeyFloor } from '../../src/model/ids.ts'
import type { RepairKind } from '../../src/model/repair.ts'
import type { CandidateQuery, NewRepair } from '../../src/storage/repairs.ts'
import type { Store } from '../../src/storage/storage.ts'
import type { RetentionCutoffs } from '../../src/storage/upkeep.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  day,
  delivered,
  endpoint,
  endpointKey,
  exhausted,
  group,
  newKey,
  ownedOf,
  settle,
  type TestHost,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

let schema: TestSchema
let host: TestHost
let store: Store

beforeEach(async () => {
  schema = freshSchema()
  host = testHost()
  store = await postgres(schema.url, { schema: schema.name }).open(host)
  for (const name of ['endpoint', 'new']) await store.saveEndpoint(endpoint(name), change('made'))
})

afterEach(async () => {
  await store.close()
  await schema.drop()
})

/** Accepted and ended at the host's time. */
async function sent(events: number, settlement = delivered): Promise<string[]> {
  const records = Array.from({ length: events }, () => accept(host, { owned: true }))
  await commitAccepts(store, ...records)
  const settlements = records.map((one) => settle(host, ownedOf(one), settlement))
  await store.commit(group({ settlements }))
  return records.map(({ event }) => event.id)
}

async function pruned(cutoffs: Partial<RetentionCutoffs>): Promise<void> {
  const nothing = {
    settledBeforeMs: 0,
    deliveredBodiesBeforeMs: 0,
    failedBodiesBeforeMs: 0,
    eventIdsBeforeMs: 0,
  }
  while ((await store.prune({ ...nothing, ...cutoffs }, 500)) > 0);
}

/** Whether the first day has left as a whole. */
async function isDayGone(): Promise<boolean> {
  const sql = new pg.Client({ connectionString: schema.url })
  await sql.connect()
  const { rows } = await sql.query(`select to_regclass('${schema.name}.event_20260105') as day`)
  await sql.end()
  return rows[0].day === null
}

const allBefore = (ms: number): RetentionCutoffs => ({
  settledBeforeMs: ms,
  deliveredBodiesBeforeMs: ms,
  failedBodiesBeforeMs: ms,
  eventIdsBeforeMs: ms,
})

async function begin(kind: RepairKind, name = 'endpoint'): Promise<NewRepair> {
  const repair: NewRepair = {
    id: `rep_${newKey(host)}`,
    kind,
    tenantId: '',
    endpointKey: endpointKey(name),
    criteria: {
      sinceMs: 0,
      untilMs: host.now + 1,
      types: null,
      states: kind === 'backfill' ? [] : ['delivered', 'exhausted'],
      metadata: null,
    },
    maxPerSecond: 1_000,
    createdAtMs: host.now,
    cursor: eventKeyFloor(0),
  }
  await store.createRepair(repair)
  return repair
}

async function candidates({ kind, endpointKey: key, criteria, cursor }: NewRepair) {
  const query = { kind, tenantId: '', endpointKey: key, criteria, withBodies: true, limit: 100 }
  const found = []
  for (let after: string | null = cursor; after !== null; ) {
    const asked: CandidateQuery = { ...query, after }
    const page = await store.findCandidates(asked)
    found.push(...page.candidates)
    after = page.next
  }
  return found
}

async function step({ id, cursor: from }: NewRepair, take: readonly string[]) {
  const asked = { id, from, to: null, nextStepAtMs: host.now, matched: take.length, skipped: {} }
  return (await store.stepRepair({ ...asked, take }, host.now)).record
}

describe('of a day that is gone', () => {
  test('a replay and a backfill find what came after it, and only that', async () => {
    await sent(30)
    host.now += 31 * day
    const kept = await sent(3)
    await pruned(allBefore(host.now - day))
    expect(await isDayGone()).toBe(true)
    const replay = await begin('replay')
    const found = await candidates(replay)
    expect(found.map(({ eventId }) => eventId)).toEqual(kept)
    expect(
      await step(
        replay,
        found.flatMap(({ delivery }) => delivery?.id ?? []),
      ),
    ).toMatchObject({
      state: 'done',
      queued: 3,
      skipped: {},
    })
    const backfill = await begin('backfill', 'new')
    const missing = await candidates(backfill)
    expect(missing.map(({ eventId }) => eventId)).toEqual(kept)
    expect(
      await step(
        backfill,
        missing.map(({ eventKey }) => eventKey),
      ),
    ).toMatchObject({ queued: 3 })
    expect(await claimAll(store, host, 'new')).toHaveLength(3)
    expect((await store.audit()).problems).toEqual([])
  })

  test('what a repair has found and retention takes before it is queued, is said', async () => {
    await sent(12)
    const replay = await begin('replay')
    const backfill = await begin('backfill', 'new')
    const [there, missing] = [await candidates(replay), await candidates(backfill)]
    expect([there.length, missing.length]).toEqual([12, 12])
    host.now += 31 * day
    await pruned(allBefore(host.now - day))
    expect(await isDayGone()).toBe(true)
    expect(
      await step(
        replay,
        there.flatMap(({ delivery }) => delivery?.id ?? []),
      ),
    ).toMatchObject({
      state: 'done',
      queued: 0,
      skipped: { gone: 12 },
    })
    expect(
      await step(
        backfill,
        missing.map(({ eventKey }) => eventKey),
      ),
    ).toMatchObject({
      state: 'done',
      queued: 0,
      skipped: { body_gone: 12 },
    })
    expect(await store.backlog()).toMatchObject({ waiting: 0 })
    expect((await store.audit()).problems).toEqual([])
  })
})

test('of a day without its bodies: what failed is sent again, the rest has none', async () => {
  await sent(20)
  const failed = await sent(4, exhausted)
  host.now += 8 * day
  await pruned({ deliveredBodiesBeforeMs: host.now - 6 * day })
  const replay = await begin('replay')
  const found = await candidates(replay)
  expect(found.filter(({ hasBody }) => hasBody).map(({ eventId }) => eventId)).toEqual(failed)
  expect(
    await step(
      replay,
      found.flatMap(({ delivery }) => delivery?.id ?? []),
    ),
  ).toMatchObject({
    queued: 4,
    skipped: { body_gone: 20 },
  })
  const claims = await claimAll(store, host)
  expect(claims.map(({ eventId }) => eventId).sort()).toEqual([...failed].sort())
  await store.commit(group({ settlements: claims.map((one) => settle(host, one)) }))
  // The day may go once its failures have become deliveries of today.
  host.now += 23 * day
  await pruned(allBefore(host.now - 20 * day))
  expect((await store.audit()).problems).toEqual([])
  const backfill = await begin('backfill', 'new')
  const missing = await candidates(backfill)
  expect(
    await step(
      backfill,
      missing.map(({ eventKey }) => eventKey),
    ),
  ).toMatchObject({ queued: 0 })
})
