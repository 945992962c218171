// Limits of an endpoint over real processes, by the ledger of its receiver.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import type { Store } from '../../src/storage/storage.ts'
import { change, endpoint } from '../storage/fixtures.ts'
import { Process, secret } from './process.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

describe('several processes with one endpoint', () => {
  let schema: TestSchema
  let folder: string
  let inbox: Inbox
  let store: Store
  let processes: Process[]

  beforeEach(async () => {
    schema = freshSchema()
    folder = mkdtempSync(path.join(tmpdir(), 'kmsg-limits-'))
    inbox = await createInbox({ secret })
    store = await postgres(schema.url, { schema: schema.name }).open({
      nowMs: Date.now,
      log: () => {},
      onFatal: () => {},
    })
    processes = []
  })
  afterEach(async () => {
    for (const one of processes) if (one.child.signalCode === null) await one.kill()
    await store.close()
    await inbox.close()
    await schema.drop()
    rmSync(folder, { recursive: true })
  })

  async function hook(limits: Partial<EndpointRecord>): Promise<void> {
    const url = `${inbox.url}/hook`
    const record = endpoint('hook', { url, events: ['*'], filters: {}, secrets: [], ...limits })
    await store.saveEndpoint(record, change('registered'))
  }

  function start(name: string, events: number): Process {
    const started = new Process(schema, folder, name, events)
    processes.push(started)
    return started
  }

  test('10 a second are at most 10 in any second, whoever sends them', async () => {
    await hook({ rateLimit: { limit: 10, perMs: 1_000 } })
    const atMs: number[] = []
    // What a process does for the first time takes it long: it does that for another endpoint.
    const warm = endpoint('warm', {
      url: `${inbox.url}/warm`,
      events: ['*'],
      filters: {},
      secrets: [],
    })
    await store.saveEndpoint(warm, change('registered'))
    inbox.setAnswer(({ path: to }) => {
      if (to === '/hook') atMs.push(performance.now())
      return undefined
    })
    for (const name of ['a', 'b', 'c']) start(name, 20)
    await inbox.waitForCount(120)
    let most = 0
    for (const fromMs of atMs) {
      most = Math.max(most, atMs.filter((ms) => ms >= fromMs && ms < fromMs + 1_000).length)
    }
    const tookS = ((atMs.at(-1) ?? 0) - (atMs[0] ?? 0)) / 1_000
    const sentBy = processes.map((one) => one.noted('+').length)
    console.log(
      `60 requests in ${tookS.toFixed(2)} s · most in any second ${most} · by process ${sentBy}`,
    )
    expect(most).toBeLessThanOrEqual(10.5)
    expect(sentBy.filter((count) => count > 0).length).toBeGreaterThan(1)
  })

  test('6 at the same time are at most 6, also while one joins and one is killed', async () => {
    await hook({ concurrency: 6 })
    let now = 0
    let most = 0
    inbox.setAnswer(() => {
      now += 1
      most = Math.max(most, now)
      const after = new Promise<void>((resolve) => {
        setTimeout(() => {
          now -= 1
          resolve()
        }, 20)
      })
      return { after }
    })
    const [victim] = ['a', 'b', 'c'].map((name) => start(name, 400))
    await inbox.waitForCount(200)
    const late = start('d', 400)
    await late.accepted
    await inbox.waitForCount(500)
    await victim?.kill()
    const others = processes.filter((one) => one !== victim)
    await Promise.all(others.map(({ accepted }) => accepted))
    const wanted = new Set(processes.flatMap((one) => one.noted('=')))
    for (let next = 0; ; ) {
      for (const { events } of inbox.received.slice(next)) wanted.delete(events[0]?.id ?? '')
      next = inbox.received.length
      if (wanted.size === 0) break
      await inbox.waitForCount(next + 1)
    }
    const sentBy = processes.map((one) => one.noted('+').length)
    console.log(`most at the same time ${most} · by process ${sentBy}`)
    expect(most).toBeLessThanOrEqual(6)
    expect(most).toBeGreaterThan(4)
    for (const count of sentBy) expect(count).toBeGreaterThan(0)
  })
})
