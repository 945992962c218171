// One repair and several processes that step it as fast as they can.
import { postgres } from '@k-msg/webhook/postgres'
import { expect, test } from 'vitest'
import { eventKeyFloor } from '../../src/model/ids.ts'
import type { NewRepair } from '../../src/storage/repairs.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  commitAccepts,
  endpointKey,
  group,
  hour,
  newKey,
  ownedOf,
  retryAt,
  settle,
  startMs,
  testHost,
} from '../storage/fixtures.ts'
import { freshSchema } from './schemas.ts'

const events = 200

/** What a process does for a repair, without ever waiting for its turn. */
async function runAlone(store: Store, { id, ...repair }: NewRepair): Promise<number> {
  let written = 0
  for (;;) {
    const query = { tenantId: null, id, onlyRunning: true, limit: 1 }
    const [record] = await store.listRepairs(query, startMs)
    if (record?.state !== 'running') return written
    const { kind, tenantId, endpointKey: key, criteria } = repair
    const asked = { kind, tenantId, endpointKey: key, criteria, withBodies: false, limit: 5 }
    const page = await store.findCandidates({ ...asked, after: record.cursor })
    const some = page.candidates.slice(0, 5)
    const take = some.flatMap(({ delivery }) => delivery?.id ?? [])
    const to = page.candidates.length > 5 ? (some.at(-1)?.eventKey ?? null) : page.next
    const step = { id, from: record.cursor, to, nextStepAtMs: startMs, matched: take.length }
    const { isWritten } = await store.stepRepair({ ...step, skipped: {}, take }, startMs)
    if (isWritten) written += 1
  }
}

test('correctness 10: three processes step one repair at once: no step is made twice', async () => {
  const schema = freshSchema()
  const host = testHost()
  const stores = await Promise.all(
    [1, 2, 3].map(() => postgres(schema.url, { schema: schema.name }).open(host)),
  )
  const [store] = stores as [Store, ...Store[]]
  try {
    const records = Array.from({ length: events }, () => accept(host, { owned: true }))
    await commitAccepts(store, ...records)
    const settlements = records.map((record) => settle(host, ownedOf(record)))
    await store.commit(group({ settlements }))
    const repair: NewRepair = {
      id: `rep_${newKey(host)}`,
      kind: 'replay',
      tenantId: '',
      endpointKey: endpointKey('endpoint'),
      criteria: {
        sinceMs: startMs,
        untilMs: startMs + 1,
        types: null,
        states: ['delivered'],
        metadata: null,
      },
      maxPerSecond: 1_000,
      createdAtMs: startMs,
      cursor: eventKeyFloor(startMs),
    }
    await store.createRepair(repair)
    const steps = await Promise.all(stores.map((one) => runAlone(one, repair)))
    const query = { tenantId: null, id: repair.id, onlyRunning: false, limit: 1 }
    expect((await store.listRepairs(query, startMs))[0]).toMatchObject({
      state: 'done',
      matched: events,
      queued: events,
      skipped: {},
    })
    // More than one of them has made steps, or nothing was shown.
    expect(steps.filter((count) => count > 0).length).toBeGreaterThan(1)
    expect((await store.backlog()).waiting).toBe(events)
    expect((await store.audit()).problems).toEqual([])
  } finally {
    await Promise.all(stores.map((one) => one.close()))
    await schema.drop()
  }
})

test('a mark and an outcome at the same moment: it never waits again', async () => {
  const schema = freshSchema()
  const host = testHost()
  const open = () => postgres(schema.url, { schema: schema.name }).open(host)
  const [store, other] = [await open(), await open()]
  try {
    // Both orders have to be met, or nothing is shown; which one is, is chance.
    const met = new Set<string | undefined>()
    for (let round = 0; round < 20 && met.size < 2; round += 1) {
      const records = Array.from({ length: events }, () => accept(host, { owned: true }))
      await commitAccepts(store, ...records)
      const results = await Promise.all(
        records.map(async (record) => {
          const id = record.deliveries[0]?.id ?? ''
          const retry = settle(host, ownedOf(record), retryAt(startMs + hour))
          const [cancelled] = await Promise.all([
            other.cancelSome([id], 'by_request', startMs),
            store.commit(group({ settlements: [retry] })),
          ])
          const found = await store.findDelivery(id)
          return [cancelled[0], found?.state, found?.attempts] as const
        }),
      )
      for (const [result, state, attempts] of results) {
        met.add(result)
        expect([state, attempts]).toEqual(['cancelled', 1])
      }
    }
    expect(met).toEqual(new Set(['marked', 'cancelled']))
    expect((await store.audit()).problems).toEqual([])
  } finally {
    await store.close()
    await other.close()
    await schema.drop()
  }
})
