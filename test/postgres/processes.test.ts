// Real processes on one database: each delivery once, and when one of them is killed, nothing lost.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import { change, endpoint } from '../storage/fixtures.ts'
import { leaseMs, Process, secret } from './process.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

const eventsEach = 1_000

describe('three processes on one database', () => {
  let schema: TestSchema
  let folder: string
  let inbox: Inbox
  let store: Store
  let processes: Process[]

  beforeEach(async () => {
    schema = freshSchema()
    folder = mkdtempSync(path.join(tmpdir(), 'kmsg-processes-'))
    inbox = await createInbox({ secret })
    // Slow enough that requests are under way at any moment.
    inbox.setAnswer(() => ({ after: new Promise((resolve) => setTimeout(resolve, 10)) }))
    store = await postgres(schema.url, { schema: schema.name }).open({
      nowMs: Date.now,
      log: () => {},
      onFatal: () => {},
    })
    const hook = endpoint('hook', { url: `${inbox.url}/hook`, events: ['*'], filters: {} })
    await store.saveEndpoint({ ...hook, concurrency: 20, secrets: [] }, change('registered'))
    processes = ['a', 'b', 'c'].map((name) => new Process(schema, folder, name, eventsEach))
  })
  afterEach(async () => {
    for (const one of processes) if (one.child.signalCode === null) await one.kill()
    await store.close()
    await inbox.close()
    await schema.drop()
    rmSync(folder, { recursive: true })
  })

  /** @returns the ids that arrived more than once */
  async function untilArrived(wanted: Set<string>): Promise<string[]> {
    const seen = new Set<string>()
    const twice: string[] = []
    for (let next = 0; ; ) {
      for (const { headers, events } of inbox.received.slice(next)) {
        const id = events[0]?.id ?? ''
        if (seen.has(id)) twice.push(headers['x-webhook-delivery'] ?? '')
        seen.add(id)
        wanted.delete(id)
      }
      next = inbox.received.length
      if (wanted.size === 0) return twice
      await inbox.waitForCount(next + 1)
    }
  }

  test('deliver each event once, and each of them its part', async () => {
    await Promise.all(processes.map(({ accepted }) => accepted))
    const twice = await untilArrived(new Set(processes.flatMap((one) => one.noted('='))))
    expect(twice).toEqual([])
    expect(inbox.received).toHaveLength(3 * eventsEach)
    expect(inbox.received.every(({ signature }) => signature === 'valid')).toBe(true)
    for (const one of processes) {
      expect(one.noted('+').length).toBeGreaterThanOrEqual(0.1 * 3 * eventsEach)
    }
    expect((await store.audit()).problems).toEqual([])
  })

  test('lose nothing when one is killed, and repeat only what it had under way', async () => {
    const [victim, ...others] = processes as [Process, ...Process[]]
    await inbox.waitForCount(400)
    await victim.kill()
    const killedAtMs = performance.now()
    await Promise.all(others.map(({ accepted }) => accepted))
    const acked = processes.flatMap((one) => one.noted('='))
    const twice = await untilArrived(new Set(acked))
    const tookMs = Math.round(performance.now() - killedAtMs)
    const { unknown } = victim
    console.log(
      `accepted ${acked.length} · lost 0 · duplicates ${twice.length} of ${unknown.size} under way · all there ${tookMs} ms after the kill (lease ${leaseMs} ms)`,
    )
    expect(twice.filter((id) => !unknown.has(id))).toEqual([])
    expect(twice).toHaveLength(new Set(twice).size)
    expect((await store.audit()).problems).toEqual([])
  })
})
