// Limits of an endpoint over real processes, by the ledger of its receiver.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import type { Store } from '../../src/storage/storage.ts'
import { change, endpoint, endpointKey } from '../storage/fixtures.ts'
import { Process, secret } from './process.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

describe('peers 13: several processes with one endpoint', () => {
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

  /** When its requests to that endpoint began. */
  function sentTo(name: string, one: Process): number[] {
    const lines = one.noted('@').filter((line) => line.includes(endpointKey(name)))
    return lines.map((line) => Number(line.split(' ')[1]))
  }

  function mostIn(windowMs: number, atMs: readonly number[]): number {
    const inWindow = atMs.map(
      (fromMs) => atMs.filter((ms) => ms >= fromMs && ms < fromMs + windowMs).length,
    )
    return Math.max(0, ...inWindow)
  }

  test('correctness 14: 10 a second are at most 10 in any second, whoever sends them', async () => {
    await hook({ rateLimit: { limit: 10, perMs: 1_000 } })
    // What a process does for the first time takes it long: it does that for another endpoint.
    const url = `${inbox.url}/warm`
    const warm = endpoint('warm', { url, events: ['*'], filters: {}, secrets: [] })
    await store.saveEndpoint(warm, change('registered'))
    const arrivedMs: number[] = []
    inbox.setAnswer(({ path: to, receivedAtMs }) => {
      if (to === '/hook') arrivedMs.push(receivedAtMs)
      return undefined
    })
    for (const name of ['a', 'b', 'c']) start(name, 20)
    await inbox.waitForCount(120)
    // By the ledgers of those who send: this receiver reads late what came while it was held up.
    const sentBy = processes.map((one) => sentTo('hook', one))
    const sentMs = sentBy.flat().sort((x, y) => x - y)
    const tookS = ((sentMs.at(-1) ?? 0) - (sentMs[0] ?? 0)) / 1_000
    console.log(
      `60 requests in ${tookS.toFixed(2)} s · most in any second ${mostIn(1_000, sentMs)} sent, ${mostIn(1_000, arrivedMs)} read · by process ${sentBy.map(({ length }) => length)}`,
    )
    expect(sentMs).toHaveLength(60)
    expect(mostIn(1_000, sentMs)).toBeLessThanOrEqual(10.5)
    expect(tookS).toBeLessThan(15)
    expect(sentBy.filter(({ length }) => length > 0).length).toBeGreaterThan(1)
  })

  test('correctness 14: 6 at the same time are at most 6, also while one joins and one is killed', async () => {
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
    // Enough for whoever comes late to get its share before all is sent.
    const [victim] = ['a', 'b', 'c'].map((name) => start(name, 400))
    await inbox.waitForCount(80)
    const late = start('d', 160)
    await late.accepted
    await inbox.waitForCount(200)
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
