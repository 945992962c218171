// What the commits of a service are, by the server's own count: how many, of what size, in which tables.
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Storage } from '../../src/storage/storage.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const event = (id: string) => {
  return { id, type: 'message.sent', timestamp: new Date(), data: { id }, metadata: {} }
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

function storage(): Storage {
  return postgres(schema.url, { schema: schema.name })
}

async function open(on = storage()): Promise<WebhookService> {
  const service = new WebhookService({
    storage: on,
    secretKey,
    allowedNetworks: ['127.0.0.0/8'],
    logger: false,
    retryScheduleMs: 'standard',
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

const run = (statement: string) =>
  onServer(schema.url, async (client) => (await client.query(statement)).rows)

test('correctness 16: while one event goes to 3,000 endpoints, 199 others are accepted and sent', async () => {
  const service = await open()
  const keys = Array.from({ length: 3_000 }, (_, i) => `wide${i}`)
  const template = hook({ id: 'template', events: ['message.wide'] })
  await service.registerEndpoint(template)
  await run(`
    create temp table copied as select * from ${schema.name}.endpoint limit 1;
    insert into ${schema.name}.endpoint
      select (jsonb_populate_record(copied, jsonb_build_object('key', lpad(i::text, 8, 'w'), 'id', 'wide' || i))).*
        from copied, generate_series(1, ${keys.length - 1}) as i;
    with raised as (update ${schema.name}.endpoints_version set number = number + 1 returning number)
    update ${schema.name}.endpoint set changed = raised.number from raised`)
  await service.registerEndpoint(hook({ events: ['message.sent'] }))
  const sizes = await sizesOfTransactions(async () => {
    const wide = service.dispatchEvent({ ...event('wide'), type: 'message.wide' })
    await Promise.all([wide, ...events(199).map((one) => service.dispatchEvent(one))])
    await service.drain()
  })
  expect(inbox.received).toHaveLength(3_199)
  console.log('deliveries created by each transaction', sizes)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(2_000)
})

/** How many rows of `live` each transaction has inserted. */
async function sizesOfTransactions(work: () => Promise<void>): Promise<number[]> {
  await run(`
    create table ${schema.name}.sizes (xid xid8, n integer);
    create function ${schema.name}.count_new() returns trigger language plpgsql as $$
      begin insert into ${schema.name}.sizes select pg_current_xact_id(), count(*) from new; return null; end $$;
    create trigger count_new after insert on ${schema.name}.live referencing new table as new
      for each statement execute function ${schema.name}.count_new()`)
  await work()
  const rows = await run(
    `select sum(n)::int as n from ${schema.name}.sizes group by xid having sum(n) > 0 order by 1`,
  )
  return rows.map(({ n }) => n as number)
}

describe('what a commit costs', () => {
  /** Statements that change or read rows of deliveries; not those of upkeep. */
  async function statementsOf(work: (service: WebhookService) => Promise<unknown>) {
    const asked: string[] = []
    const pool = new pg.Pool({ connectionString: schema.url })
    pool.on('connect', (client) => {
      const { query } = client
      client.query = ((...given: unknown[]) => {
        const [config] = given as [{ text?: string } | string]
        asked.push(typeof config === 'string' ? config : (config.text ?? ''))
        return Reflect.apply(query, client, given)
      }) as typeof client.query
    })
    const service = await open(postgres(pool, { schema: schema.name }))
    await service.registerEndpoint(hook({ concurrency: 100 }))
    await service.dispatchEvent(event('warm'))
    await service.drain()
    asked.length = 0
    await work(service)
    await service.close()
    await pool.end()
    return {
      accepts: asked.filter((text) => text.includes('.event_key (')).length,
      settlements: asked.filter((text) => text.includes('.rollup as r')).length,
      both: asked.filter((text) => text.includes('.event_key (') && text.includes('.rollup as r')),
      claims: asked.filter((text) => text.includes('row_number() over')).length,
      transactions: asked.filter((text) => text.startsWith('begin')).length,
    }
  }

  test('correctness R3: a group is one statement, and accepts are apart from settlements', async () => {
    const counted = await statementsOf(async (service) => {
      await Promise.all(events(200).map((one) => service.dispatchEvent(one)))
      await inbox.waitForCount(201)
    })
    console.log('200 dispatched in one turn', counted)
    expect(counted.accepts).toBe(1)
    expect(counted.both).toEqual([])
    expect(counted.settlements).toBeLessThan(40)
  })

  test('correctness R1: what has a slot in memory is sent without a claim', async () => {
    const counted = await statementsOf(async (service) => {
      await service.dispatchEvents(events(200))
      await service.drain()
    })
    expect(counted.claims).toBe(0)
  })
})

test('correctness R5: an ended delivery is in one table, an id in one of eight', async () => {
  const service = await open()
  await service.registerEndpoint(hook())
  await service.dispatchEvents(events(50))
  await service.drain()
  const both = `select (select count(*)::int from ${schema.name}.live) as live,
                       (select count(*)::int from ${schema.name}.done) as done`
  expect(await run(both)).toEqual([{ live: 0, done: 50 }])
  const kinds = `select relname as name, partstrat as kind, count(inhrelid)::int as parts
                   from pg_partitioned_table join pg_class on pg_class.oid = partrelid
                        join pg_inherits on inhparent = partrelid
                  where relnamespace = '${schema.name}'::regnamespace and relname <> 'attempt'
                  group by 1, 2 order by 1`
  expect(await run(kinds)).toMatchObject([
    { name: 'done', kind: 'r' },
    { name: 'event', kind: 'r' },
    { name: 'event_key', kind: 'h', parts: 8 },
  ])
  // One row for an event and an endpoint, whoever inserts: the id is made of both.
  await expect(
    run(`insert into ${schema.name}.done select * from ${schema.name}.done limit 1`),
  ).rejects.toMatchObject({ code: '23505' })
})
