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
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const eventsEach = 1_000

describe('several processes on one database', () => {
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
    processes = []
  })
  afterEach(async () => {
    for (const one of processes) if (one.child.signalCode === null) await one.kill()
    await store.close()
    await inbox.close()
    await schema.drop()
    rmSync(folder, { recursive: true })
  })

  /** They begin together, so that none has done the work before the others live. */
  async function start(names: string, events: number, concurrency: number): Promise<void> {
    const hook = endpoint('hook', { url: `${inbox.url}/hook`, events: ['*'], filters: {} })
    await store.saveEndpoint({ ...hook, concurrency, secrets: [] }, change('registered'))
    processes = [...names].map(
      (name) => new Process(schema, folder, name, events, { isHeld: true }),
    )
    await Promise.all(processes.map(({ ready }) => ready))
    for (const one of processes) one.go()
  }

  /**
   * @param from requests before that one are known already
   * @returns the deliveries that arrived more than once since then
   */
  async function untilArrived(wanted: Set<string>, from = 0): Promise<string[]> {
    const seen = new Set(inbox.received.slice(0, from).map(({ events }) => events[0]?.id ?? ''))
    for (const id of seen) wanted.delete(id)
    const twice: string[] = []
    for (let next = from; ; ) {
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

  test('four of them deliver 20,000 events once each, and each of them its part', async () => {
    await start('abcd', 5_000, 80)
    await Promise.all(processes.map(({ accepted }) => accepted))
    const twice = await untilArrived(new Set(processes.flatMap((one) => one.noted('='))))
    expect(twice).toEqual([])
    expect(inbox.received).toHaveLength(20_000)
    expect(inbox.received.every(({ signature }) => signature === 'valid')).toBe(true)
    for (const one of processes) {
      expect(one.noted('+').length).toBeGreaterThanOrEqual(0.1 * 20_000)
    }
    expect((await store.audit()).problems).toEqual([])
  })

  test('correctness R1: lose nothing when one is killed, and repeat only what it had under way', async () => {
    await start('abc', eventsEach, 20)
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

  test('correctness R2: fence off what one says that was stopped for longer than its lease', async () => {
    await start('abc', eventsEach, 20)
    const [victim, ...others] = processes as [Process, ...Process[]]
    await inbox.waitForCount(400)
    victim.child.kill('SIGSTOP')
    const { unknown } = victim
    await Promise.all(others.map(({ accepted }) => accepted))
    // Everything that is known of has arrived, so the others have taken over what it held.
    const twice = await untilArrived(new Set(processes.flatMap((one) => one.noted('='))))
    const arrived = inbox.received.length
    victim.child.kill('SIGCONT')
    await victim.accepted
    twice.push(...(await untilArrived(new Set(victim.noted('=')), arrived)))
    // What it says is written after everything has arrived, a moment or some later.
    let late = await lateAttempts()
    while (late === 0) late = await lateAttempts()
    console.log(
      `stopped past its lease: accepted ${3 * eventsEach} · lost 0 · duplicates ${twice.length} of ${unknown.size} under way · ${late} late outcomes fenced off`,
    )
    expect(late).toBeGreaterThan(0)
    expect(late).toBeLessThanOrEqual(unknown.size)
    expect(twice.filter((id) => !unknown.has(id))).toEqual([])
    expect((await store.audit()).problems).toEqual([])
  })

  async function lateAttempts(): Promise<number> {
    return await onServer(schema.url, async (client) => {
      const { rows } = await client.query(
        `select count(*)::int as n from ${schema.name}.attempt where late`,
      )
      return rows[0].n as number
    })
  }
})

describe('a repair on one database', () => {
  test('goes on in another process when one is killed, each event once more', async () => {
    const events = 300
    const schema = freshSchema()
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-processes-'))
    const inbox = await createInbox({ secret })
    const storage = postgres(schema.url, { schema: schema.name })
    const store = await storage.open({ nowMs: Date.now, log: () => {}, onFatal: () => {} })
    const hook = endpoint('hook', { url: `${inbox.url}/hook`, events: ['*'], filters: {} })
    await store.saveEndpoint({ ...hook, concurrency: 20, secrets: [] }, change('registered'))
    const victim = new Process(schema, folder, 'a', events, { replay: 200 })
    const heirs: Process[] = []
    try {
      await inbox.waitForCount(events + 40)
      await victim.kill()
      heirs.push(...['b', 'c'].map((name) => new Process(schema, folder, name, 0)))
      const again = () => inbox.received.filter(isSecondRound)
      const ids = () => again().map(({ headers }) => headers['x-webhook-delivery'] ?? '')
      for (let next = inbox.received.length; new Set(ids()).size < events; next += 1) {
        await inbox.waitForCount(next + 1)
      }
      const twice = ids().filter((id, i, all) => all.indexOf(id) !== i)
      expect(twice.filter((id) => !victim.unknown.has(id))).toEqual([])
      expect(new Set(again().map(({ headers }) => headers['webhook-id'])).size).toBe(events)
      const query = { tenantId: null, id: null, onlyRunning: false, limit: 10 }
      const [repair] = await store.listRepairs(query, Date.now())
      expect(repair).toMatchObject({ queued: events, matched: events, skipped: {} })
      expect((await store.audit()).problems).toEqual([])
    } finally {
      for (const one of heirs) await one.kill()
      if (victim.child.signalCode === null) await victim.kill()
      await store.close()
      await inbox.close()
      await schema.drop()
      rmSync(folder, { recursive: true })
    }
  })
})

function isSecondRound({ headers }: { headers: Readonly<Record<string, string | undefined>> }) {
  return headers['x-webhook-delivery']?.endsWith('_r2') ?? false
}
