// What goes wrong in engines like this, each with whole services on a real server. The numbers are
// those of test/correctness.test.ts.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Storage, Store } from '../../src/storage/storage.ts'
import { FaultProxy } from './fault-proxy.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const event = (id: string, data: object = { id }) => {
  return { id, type: 'message.sent', timestamp: new Date(), data, metadata: {} }
}
const events = (count: number) => Array.from({ length: count }, (_, i) => event(`evt_${i}`))

let schema: TestSchema
let inbox: Inbox
let services: WebhookService[]

beforeEach(async () => {
  schema = freshSchema()
  inbox = await createInbox({ secret: secretKey })
  services = []
})
afterEach(async () => {
  for (const service of services) await service.close()
  await inbox.close()
  const store = await storage().open({ nowMs: Date.now, log: () => {}, onFatal: () => {} })
  expect((await store.audit()).problems).toEqual([])
  await store.close()
  await schema.drop()
})

function storage(url = schema.url, leaseMs = 30_000): Storage {
  return postgres(url, { schema: schema.name, leaseMs })
}

async function open(on = storage(), more: object = {}): Promise<WebhookService> {
  const service = new WebhookService({
    storage: on,
    secretKey,
    allowedNetworks: ['127.0.0.0/8'],
    logger: false,
    retryScheduleMs: 'standard',
    ...more,
  })
  services.push(service)
  await service.ready()
  return service
}

const hook = (more: object = {}) => ({
  id: 'hook',
  url: `${inbox.url}/hook`,
  events: ['*'],
  ...more,
})

function idsAt(from: number): string[] {
  return inbox.received.slice(from).map(({ headers }) => headers['webhook-id'] ?? '')
}

async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: schema.url })
  await client.connect()
  return client
}

const run = (statement: string) =>
  onServer(schema.url, async (client) => (await client.query(statement)).rows)

describe('poison', () => {
  test('correctness 1: an answer with NUL and broken UTF-8 is recorded, and asked for once', async () => {
    let requests = 0
    const said = Buffer.from([0x61, 0x00, 0xc3, 0x28, 0xff, 0x62])
    const receiver = createServer((_, response) => {
      requests += 1
      response.writeHead(500, { 'x-odd': 'a' }).end(said)
    }).listen(0, '127.0.0.1')
    await once(receiver, 'listening')
    const { port } = receiver.address() as AddressInfo
    const service = await open(storage(), { maxRetries: 0, retryScheduleMs: undefined })
    await service.registerEndpoint(hook({ url: `http://127.0.0.1:${port}/` }))
    const { deliveryIds } = await service.dispatchEvent(event('odd', { nul: '\u0000' }))
    await service.drain()
    expect(requests).toBe(1)
    expect(await service.getDelivery(deliveryIds[0] ?? '')).toMatchObject({
      state: 'exhausted',
      attempts: [{ httpStatus: 500 }],
    })
    const rows = await run(`select response_body from ${schema.name}.attempt_made`)
    expect(rows).toEqual([{ response_body: said }])
    receiver.close()
  })

  test('correctness 1: of 200 events in one commit the server refuses one, and stores 199', async () => {
    const service = await open()
    await service.registerEndpoint(hook())
    await run(`
      create function ${schema.name}.refuse() returns trigger language plpgsql as $$
        begin raise exception 'not this one' using errcode = '22P05'; end $$;
      create trigger refuse before insert on ${schema.name}.event for each row
        when (new.id = 'evt_77') execute function ${schema.name}.refuse()`)
    const told = await Promise.allSettled(events(200).map((one) => service.dispatchEvent(one)))
    const refused = told.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))
    expect(refused).toEqual([77])
    await service.drain()
    expect(new Set(idsAt(0)).size).toBe(199)
    expect(inbox.received).toHaveLength(199)
    expect(await service.getEvent('evt_77')).toBeNull()
  })

  test('correctness 1: an outcome whose text the server refuses loses the text alone', async () => {
    const service = await open()
    await service.registerEndpoint(hook())
    await run(`alter table ${schema.name}.done add constraint short
      check (last_response_body is null or length(last_response_body) < 10)`)
    inbox.setAnswer(({ events: [one] }) =>
      one?.id === 'evt_5' ? { body: 'longer than ten' } : { body: 'short' },
    )
    await service.dispatchEvents(events(20))
    await service.drain()
    expect(inbox.received).toHaveLength(20)
    const rows = await run(
      `select count(*)::int as n, count(response_body)::int as texts from ${schema.name}.attempt_made`,
    )
    expect(rows).toEqual([{ n: 20, texts: 19 }])
    expect(await run(`select distinct state from ${schema.name}.done`)).toEqual([
      { state: 'delivered' },
    ])
  })
})

test('correctness 2: 200 callers whose commit is not answered are told that it is stored', async () => {
  const proxy = await FaultProxy.open(schema.url)
  const service = await open(storage(proxy.url(schema.url)))
  await service.registerEndpoint(hook())
  proxy.loseAnswerTo('evt_199')
  const receipts = await Promise.all(events(200).map((one) => service.dispatchEvent(one)))
  expect(proxy.lost).toBe(1)
  expect(receipts.filter(({ duplicate }) => duplicate)).toEqual([])
  // Its owner knows of it: it is sent at once, without anybody's sweep.
  await service.drain()
  expect(inbox.received).toHaveLength(200)
  expect(new Set(idsAt(0)).size).toBe(200)
  await service.close()
  await proxy[Symbol.asyncDispose]()
})

test('correctness 4: a process that lost only the store stops before another begins', async () => {
  const proxy = await FaultProxy.open(schema.url)
  const leaseMs = 1_500
  let store: Store | undefined
  const cutOff = storage(proxy.url(schema.url), leaseMs)
  const one = await open({
    kind: cutOff.kind,
    open: async (host) => {
      store = await cutOff.open(host)
      return store
    },
  })
  await one.registerEndpoint(hook({ concurrency: 1 }))
  inbox.setAnswer(() => ({ after: new Promise((resolve) => setTimeout(resolve, 15)) }))
  const wanted = new Set(events(200).map(({ id }) => id))
  await one.dispatchEvents(events(200))
  await inbox.waitForCount(5)
  proxy.refuse(true)
  while (store?.isOwner) await new Promise(setImmediate)
  // One may have begun at the last moment.
  const known = inbox.received.length + 1
  expect(known).toBeLessThan(200)
  await open(storage(schema.url, leaseMs))
  for (let next = inbox.received.length; wanted.size > 0; next = inbox.received.length) {
    for (const id of idsAt(0)) wanted.delete(id)
    if (wanted.size > 0) await inbox.waitForCount(next + 1)
  }
  const before = new Set(idsAt(0).slice(0, known))
  const after = idsAt(known).filter((id) => !before.has(id))
  // Sent by whom took over, and by nobody else: what the first one still held in memory.
  expect(after.length).toBeGreaterThan(50)
  expect(new Set(after).size).toBe(after.length)
  proxy.refuse(false)
  await one.drain()
  const late = await run(`select count(*)::int as n from ${schema.name}.attempt where late`)
  expect(late[0].n).toBeGreaterThan(0)
  await one.close()
  await proxy[Symbol.asyncDispose]()
})

describe("a caller's transaction", () => {
  test('correctness 5: nobody waits for the id that it brings', async () => {
    const service = await open()
    await service.registerEndpoint(hook())
    const refused: string[] = []
    service.on('event.refused', ({ eventId }) => refused.push(eventId))
    const [first, second] = [await connected(), await connected()]
    for (const client of [first, second]) await client.query('begin')
    await service.dispatchEvent(event('same'), { transaction: first })
    await service.dispatchEvent(event('other', { by: 1 }), { transaction: first })
    await service.dispatchEvent(event('same'), { transaction: second })
    // Both are open.
    await service.dispatchEvents([event('same'), event('other', { by: 2 })])
    await service.drain()
    expect(idsAt(0).toSorted()).toEqual(['other', 'same'])
    for (const client of [second, first]) {
      await client.query('commit')
      await client.end()
    }
    while (refused.length === 0) await new Promise(setImmediate)
    await service.drain()
    expect(refused).toEqual(['other'])
    expect(inbox.received).toHaveLength(2)
  })

  test('correctness R4: it writes one row of intake and nothing else', async () => {
    const service = await open()
    await service.registerEndpoint(hook())
    const client = await connected()
    const changes = async () => {
      const { rows } = await client.query<{ name: string; n: string }>(
        `select relname as name, n_tup_ins + n_tup_upd + n_tup_del as n
           from pg_stat_xact_user_tables where schemaname = $1 order by 1`,
        [schema.name],
      )
      return rows.filter(({ n }) => Number(n) > 0)
    }
    await client.query('begin')
    await service.dispatchEvent(event('brought'), { transaction: client })
    expect(await changes()).toEqual([{ name: 'intake', n: '1' }])
    const { rows } = await client.query(
      `select contype from pg_constraint where conrelid = '${schema.name}.intake'::regclass
          and contype in ('p', 'u')`,
    )
    expect(rows).toEqual([{ contype: 'p' }])
    await client.query('commit')
    await client.end()
    await inbox.waitForCount(1)
    await service.drain()
  })
})

test('correctness 6: what waits for an endpoint that somebody removed and died is ended', async () => {
  const one = await open()
  await one.registerEndpoint(hook())
  await one.pauseEndpoint('hook')
  const { deliveryIds } = await one.dispatchEvent(event('evt_1'))
  await one.dispatchEvent(event('evt_2'), { deliverAt: new Date(Date.now() + 3_600_000) })
  // As if its process had died right after the change was committed.
  await run(`
    with raised as (update ${schema.name}.endpoints_version set number = number + 1 returning number)
    update ${schema.name}.endpoint set removed_at_ms = 1, changed = raised.number from raised`)
  const left = () => run(`select from ${schema.name}.live`)
  while ((await left()).length > 0) await new Promise(setImmediate)
  expect(await one.getDelivery(deliveryIds[0] ?? '')).toMatchObject({
    state: 'cancelled',
    reason: 'endpoint_removed',
  })
  expect(inbox.received).toHaveLength(0)
})

test('correctness 13: a key is kept in order over processes, whatever is free in the second', async () => {
  const [one, two] = [await open(), await open()]
  await one.registerEndpoint(
    hook({
      ordering: { key: 'orderId', onExhausted: 'block' },
      retryConfig: { retryScheduleMs: [300] },
    }),
  )
  let failures = 1
  inbox.setAnswer(({ events: [sent] }) =>
    sent?.id === 'evt_0' && failures-- > 0 ? { status: 503 } : undefined,
  )
  const ofOrder = (id: string, orderId: string) => ({ ...event(id), metadata: { orderId } })
  await one.dispatchEvent(ofOrder('evt_0', 'same'))
  await inbox.waitForCount(1)
  // Both lanes of this process are free.
  await two.dispatchEvents([ofOrder('evt_1', 'same'), ofOrder('evt_2', 'other')])
  await inbox.waitForCount(4)
  const ofKey = idsAt(0).filter((id) => id !== 'evt_2')
  expect(ofKey).toEqual(['evt_0', 'evt_0', 'evt_1'])
  await Promise.all([one.drain(), two.drain()])
})
