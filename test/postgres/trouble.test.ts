// The database is in trouble, and the app is not: nothing is lost, no delivery counts an attempt or
// ends because of it, and who dispatches is told the truth.
import { once } from 'node:events'
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FaultProxy } from './fault-proxy.ts'
import { Load, nothingWrong, sayResult } from './load.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const event = (id: string) => {
  return { id, type: 'message.sent', timestamp: new Date(), data: { id }, metadata: {} }
}

let schema: TestSchema
let proxy: FaultProxy
let inbox: Inbox
let services: WebhookService[]
let role: string | null

beforeEach(async () => {
  schema = freshSchema()
  proxy = await FaultProxy.open(schema.url)
  inbox = await createInbox({ secret: secretKey })
  services = []
  role = null
})
afterEach(async () => {
  for (const service of services) await service.close()
  await inbox.close()
  await proxy[Symbol.asyncDispose]()
  const storage = postgres(schema.url, { schema: schema.name })
  const store = await storage.open({ nowMs: Date.now, log: () => {}, onFatal: () => {} })
  expect((await store.audit()).problems).toEqual([])
  await store.close()
  await schema.drop()
  if (role !== null) await asAdmin(`drop role ${role}`)
})

const asAdmin = (sql: string) => onServer(schema.url, (client) => client.query(sql))

/** Through the proxy; without a single retry, so that no attempt can be hidden behind another. */
async function open(
  url = schema.url,
  { maxConnections = 6, log = [] as string[] } = {},
): Promise<WebhookService> {
  const keep = (_fields: object, message: string) => void log.push(message)
  const service = new WebhookService({
    storage: postgres(proxy.url(url), { schema: schema.name, maxConnections }),
    secretKey,
    allowedNetworks: ['127.0.0.0/8'],
    logger: { info: keep, warn: keep, error: keep, debug: () => {} },
    maxRetries: 0,
  })
  services.push(service)
  await service.ready()
  await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
  return service
}

/** What every delivery came to, by its state. */
async function states(service: WebhookService): Promise<Record<string, number>> {
  return await onServer(schema.url, async (client) => {
    await service.drain()
    const { rows } = await client.query(
      `select state, count(*)::int as n, max(attempts) as most from ${schema.name}.done group by 1`,
    )
    for (const { most } of rows) expect(most).toBe(1)
    return Object.fromEntries(rows.map(({ state, n }) => [state, n]))
  })
}

describe('connections', () => {
  test('that the server ends under load, all of them and again and again', async () => {
    const [one, two] = [await open(), await open()]
    const load = new Load([one, two], inbox)
    let ended = 0
    await onServer(schema.url, async (admin) => {
      for (let round = 0; round < 15; round += 1) {
        await new Promise((resolve) => setTimeout(resolve, 200))
        const { rows } = await admin.query(
          'select pg_terminate_backend(pid) from pg_stat_activity where client_port = any($1)',
          [proxy.ports],
        )
        ended += rows.length
      }
    })
    const result = await load.end()
    sayResult(`${ended} connections ended by the server in 3 s`, result)
    expect(ended).toBeGreaterThan(30)
    expect(result).toMatchObject({ ...nothingWrong, duplicates: 0, repeated: 0 })
    expect(await states(one)).toEqual({ delivered: result.accepted })
  })

  test('that are half open are given up within seconds', async () => {
    const service = await open()
    await service.dispatchEvent(event('evt_before'))
    await service.drain()
    proxy.silence()
    const startMs = performance.now()
    await service.dispatchEvent(event('evt_after'))
    const tookMs = Math.round(performance.now() - startMs)
    console.log(`half open: accepted ${tookMs} ms after the network went silent`)
    expect(tookMs).toBeLessThan(8_000)
    expect(await states(service)).toEqual({ delivered: 2 })
  })

  test('of which there are too few make callers wait, not fail', async () => {
    const service = await open(schema.url, { maxConnections: 2 })
    const events = Array.from({ length: 300 }, (_, i) => event(`evt_${i}`))
    const questions = events.map(({ id }) => service.getEvent(id))
    const receipts = await Promise.all(events.map((one) => service.dispatchEvent(one)))
    await Promise.all(questions)
    expect(receipts).toHaveLength(300)
    expect(await states(service)).toEqual({ delivered: 300 })
  })

  test('of a pool of the app that has a single one are enough', async () => {
    const pool = new pg.Pool({ connectionString: proxy.url(schema.url), max: 1 })
    const service = new WebhookService({
      storage: postgres(pool, { schema: schema.name }),
      secretKey,
      allowedNetworks: ['127.0.0.0/8'],
      logger: false,
    })
    services.push(service)
    await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
    const load = new Load([service], inbox)
    for (let cuts = 0; cuts < 5; cuts += 1) {
      await inbox.waitForCount(inbox.received.length + 20)
      proxy.cut()
    }
    const result = await load.end()
    sayResult('a pool of one connection, cut 5 times', result)
    expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
    await service.close()
    await pool.end()
  })
})

test('correctness R3: while the database is away, callers are told in time and outcomes are kept', async () => {
  const log: string[] = []
  const service = await open(schema.url, { log })
  let answer = () => {}
  const held = new Promise<void>((resolve) => {
    answer = resolve
  })
  inbox.setAnswer(() => ({ after: held }))
  await service.dispatchEvent(event('evt_under_way'))
  await inbox.waitForCount(1)
  proxy.refuse(true)
  answer()
  const startMs = performance.now()
  const refused = service.dispatchEvent(event('evt_away'))
  await expect(refused).rejects.toMatchObject({
    code: 'STORAGE_UNAVAILABLE',
    message: expect.stringContaining('again with the same id'),
  })
  const tookMs = performance.now() - startMs
  console.log(`away: told after ${Math.round(tookMs)} ms`)
  expect(tookMs).toBeGreaterThan(4_000)
  expect(tookMs).toBeLessThan(10_500)
  expect(await service.health()).toMatchObject({ status: 'degraded' })
  proxy.refuse(false)
  await service.dispatchEvent(event('evt_away'))
  expect(await states(service)).toEqual({ delivered: 2 })
  expect(inbox.received).toHaveLength(2)
  expect(log).toContain('the store takes writes again')
})

describe('with an account of its own', () => {
  let url: string

  beforeEach(async ({ skip }) => {
    const target = new URL(schema.url)
    const isAdmin = await onServer(schema.url, async (client) => {
      const { rows } = await client.query('select rolsuper from pg_roles where rolname = user')
      return rows[0].rolsuper as boolean
    })
    if (!isAdmin) skip('DATABASE_URL names no superuser, and an account has to be made')
    role = `${schema.name}_role`
    await asAdmin(`create role ${role} login password 'secret'; create schema ${schema.name};
                   alter schema ${schema.name} owner to ${role}`)
    target.username = role
    target.password = 'secret'
    url = target.href
  })
  test('that may open fewer connections than three services want', async () => {
    await asAdmin(`alter role ${role} connection limit 5`)
    await Promise.all([open(url), open(url), open(url)])
    const load = new Load(services, inbox)
    await inbox.waitForCount(300)
    const result = await load.end()
    sayResult('3 services with 5 connections in all', result)
    expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
  })

  test('whose server turns read-only, and back', async () => {
    const log: string[] = []
    const service = await open(url, { log })
    await service.dispatchEvent(event('evt_1'))
    await asAdmin(`alter role ${role} set default_transaction_read_only = on`)
    proxy.cut()
    const waiting = service.dispatchEvent(event('evt_2'))
    // No connection that can only read is kept: each is asked once, when it is made.
    while (!log.includes('the store takes no writes')) await new Promise(setImmediate)
    await asAdmin(`alter role ${role} reset default_transaction_read_only`)
    await waiting
    expect(await states(service)).toEqual({ delivered: 2 })
  })

  test('whose transactions are serializable, and fail for it', async () => {
    await asAdmin(`alter role ${role} set default_transaction_isolation = serializable`)
    const [one, two] = [await open(url), await open(url)]
    const load = new Load([one, two], inbox)
    await inbox.waitForCount(300)
    const result = await load.end()
    sayResult('serializable', result)
    expect(result).toMatchObject({ ...nothingWrong, duplicates: 0, repeated: 0 })
  })

  test('whose commit is the victim of a deadlock', async () => {
    const service = await open(url)
    const [held, other] = [await connected(), await connected()]
    // Only the days: an accept names the whole table.
    await held.query(`
      set deadlock_timeout = '20s'; begin;
      do $$ declare day regclass; begin
        for day in select inhrelid from pg_inherits where inhparent = '${schema.name}.done'::regclass
        loop execute format('lock table %s in share mode', day); end loop;
      end $$`)
    await service.dispatchEvent(event('evt_1'))
    // Its outcome holds the delivery's row by now, and waits to write its end.
    while ((await waiting(other)) === 0) await new Promise(setImmediate)
    await held.query(`select from ${schema.name}.live for update; commit`)
    await held.end()
    await other.end()
    expect(await states(service)).toEqual({ delivered: 1 })
    expect(inbox.received).toHaveLength(1)
  })

  async function connected(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: schema.url })
    await client.connect()
    return client
  }

  async function waiting(client: pg.Client): Promise<number> {
    const { rows } = await client.query(
      `select count(*)::int as n from pg_stat_activity
        where usename = $1 and wait_event_type = 'Lock'`,
      [role],
    )
    return rows[0].n
  }
})

test('a table that somebody locks for a second makes callers wait', async () => {
  const service = await open()
  await onServer(schema.url, async (client) => {
    await client.query(`begin; lock table ${schema.name}.live, ${schema.name}.event_key`)
    const dispatched = service.dispatchEvent(event('evt_1'))
    await once(AbortSignal.timeout(1_000), 'abort')
    await client.query('commit')
    await dispatched
  })
  expect(await states(service)).toEqual({ delivered: 1 })
})
