import { expect } from 'vitest'
import { deliveryId, eventKeyFloor } from '../../../src/model/ids.ts'
import type { Candidate } from '../../../src/model/repair.ts'
import type { AcceptRecord } from '../../../src/storage/commit-records.ts'
import type {
  CandidateQuery,
  NewRepair,
  RepairRecord,
  RepairStep,
} from '../../../src/storage/repairs.ts'
import type { Store } from '../../../src/storage/storage.ts'
import type { Scene, Stories } from '../conformance.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  day,
  delivered,
  endpoint,
  endpointKey,
  group,
  hour,
  idOf,
  newKey,
  ownedOf,
  rejected,
  retryAt,
  settle,
  startMs,
  type TestHost,
} from '../fixtures.ts'

const states = ['waiting', 'delivered', 'exhausted', 'rejected'] as const

function repair(host: TestHost, fields: Partial<NewRepair> = {}): NewRepair {
  return {
    id: `rep_${newKey(host)}`,
    kind: 'replay',
    tenantId: '',
    endpointKey: endpointKey('endpoint'),
    criteria: { sinceMs: startMs, untilMs: host.now + 1, types: null, states, metadata: null },
    maxPerSecond: 100,
    createdAtMs: host.now,
    cursor: eventKeyFloor(startMs),
    ...fields,
  }
}

function step({ id, cursor }: NewRepair, fields: Partial<RepairStep> = {}): RepairStep {
  const nothing = { to: null, nextStepAtMs: startMs, matched: 0, skipped: {}, take: [] }
  return { id, from: cursor, ...nothing, ...fields }
}

async function found(store: Store, id: string, nowMs = startMs): Promise<RepairRecord | undefined> {
  const query = { tenantId: null, id, onlyRunning: false, limit: 1 }
  return (await store.listRepairs(query, nowMs))[0]
}

/** Every candidate, read in pages so small that each boundary is met. */
async function candidates(
  store: Store,
  { kind, tenantId, endpointKey: key, criteria, cursor }: NewRepair,
  fields: Partial<CandidateQuery> = {},
): Promise<Candidate[]> {
  const all: Candidate[] = []
  let after: string | null = cursor
  for (let pages = 0; after !== null; pages += 1) {
    expect(pages).toBeLessThan(500)
    const query = { kind, tenantId, endpointKey: key, criteria, withBodies: false, limit: 2 }
    const page = await store.findCandidates({ ...query, ...fields, after })
    all.push(...page.candidates)
    after = page.next
  }
  return all
}

/** One that was delivered, one that was rejected, one that waits for a retry, one in flight. */
async function four({ store, host }: Scene): Promise<AcceptRecord[]> {
  const records: AcceptRecord[] = []
  for (const id of ['delivered', 'rejected', 'waiting', 'flying']) {
    host.now += 10
    records.push(accept(host, { id, owned: true, to: ['endpoint', 'other'] }))
  }
  await commitAccepts(store, ...records)
  const settlements = [delivered, rejected, retryAt(host.now + hour)].map((end, i) =>
    settle(host, ownedOf(records[i]!), end),
  )
  await store.commit(group({ settlements }))
  return records
}

export const repairStories: Stories = {
  'candidates come oldest event first, each once, of one endpoint': async ({ store, host }) => {
    const expected: string[] = []
    for (let i = 0; i < 40; i += 1) {
      // Several in one moment, then seconds, then a day of nothing.
      host.now += i % 8 === 0 ? day : i % 3 === 0 ? 2_000 : 0
      const record = accept(host, { to: ['other', 'endpoint'], owned: i % 2 === 0 })
      await commitAccepts(store, record)
      expected.push(record.event.id)
      if (i % 4 !== 0) continue
      await store.commit(group({ settlements: [settle(host, ownedOf(record, 1))] }))
    }
    const all = await candidates(store, repair(host))
    expect(all.map(({ eventId }) => eventId)).toEqual(expected)
    expect(all.every(({ hasBody, isThere }) => hasBody && isThere)).toBe(true)
    expect(all[0]?.delivery).toMatchObject({ state: 'delivered', attempts: 1, dueAtMs: null })
    expect(all[1]?.delivery).toMatchObject({ state: 'waiting', attempts: 0 })
  },

  'candidates are of the time and the states that are asked for': async (scene) => {
    const { store, host } = scene
    const records = await four(scene)
    const ids = async (fields: Partial<NewRepair['criteria']>) => {
      const asked = repair(host)
      const criteria = { ...asked.criteria, ...fields }
      const cursor = eventKeyFloor(criteria.sinceMs)
      const some = await candidates(store, { ...asked, criteria, cursor })
      return some.map(({ eventId }) => eventId)
    }
    expect(await ids({})).toEqual(['delivered', 'rejected', 'waiting', 'flying'])
    expect(await ids({ states: ['delivered'] })).toEqual(['delivered'])
    expect(await ids({ states: ['exhausted', 'rejected'] })).toEqual(['rejected'])
    expect(await ids({ states: ['cancelled'] })).toEqual([])
    const at = (i: number) => records[i]!.event.acceptedAtMs
    expect(await ids({ sinceMs: at(1), untilMs: at(3) })).toEqual(['rejected', 'waiting'])
  },

  'of an event there is one candidate, its newest round': async ({ store, host }) => {
    const record = accept(host, { owned: true })
    await commitAccepts(store, record)
    await store.commit(group({ settlements: [settle(host, ownedOf(record))] }))
    for (let round = 2; round <= 11; round += 1) {
      const [one, ...more] = await candidates(store, repair(host))
      expect(more).toEqual([])
      await store.retryDelivery(one?.delivery?.id ?? '', host.now)
      const [waiting, ...others] = await candidates(store, repair(host))
      expect(others).toEqual([])
      expect(waiting?.delivery?.id).toBe(`${idOf(record)}_r${round}`)
      const [claim] = await claimAll(store, host)
      await store.commit(group({ settlements: [settle(host, claim!)] }))
    }
  },

  'a step makes due what waits, makes rounds of what has ended, and leaves what is in flight':
    async (scene) => {
      const { store, host } = scene
      const records = await four(scene)
      const asked = repair(host)
      await store.createRepair(asked)
      const take = [...records.map(idOf), 'dlv_nothing']
      const written = await store.stepRepair(
        step(asked, { take, matched: 7, skipped: { body_gone: 2 } }),
        host.now,
      )
      expect(written).toMatchObject({
        isWritten: true,
        record: {
          state: 'done',
          matched: 7,
          queued: 3,
          skipped: { body_gone: 2, in_flight: 1, gone: 1 },
          endedAtMs: host.now,
        },
      })
      const of = (id: string) => store.findDelivery(id)
      expect(await of(idOf(records[0]))).toMatchObject({ state: 'delivered', round: 1 })
      expect(await of(`${idOf(records[0])}_r2`)).toMatchObject({ state: 'waiting', round: 2 })
      expect(await of(`${idOf(records[1])}_r2`)).toMatchObject({ state: 'waiting', round: 2 })
      expect(await of(idOf(records[2]))).toMatchObject({ dueAtMs: host.now, attempts: 1 })
      expect(await of(idOf(records[3]))).toMatchObject({ state: 'delivering', round: 1 })
      const claims = await claimAll(store, host)
      expect(claims.map(({ isFresh }) => isFresh)).toEqual([false, false, false])
      expect(claims.map(({ deliveryId: id }) => id).sort()).toEqual(
        [`${idOf(records[0])}_r2`, `${idOf(records[1])}_r2`, idOf(records[2])].sort(),
      )
      expect((await store.audit()).problems).toEqual([])
    },

  'correctness 10: a step that another process was faster with changes nothing': async (scene) => {
    const { store, host } = scene
    const records = await four(scene)
    const asked = repair(host)
    await store.createRepair(asked)
    await store.createRepair(asked)
    const first = step(asked, { take: [idOf(records[0])], to: records[0]!.event.key, matched: 1 })
    const steps = await Promise.all([
      store.stepRepair(first, host.now),
      store.stepRepair(first, host.now),
      store.stepRepair(first, host.now),
    ])
    expect(steps.filter(({ isWritten }) => isWritten)).toHaveLength(1)
    expect(await found(store, asked.id)).toMatchObject({
      state: 'running',
      cursor: records[0]!.event.key,
      matched: 1,
      queued: 1,
    })
    // The one that waits, and one new round.
    expect((await store.backlog()).waiting).toBe(2)
    expect((await store.audit()).problems).toEqual([])
  },

  'correctness 10: what two repairs want is queued once': async (scene) => {
    const { store, host } = scene
    const records = await four(scene)
    const both = [repair(host), repair(host)]
    for (const one of both) await store.createRepair(one)
    const take = records.slice(0, 2).map(idOf)
    const steps = await Promise.all(
      both.map((one) => store.stepRepair(step(one, { take, matched: 2 }), host.now)),
    )
    expect(steps.map(({ record }) => record?.queued).sort()).toEqual([0, 2])
    expect(steps.map(({ record }) => record?.skipped)).toContainEqual({ retried_meanwhile: 2 })
    expect((await store.audit()).problems).toEqual([])
  },

  'how much of a repair is due and not through is known': async (scene) => {
    const { store, host } = scene
    const records = await four(scene)
    const asked = repair(host)
    await store.createRepair(asked)
    const take = records.slice(0, 3).map(idOf)
    await store.stepRepair(step(asked, { take, to: records[2]!.event.key }), host.now)
    const pending = async () => (await found(store, asked.id, host.now))?.pending
    expect(await pending()).toBe(3)
    const claims = await claimAll(store, host)
    expect(await pending()).toBe(3)
    const [one, two] = claims
    const settlements = [settle(host, one!), settle(host, two!, retryAt(host.now + hour))]
    await store.commit(group({ settlements }))
    expect(await pending()).toBe(1)
    host.now += hour
    expect(await pending()).toBe(2)
  },

  'a repair of a closed endpoint ends as failed, with the reason': async (scene) => {
    const { store, host } = scene
    const hook = endpoint('endpoint')
    await store.saveEndpoint(hook, change('registered'))
    const records = await four(scene)
    const asked = repair(host)
    await store.createRepair(asked)
    const disabled = { ...hook, status: 'disabled', version: 2 } as const
    await store.saveEndpoint(disabled, change('disabled', { version: 2 }))
    const take = [idOf(records[0])]
    expect(await store.stepRepair(step(asked, { take }), host.now)).toMatchObject({
      record: { state: 'failed', reason: 'endpoint_disabled', queued: 0 },
    })
    expect(await store.findDelivery(`${take[0]}_r2`)).toBeNull()
  },

  'repairs are listed newest first, by tenant, and end once': async ({ store, host }) => {
    const ids: string[] = []
    for (const tenantId of ['a', 'b', 'a']) {
      host.now += 1
      const one = repair(host, { tenantId })
      await store.createRepair(one)
      ids.push(one.id)
    }
    const list = async (tenantId: string | null, onlyRunning = false) => {
      const query = { tenantId, id: null, onlyRunning, limit: 10 }
      return (await store.listRepairs(query, host.now)).map(({ id }) => id)
    }
    expect(await list(null)).toEqual([ids[2], ids[1], ids[0]])
    expect(await list('a')).toEqual([ids[2], ids[0]])
    expect(await store.endRepair(ids[2]!, 'cancelled', 'by_request', host.now)).toBe(true)
    expect(await store.endRepair(ids[2]!, 'cancelled', 'by_request', host.now)).toBe(false)
    expect(await list('a', true)).toEqual([ids[0]])
    expect(await found(store, ids[2]!)).toMatchObject({ state: 'cancelled', reason: 'by_request' })
    const after = await store.stepRepair(step({ ...repair(host), id: ids[2]! }), host.now)
    expect(after).toMatchObject({ isWritten: false, record: { state: 'cancelled' } })
    expect(await store.stepRepair(step(repair(host)), host.now)).toEqual({
      isWritten: false,
      record: null,
    })
  },

  'a repair outlives the process': async ({ store, host, reopen }) => {
    const asked = repair(host, { tenantId: 't' })
    await store.createRepair(asked)
    const to = eventKeyFloor(startMs + 5)
    await store.stepRepair(step(asked, { to, matched: 3, skipped: { in_flight: 3 } }), host.now)
    const again = await reopen()
    expect(await found(again, asked.id)).toMatchObject({
      ...asked,
      cursor: to,
      state: 'running',
      matched: 3,
      skipped: { in_flight: 3 },
    })
  },

  'retention takes repairs that have ended, and no other': async ({ store, host }) => {
    const [running, ended] = [repair(host), repair(host)]
    await store.createRepair(running)
    await store.createRepair(ended)
    await store.endRepair(ended.id, 'done', 'by_request', host.now)
    const cutoff = host.now + 1
    const cutoffs = {
      settledBeforeMs: cutoff,
      deliveredBodiesBeforeMs: cutoff,
      failedBodiesBeforeMs: cutoff,
      eventIdsBeforeMs: cutoff,
    }
    while ((await store.prune(cutoffs, 100)) > 0);
    expect(await found(store, ended.id)).toBeUndefined()
    expect(await found(store, running.id)).toMatchObject({ state: 'running' })
  },

  'events without a delivery for an endpoint are found with what decides': async ({
    store,
    host,
  }) => {
    const records: AcceptRecord[] = []
    for (const [id, tenantId, to] of [
      ['has', '', ['endpoint', 'other']],
      ['lacks', '', ['other']],
      ['foreign', 't', ['other']],
      ['nobody', '', []],
    ] as const) {
      host.now += 10
      records.push(accept(host, { id, tenantId, to }))
    }
    host.now += 10
    const wide = accept(host, { id: 'wide', to: ['endpoint', 'other'], wide: true })
    await commitAccepts(store, ...records, wide)
    await store.eraseEvents({ kind: 'ids', tenantId: '', ids: ['nobody'] }, host.now, 10)
    const asked = repair(host, { kind: 'backfill' })
    const all = await candidates(store, asked, { withBodies: true })
    expect(all.map(({ eventId, isThere, hasBody }) => [eventId, isThere, hasBody])).toEqual([
      ['has', true, true],
      ['lacks', false, true],
      ['nobody', false, false],
      ['wide', true, true],
    ])
    expect(all[1]?.body).toEqual(records[1]?.event.body)
    expect((await candidates(store, asked)).every(({ body }) => body === null)).toBe(true)
  },

  'correctness 10: a backfill creates what is missing, once, and it adds up': async ({
    store,
    host,
  }) => {
    const has = accept(host, { id: 'has', to: ['endpoint'] })
    const lacks = accept(host, { id: 'lacks', to: ['other'], owned: true })
    const gone = accept(host, { id: 'gone', to: [] })
    const wide = accept(host, { id: 'wide', to: ['endpoint', 'other'], wide: true })
    await commitAccepts(store, has, lacks, gone, wide)
    await store.eraseEvents({ kind: 'ids', tenantId: '', ids: ['gone'] }, host.now, 10)
    const take = [has, lacks, gone, wide].map(({ event }) => event.key)
    const both = [repair(host, { kind: 'backfill' }), repair(host, { kind: 'backfill' })]
    for (const one of both) await store.createRepair(one)
    const steps = await Promise.all(
      both.map((one) => store.stepRepair(step(one, { take }), host.now)),
    )
    expect(steps.map(({ record }) => record?.queued).sort()).toEqual([0, 1])
    expect(steps.map(({ record }) => record?.skipped)).toContainEqual({
      already_there: 2,
      body_gone: 1,
    })
    await store.fanOut(100, host.now)
    const made = deliveryId(lacks.event.key, endpointKey('endpoint'), 1)
    expect(await store.findDelivery(made)).toMatchObject({ state: 'waiting', round: 1 })
    expect((await store.audit()).problems).toEqual([])
    const claim = (await claimAll(store, host)).find(({ deliveryId: id }) => id === made)
    expect(claim?.isFresh).toBe(false)
    await store.commit(group({ settlements: [settle(host, claim!)] }))
    // Found by its endpoint, and never created a second time.
    const [oldest] = await candidates(store, repair(host, { kind: 'backfill' }), { limit: 9 })
    expect(oldest?.isThere).toBe(true)
    expect((await candidates(store, repair(host))).map(({ eventId }) => eventId)).toContain('lacks')
    expect((await store.audit()).problems).toEqual([])
  },
}
