// What the file still holds of secrets that were replaced. They are in the clear here, as without a
// key: every write that moves a row of an endpoint must zero what it leaves behind.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EndpointEffect } from '../../src/model/settlement.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  change,
  commitAccepts,
  endpoint,
  group,
  ownedOf,
  retryAt,
  settle,
  startMs,
  testHost,
} from './fixtures.ts'

const old = 'an-old-secret-that-is-over'
const secretsOf = (secret: string) => [{ secret, createdAtMs: startMs, expiresAtMs: null }]

let folder: string
let store: Store
const host = testHost()

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
  store = await sqlite({ path: path.join(folder, 'webhooks.db') }).open(host)
})

afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

const holdsOld = () =>
  readdirSync(folder).some((file) => readFileSync(path.join(folder, file)).includes(old))

/** The thread clears its log when it rests; each question gives it a moment to. */
async function holdsOldAtRest(): Promise<boolean> {
  for (let i = 0; i < 1_000 && holdsOld(); i += 1) await store.heads()
  return holdsOld()
}

async function settleWith(effect: EndpointEffect): Promise<void> {
  const record = accept(host, { owned: true })
  await commitAccepts(store, record)
  const settlement = { ...retryAt(startMs + 1_000), effect }
  await store.commit(group({ settlements: [settle(host, ownedOf(record), settlement)] }))
}

const effects: readonly EndpointEffect[] = [
  { kind: 'hold', untilMs: startMs + 60_000 },
  { kind: 'warn', warning: 'w'.repeat(200) },
  { kind: 'disable', reason: 'r'.repeat(200) },
]

test.each(effects)('none when the row was moved by $kind before', async (effect) => {
  await store.saveEndpoint(endpoint('endpoint', { secrets: secretsOf(old) }), change('registered'))
  await settleWith(effect)
  expect(holdsOld()).toBe(true)
  const rotated = change('secret rotated', { version: 3, fields: ['secrets'] })
  await store.saveEndpoint(endpoint('endpoint', { secrets: secretsOf('new') }), rotated)
  expect(await holdsOldAtRest()).toBe(false)
})

test('none of hundreds of endpoints that grow, shrink, and go', async () => {
  const names = Array.from({ length: 300 }, (_, i) => `e${i}`)
  const all = (save: (name: string, i: number) => Promise<void>) => Promise.all(names.map(save))
  for (const round of [1, 2, 3]) {
    await all((name, i) => {
      const description = 'd'.repeat((i * round * 97) % 1_900)
      const record = endpoint(name, { secrets: secretsOf(old), description, version: round })
      return store.saveEndpoint(record, change('updated', { version: round }))
    })
  }
  expect(holdsOld()).toBe(true)
  await all((name, i) => {
    const record = endpoint(name, { secrets: secretsOf('new'), version: 4 })
    return i % 3 === 0
      ? store.removeEndpoint(record.key, change('removed', { version: 4 }))
      : store.saveEndpoint(record, change('secret rotated', { version: 4, fields: ['secrets'] }))
  })
  expect(await holdsOldAtRest()).toBe(false)
})
