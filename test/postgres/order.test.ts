// Order per key where one process adds to a key while another ends its first.
import { postgres } from '@k-msg/webhook/postgres'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Claim } from '../../src/storage/claims.ts'
import type { AcceptRecord } from '../../src/storage/commit-records.ts'
import type { Store } from '../../src/storage/storage.ts'
import { accept, claimAll, commitAccepts, group, settle, testHost } from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

const host = testHost()
let schema: TestSchema
let stores: Store[]

beforeEach(async () => {
  schema = freshSchema()
  stores = []
  for (let i = 0; i < 2; i += 1) {
    stores.push(await postgres(schema.url, { schema: schema.name, maxConnections: 4 }).open(host))
  }
})
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()))
  await schema.drop()
})

function ordered(id: string, key: string): AcceptRecord {
  const record = accept(host, { id })
  const terms = { alone: true, expiresAtMs: null, order: { key, blocks: true } }
  return { ...record, deliveries: record.deliveries.map((one) => ({ ...one, terms })) }
}

async function end(store: Store, claims: readonly Claim[]): Promise<void> {
  const settlements = claims.map((claim) => ({ ...settle(host, claim), ordered: claim.ordered }))
  await store.commit(group({ settlements }))
}

test('correctness 13: nothing is left behind by an end that another process could not see', async () => {
  const [one, two] = stores as [Store, Store]
  const keys = ['a', 'b', 'c', 'd']
  const seen: string[] = []
  let number = 0
  const addAll = async () => {
    number += 1
    const records = keys.map((key) => ordered(`${key}_${String(number).padStart(3, '0')}`, key))
    // Not in one order of the keys: they must not wait for each other in a circle.
    if (number % 2 === 0) records.reverse()
    await commitAccepts(two, ...records)
  }
  await addAll()
  for (let round = 0; round < 60; round += 1) {
    const claims = await claimAll(one, host)
    seen.push(...claims.map(({ eventId }) => eventId))
    await Promise.all([end(one, claims), addAll(), end(one, [])])
  }
  for (;;) {
    const claims = await claimAll(two, host)
    if (claims.length === 0) break
    seen.push(...claims.map(({ eventId }) => eventId))
    await end(two, claims)
  }
  expect((await one.audit()).problems).toEqual([])
  expect(await one.backlog()).toMatchObject({ waiting: 0, delivering: 0 })
  for (const key of keys) {
    const ids = seen.filter((id) => id.startsWith(key))
    expect(ids).toHaveLength(61)
    expect(ids).toEqual([...ids].sort())
  }
})
