// A repair of an old event at the moment at which retention, or somebody who erases, takes its body.
import { postgres } from '@k-msg/webhook/postgres'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventKeyFloor } from '../../src/model/ids.ts'
import type { RepairKind } from '../../src/model/repair.ts'
import type { NewRepair } from '../../src/storage/repairs.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  day,
  endpoint,
  endpointKey,
  group,
  newKey,
  ownedOf,
  settle,
  startMs,
  type TestHost,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

let schema: TestSchema
let host: TestHost
let stores: Store[]
let holder: pg.Client

beforeEach(async () => {
  schema = freshSchema()
  host = testHost()
  const storage = postgres(schema.url, { schema: schema.name })
  stores = [await storage.open(host), await storage.open(host)]
  holder = new pg.Client({ connectionString: schema.url })
  await holder.connect()
  for (const name of ['endpoint', 'new']) {
    await stores[0]?.saveEndpoint(endpoint(name), change('made'))
  }
})

afterEach(async () => {
  for (const store of stores) await store.close()
  await holder.end()
  await schema.drop()
})

/** Whoever is about to commit a change of that table stands still until it is let go. */
async function holdChangesOf(table: 'repair' | 'event'): Promise<() => Promise<void>> {
  const name = `${schema.name}.${table}`
  await holder.query(`
    create function ${schema.name}.stand_still() returns trigger language plpgsql as
      'begin perform pg_advisory_xact_lock_shared(hashtext(''${schema.name}'')); return new; end';
    create trigger stand_still before update on ${name}
      for each row execute function ${schema.name}.stand_still()`)
  await holder.query(`begin; select pg_advisory_xact_lock(hashtext('${schema.name}'))`)
  return async () => {
    await holder.query('commit')
  }
}

/** Resolves when so many wait for the holder, or for who waits for it; or when there is an end of it. */
async function waiting(count: number, isOver = () => false): Promise<void> {
  const sql = `
    with recursive blocked (pid) as (
      select pg_backend_pid() union
      select other.pid from pg_stat_activity as other
        join blocked on blocked.pid = any(pg_blocking_pids(other.pid)))
    select count(*)::int - 1 as n from blocked`
  for (let n = 0; n < count && !isOver(); ) n = (await holder.query(sql)).rows[0].n
}

async function begin(kind: RepairKind): Promise<NewRepair> {
  const repair: NewRepair = {
    id: `rep_${newKey(host)}`,
    kind,
    tenantId: '',
    endpointKey: endpointKey(kind === 'backfill' ? 'new' : 'endpoint'),
    criteria: {
      sinceMs: 0,
      untilMs: host.now + 1,
      types: null,
      states: kind === 'backfill' ? [] : ['delivered'],
      metadata: null,
    },
    maxPerSecond: 1_000,
    createdAtMs: host.now,
    cursor: eventKeyFloor(0),
  }
  await stores[0]?.createRepair(repair)
  return repair
}

const nothing = {
  settledBeforeMs: 0,
  deliveredBodiesBeforeMs: 0,
  failedBodiesBeforeMs: 0,
  eventIdsBeforeMs: 0,
}

describe.each(['replay', 'backfill'] as const)('a %s', (kind) => {
  describe.each(['first', 'second'] as const)('that comes %s', (place) => {
    test.each(['retention', 'eraseEvents'] as const)('and %s', async (other) => {
      const [one, two] = stores as [Store, Store]
      const records = [1, 2, 3].map(() => accept(host, { owned: true }))
      await commitAccepts(one, ...records)
      const settlements = records.map((record) => settle(host, ownedOf(record)))
      await one.commit(group({ settlements }))
      host.now += 2 * day
      const repair = await begin(kind)
      const take = records.map(({ event, deliveries }) =>
        kind === 'backfill' ? event.key : (deliveries[0]?.id ?? ''),
      )
      const step = () =>
        one.stepRepair(
          {
            ...{ id: repair.id, from: repair.cursor, to: null, nextStepAtMs: host.now },
            ...{ matched: take.length, skipped: {}, take },
          },
          host.now,
        )
      const takeBodies = async () => {
        const ids = records.map(({ event }) => event.id)
        const selection = { kind: 'ids', tenantId: '', ids } as const
        if (other === 'eraseEvents') return await two.eraseEvents(selection, host.now, 100)
        const bodies = { ...nothing, deliveredBodiesBeforeMs: startMs + day }
        while ((await two.prune(bodies, 100)) > 0);
        return null
      }
      // It makes the days to come, which would wait for the other.
      await two.prune(nothing, 100)
      const letGo = await holdChangesOf(place === 'first' ? 'repair' : 'event')
      const former = place === 'first' ? step() : takeBodies()
      await waiting(1)
      const latter = place === 'first' ? takeBodies() : step()
      let isOver = false
      void Promise.resolve(latter).finally(() => {
        isOver = true
      })
      await waiting(2, () => isOver)
      await letGo()
      await Promise.all([former, latter])
      // Whatever it was that went first: what waits has its body.
      const claims = [...(await claimAll(one, host)), ...(await claimAll(one, host, 'new'))]
      if (other === 'eraseEvents' || place === 'second') expect(claims).toEqual([])
      else expect(claims).toHaveLength(3)
      expect((await one.audit()).problems).toEqual([])
    })
  })
})
