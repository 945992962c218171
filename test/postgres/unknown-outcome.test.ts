// The answer to a commit is lost: everything is repeated, and nothing is done twice.
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  change,
  claimAll,
  commitAccepts,
  endpoint,
  group,
  ownedOf,
  settle,
  testHost,
} from '../storage/fixtures.ts'
import { FaultProxy } from './fault-proxy.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const event = (id: string) => {
  return { id, type: 'message.sent', timestamp: new Date(), data: { id }, metadata: {} }
}

let schema: TestSchema
beforeEach(() => {
  schema = freshSchema()
})
afterEach(() => schema.drop())

describe('a service behind a network that loses answers', () => {
  let proxy: FaultProxy
  let inbox: Inbox
  let service: WebhookService

  beforeEach(async () => {
    proxy = await FaultProxy.open(schema.url)
    inbox = await createInbox({ secret: secretKey })
    service = new WebhookService({
      storage: postgres(proxy.url(schema.url), { schema: schema.name }),
      secretKey,
      allowedNetworks: ['127.0.0.0/8'],
      logger: false,
      maxRetries: 0,
    })
    await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
  })
  afterEach(async () => {
    expect((await service.audit()).problems).toEqual([])
    await service.close()
    await inbox.close()
    await proxy[Symbol.asyncDispose]()
  })

  test('correctness 2: an accept is stored and sent once, and its caller told nothing of it', async () => {
    proxy.loseAnswerTo('evt_unknown')
    const receipt = await service.dispatchEvent(event('evt_unknown'))
    expect(proxy.lost).toBe(1)
    expect(receipt).toMatchObject({ eventId: 'evt_unknown', duplicate: false })
    await service.drain()
    expect(inbox.received).toHaveLength(1)
  })

  test('correctness R3: an outcome is written once, however often its answer is lost', async () => {
    for (let i = 0; i < 3; i += 1) proxy.loseAnswerTo('accepted')
    const { deliveryIds } = await service.dispatchEvent(event('evt_1'))
    await service.drain()
    expect(proxy.lost).toBe(3)
    expect(inbox.received).toHaveLength(1)
    const found = await service.getDelivery(deliveryIds[0] ?? '')
    expect(found).toMatchObject({ state: 'delivered' })
    expect(found?.attempts).toHaveLength(1)
  })

  test('correctness R1: a claim takes nothing with it', async () => {
    await service.pauseEndpoint('hook')
    await service.dispatchEvent(event('evt_1'))
    // The statement knows nothing but the key of the endpoint, which its answer tells.
    proxy.loseAnswerTo('row_number() over')
    await service.resumeEndpoint('hook')
    await service.drain()
    expect(proxy.lost).toBe(1)
    expect(inbox.received).toHaveLength(1)
  })

  test('a change of an endpoint is made once', async () => {
    const before = (await service.getEndpointHistory('hook')).length
    proxy.loseAnswerTo('commit')
    await service.updateEndpoint('hook', { name: 'new' })
    expect(proxy.lost).toBe(1)
    const history = await service.getEndpointHistory('hook')
    expect(history).toHaveLength(before + 1)
    expect(await service.getEndpoint('hook')).toMatchObject({ name: 'new' })
  })
})

test('correctness R1: what a lost claim took is given back at once, and looked for no more by each claim', async () => {
  const host = testHost()
  const pool = new pg.Pool({ connectionString: schema.url })
  let looks = 0
  let losesNext = false
  pool.on('connect', (client) => {
    const { query } = client
    client.query = ((...given: unknown[]) => {
      const [{ text = '' }] = given as [{ text?: string }]
      if (text.includes('claim_no = any')) looks += 1
      const answer: Promise<unknown> = Reflect.apply(query, client, given)
      if (!losesNext || !text.includes('row_number() over')) return answer
      losesNext = false
      return answer.then(() => Promise.reject(new Error('Connection terminated unexpectedly')))
    }) as typeof client.query
  })
  const store = await postgres(pool, { schema: schema.name }).open(host)
  await commitAccepts(store, ...Array.from({ length: 3 }, () => accept(host)))
  losesNext = true
  await expect(claimAll(store, host)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
  expect(await claimAll(store, host)).toHaveLength(3)
  for (let i = 0; i < 10; i += 1) await claimAll(store, host)
  expect(looks).toBe(1)
  await store.close()
  await pool.end()
})

describe('a group of which a part was refused', () => {
  let store: Store
  beforeEach(async () => {
    store = await postgres(schema.url, { schema: schema.name }).open(testHost())
  })
  afterEach(() => store.close())

  test('correctness 2: is not said to be unwritten when its events are stored', async () => {
    const host = testHost()
    const first = accept(host, { owned: true })
    await commitAccepts(store, first)
    await onServer(schema.url, (client) =>
      client.query(`
        create function ${schema.name}.no_room() returns trigger language plpgsql as $$
          begin raise exception 'no room' using errcode = '53100'; end $$;
        create trigger no_room before insert on ${schema.name}.done for each row
          execute function ${schema.name}.no_room()`),
    )
    const second = accept(host, { owned: true })
    const both = group({ accepts: [second], settlements: [settle(host, ownedOf(first))] })
    // STORAGE_FULL would be read as "nothing of it is stored".
    await expect(store.commit(both)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
    const alone = group({ settlements: both.settlements })
    await expect(store.commit(alone)).rejects.toMatchObject({ code: 'STORAGE_FULL' })
    await onServer(schema.url, (client) =>
      client.query(`drop trigger no_room on ${schema.name}.done`),
    )
    expect(await store.commit(both)).toEqual({
      accepts: [{ kind: 'stored' }],
      settlements: ['written'],
    })
  })

  test('a saved endpoint that is saved again is the same, and another is not', async () => {
    const first = endpoint('shop')
    expect(await store.saveEndpoint(first, change('registered'), null)).toBe(true)
    expect(await store.saveEndpoint(first, change('registered'), null)).toBe(true)
    const second = { ...first, version: 2, name: 'two', updatedAtMs: first.updatedAtMs + 1 }
    const renamed = change('updated', { version: 2 })
    expect(await store.saveEndpoint(second, renamed, 1)).toBe(true)
    expect(await store.saveEndpoint(second, renamed, 1)).toBe(true)
    expect(await store.saveEndpoint({ ...second, name: 'three' }, renamed, 1)).toBe(false)
    expect(await store.endpointHistory(first.key, 1_000, null)).toHaveLength(2)
  })
})
