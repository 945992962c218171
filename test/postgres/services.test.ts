// Whole services on one database, as in several processes: they learn of each other only through it.
import { createEncryptionKey, WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freshSchema, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

describe('services on one database', () => {
  let schema: TestSchema
  let inbox: Inbox
  let services: WebhookService[]
  let number = 0

  beforeEach(async () => {
    schema = freshSchema()
    inbox = await createInbox({ secret: secretKey })
    services = []
  })
  afterEach(async () => {
    for (const service of services) await service.close()
    await inbox.close()
    const storage = postgres(schema.url, { schema: schema.name })
    const store = await storage.open({ nowMs: Date.now, log: () => {}, onFatal: () => {} })
    expect((await store.audit()).problems).toEqual([])
    await store.close()
    await schema.drop()
  })

  async function open(
    storage = postgres(schema.url, { schema: schema.name }),
    input: object = {},
  ): Promise<WebhookService> {
    const service = new WebhookService({
      storage,
      secretKey,
      allowedNetworks: ['127.0.0.0/8'],
      logger: false,
      retryScheduleMs: 'standard',
      ...input,
    })
    services.push(service)
    await service.ready()
    return service
  }

  const hook = (id = 'hook') => ({ id, url: `${inbox.url}/${id}`, events: ['*'] })
  const event = () => {
    number += 1
    const timestamp = new Date()
    return { id: `evt_${number}`, type: 'message.sent', timestamp, data: { number }, metadata: {} }
  }

  test('what one process cannot send soon, others send, although they have accepted nothing', async () => {
    const sent = new Map<string, number>()
    inbox.setAnswer(() => ({ after: new Promise((resolve) => setTimeout(resolve, 50)) }))
    const names = ['one', 'two', 'three', 'four']
    const services = []
    for (const name of names) {
      const service = await open()
      service.on('delivery.delivered', () => sent.set(name, (sent.get(name) ?? 0) + 1))
      services.push(service)
    }
    await services[0]?.registerEndpoint({ ...hook(), concurrency: 8 })
    // Everybody has a part of it from the first event on.
    await services[0]?.dispatchEvent(event())
    await expect.poll(() => inbox.received.length).toBe(1)
    await services[0]?.dispatchEvents(Array.from({ length: 400 }, event))
    await expect.poll(() => inbox.received.length, { timeout: 30_000 }).toBe(401)
    for (const name of names) expect(sent.get(name)).toBeGreaterThan(40)
  })

  test('a process without the key that another encrypts with says so in its health', async () => {
    const [k1, k2] = [createEncryptionKey('k1'), createEncryptionKey('k2')]
    const old = await open(undefined, { encryptionKeys: [k1] })
    await old.registerEndpoint(hook())
    const other = await open(undefined, { encryptionKeys: [k1, k2] })
    await open(undefined, { encryptionKeys: [k2, k1] })
    const code = 'ENCRYPTION_KEY_MISSING'
    await expect.poll(() => old.health()).toMatchObject({ status: 'degraded', trouble: { code } })
    await expect(old.dispatchEvent(event())).rejects.toMatchObject({ code })
    expect(await other.health()).toMatchObject({ status: 'ok', trouble: null })
    await other.dispatchEvent(event())
    await expect.poll(() => inbox.received.length).toBe(1)
  })

  test('correctness 6: an endpoint that one registers gets what the other accepts right after', async () => {
    const one = await open()
    const two = await open()
    await one.registerEndpoint(hook())
    const receipt = await two.dispatchEvent(event())
    expect(receipt.deliveryIds).toHaveLength(1)
    await inbox.waitForCount(1)
    expect(inbox.received[0]?.signature).toBe('valid')
    await one.removeEndpoint('hook')
    expect((await two.dispatchEvent(event())).deliveryIds).toEqual([])
  })

  test('both register the same endpoint at the same moment', async () => {
    const [one, two] = await Promise.all([open(), open()])
    await Promise.all([one, two].map((service) => service.registerEndpoint(hook())))
    await two.dispatchEvent(event())
    await inbox.waitForCount(1)
    expect((await two.health()).storage?.description).toMatch(/^PostgreSQL \d+/)
  })

  test('a thousand events through two of them arrive once each', async () => {
    const one = await open()
    const two = await open()
    await one.registerEndpoint(hook('a'))
    await two.registerEndpoint(hook('b'))
    const events = Array.from({ length: 500 }, event)
    const half = events.length / 2
    await Promise.all([
      one.dispatchEvents(events.slice(0, half)),
      two.dispatchEvents(events.slice(half)),
    ])
    await inbox.waitForCount(1_000)
    await Promise.all([one, two].map((service) => service.drain()))
    const seen = inbox.received.map(({ path, events: [body] }) => `${path} ${body?.id}`)
    expect(seen).toHaveLength(1_000)
    expect(new Set(seen).size).toBe(1_000)
  })

  test('what one leaves undone the other sends', async () => {
    const one = await open()
    await one.registerEndpoint(hook())
    await one.pauseEndpoint('hook')
    await one.dispatchEvents(Array.from({ length: 20 }, event))
    const two = await open()
    await one.close()
    await two.resumeEndpoint('hook')
    await inbox.waitForCount(20)
  })

  test('what one has in memory and another erases is not sent', async () => {
    const one = await open()
    const two = await open(undefined, { deliver: false })
    let answer = () => {}
    const answered = new Promise<void>((resolve) => {
      answer = resolve
    })
    inbox.setAnswer(() => ({ status: 503, after: answered }))
    await one.registerEndpoint({ ...hook(), concurrency: 1 })
    const events = Array.from({ length: 30 }, event)
    await one.dispatchEvents(events)
    await inbox.waitForCount(1)
    const ids = events.map(({ id }) => id)
    let erased = 0
    const erase = async () => {
      const result = await two.eraseEvents({ ids })
      erased += result.erased
      return result.inFlight
    }
    await expect.poll(erase, { timeout: 10_000 }).toBe(1)
    expect(erased).toBe(29)
    answer()
    await one.drain()
    expect(await erase()).toBe(0)
    expect(inbox.received).toHaveLength(1)
  })

  test('a pool of the app is used, and left open', async () => {
    const pool = new pg.Pool({ connectionString: schema.url })
    const one = await open(postgres(pool, { schema: schema.name }))
    await one.registerEndpoint(hook())
    await one.dispatchEvent(event())
    await inbox.waitForCount(1)
    await one.close()
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }])
    await pool.end()
  })

  test('correctness 10: one goes on with a repair that the other has begun, each event once', async () => {
    const one = await open()
    await one.registerEndpoint(hook())
    const events = Array.from({ length: 120 }, event)
    await one.dispatchEvents(events)
    await one.drain()
    const two = await open()
    const repair = await one.replay({ endpointId: 'hook', maxPerSecond: 200 })
    const done = new Promise((resolve) => two.on('repair.done', resolve))
    await inbox.waitForCount(events.length + 20)
    await one.close()
    await done
    await two.drain()
    expect(await two.getRepair(repair.id)).toMatchObject({ state: 'done', queued: 120 })
    const again = inbox.received.slice(events.length).map(({ headers }) => headers['webhook-id'])
    expect(again.sort()).toEqual(events.map(({ id }) => id).sort())
  })
})
