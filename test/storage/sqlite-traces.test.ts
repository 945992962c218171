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

async function settleWith(name: string, effect: EndpointEffect): Promise<void> {
  const record = accept(host, { to: [name], owned: true })
  await commitAccepts(store, record)
  const settlement = { ...retryAt(startMs + 1_000), effect }
  await store.commit(group({ settlements: [settle(host, ownedOf(record), settlement)] }))
}

/** 0 up to below `n`; the same in every run. */
function dice(seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * n)
  }
}

test('none when outcomes moved rows in between, whatever their order and size', async () => {
  const roll = dice(7)
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
  const save = (name: string, secret: string, version: number) => {
    const description = 'd'.repeat(roll(300))
    const record = endpoint(name, { secrets: secretsOf(secret), description, version })
    return store.saveEndpoint(record, change('updated', { version, fields: ['secrets'] }))
  }
  const effect = (): EndpointEffect =>
    [
      { kind: 'hold' as const, untilMs: startMs + roll(9_000_000) * roll(9_000_000) },
      { kind: 'warn' as const, warning: 'w'.repeat(roll(300)) },
    ][roll(2)] as EndpointEffect
  for (let round = 1; round <= 30; round += 1) {
    for (const name of names) await save(name, name === 'c' ? old : 'another', 2 * round)
    for (let n = roll(12); n >= 0; n -= 1) await settleWith(names[roll(8)] as string, effect())
    expect(holdsOld()).toBe(true)
    // Only this row is written again: what lies about in its page has to be gone before.
    await save('c', 'n'.repeat(roll(200)), 2 * round + 1)
    expect(await holdsOldAtRest()).toBe(false)
  }
})

test('none of hundreds of endpoints that grow, shrink, and go', async () => {
  const names = Array.from({ length: 300 }, (_, i) => `e${String(i).padStart(3, '0')}`)
  const all = (save: (name: string, i: number) => Promise<unknown>) => Promise.all(names.map(save))
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
