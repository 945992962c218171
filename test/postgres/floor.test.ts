// Where a claim begins to look, see Floors in src/storage/postgres/claim.ts.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import { accept, commitAccepts, room, type TestHost, testHost } from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

const minute = 60_000

let schema: TestSchema
let host: TestHost
let store: Store

beforeEach(async () => {
  schema = freshSchema()
  host = testHost()
  store = await postgres(schema.url, { schema: schema.name }).open(host)
})

afterEach(async () => {
  await store.close()
  await schema.drop()
})

async function claimed(headMs?: number): Promise<number> {
  const known = headMs === undefined ? {} : { headMs }
  const { claims } = await store.claim([{ ...room('endpoint'), ...known }], host.now)
  return claims.length
}

test('correctness 8: what is much older than the head is looked for once a minute', async () => {
  expect(await claimed(host.now)).toBe(0)
  await commitAccepts(store, accept(host, { dueAtMs: host.now - 10 * minute }))
  expect(await claimed(host.now)).toBe(0)
  host.now += minute
  expect(await claimed(host.now)).toBe(1)
})

test('correctness 8: what is a little older than the head is found at once', async () => {
  expect(await claimed(host.now)).toBe(0)
  await commitAccepts(store, accept(host, { dueAtMs: host.now - 10_000 }))
  expect(await claimed(host.now)).toBe(1)
})

test('correctness 8: a lane whose head is known to be old, or not known, is looked at from there', async () => {
  expect(await claimed(host.now)).toBe(0)
  const old = host.now - 10 * minute
  await commitAccepts(store, accept(host, { dueAtMs: old }), accept(host, { dueAtMs: old + 1 }))
  const { claims, heads } = await store.claim([{ ...room('endpoint', 1), headMs: old }], host.now)
  expect(claims).toHaveLength(1)
  expect(heads).toMatchObject([{ dueAtMs: old + 1 }])
  expect(await claimed()).toBe(1)
})

test('correctness 8: a head that is far ahead hides nothing that is due', async () => {
  expect(await claimed(host.now)).toBe(0)
  await commitAccepts(store, accept(host, { dueAtMs: host.now - 1 }))
  expect(await claimed(Number.POSITIVE_INFINITY)).toBe(1)
})
