// What one process changes about an endpoint, and when the others keep to it.
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

describe('services on one database', () => {
  let schema: TestSchema
  let inbox: Inbox
  let services: WebhookService[]
  let pools: pg.Pool[]
  let number = 0

  beforeEach(async () => {
    schema = freshSchema()
    inbox = await createInbox({ secret: secretKey })
    services = []
    pools = []
  })
  afterEach(async () => {
    for (const service of services) await service.close()
    for (const pool of pools) await pool.end()
    await inbox.close()
    await schema.drop()
  })

  /** @param listens false: NOTIFY does not reach it, as behind a pooler */
  async function open(listens: boolean, more: object = {}): Promise<WebhookService> {
    const pool = new pg.Pool({ connectionString: schema.url })
    pools.push(pool)
    const deaf = {
      query: (config: pg.QueryConfig) => pool.query(config),
      connect: () => pool.connect(),
      end: () => pool.end(),
      on: (event: 'error', listener: (error: Error) => void) => pool.on(event, listener),
    }
    const service = new WebhookService({
      storage: postgres(listens ? pool : deaf, { schema: schema.name }),
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

  const hook = (id = 'hook') => ({ id, url: `${inbox.url}/${id}`, events: ['*'] })
  const event = () => {
    number += 1
    const timestamp = new Date()
    return { id: `evt_${number}`, type: 'message.sent', timestamp, data: { number }, metadata: {} }
  }

  async function until(reached: () => Promise<boolean>): Promise<number> {
    const fromMs = performance.now()
    while (!(await reached())) await new Promise(setImmediate)
    return performance.now() - fromMs
  }

  test.each([true, false])(
    'correctness 6: a pause stops the others within a second (NOTIFY: %s)',
    async (listens) => {
      const one = await open(listens)
      const two = await open(listens)
      await one.registerEndpoint({ ...hook(), rateLimit: { limit: 40, perMs: 1_000 } })
      await two.dispatchEvents(Array.from({ length: 200 }, event))
      await inbox.waitForCount(5)
      await one.pauseEndpoint('hook')
      const tookMs = await until(async () => (await two.getEndpoint('hook'))?.status === 'paused')
      console.log(`paused elsewhere after ${Math.round(tookMs)} ms (NOTIFY: ${listens})`)
      expect(tookMs).toBeLessThan(1_200)
      await Promise.all([one, two].map((service) => service.drain()))
      const { length } = inbox.received
      expect(length).toBeLessThan(200)
      await two.dispatchEvent(event())
      await Promise.all([one, two].map((service) => service.drain()))
      expect(inbox.received).toHaveLength(length)
    },
  )

  test.each([true, false])(
    'correctness 14: what asks for time is left alone by all (NOTIFY: %s)',
    async (listens) => {
      const one = await open(listens)
      const two = await open(listens)
      await one.registerEndpoint(hook())
      inbox.setAnswer(() => ({ status: 429, headers: { 'retry-after': '60' } }))
      await one.dispatchEvent(event())
      await inbox.waitForCount(1)
      const tookMs = await until(
        async () => ((await two.getEndpoint('hook'))?.heldUntil ?? null) !== null,
      )
      expect(tookMs).toBeLessThan(1_500)
      const receipt = await two.dispatchEvent(event())
      const waiting = await two.getDelivery(receipt.deliveryIds[0] ?? '')
      expect(waiting).toMatchObject({ state: 'waiting', attemptCount: 0 })
      expect(inbox.received).toHaveLength(1)
    },
  )

  test.each([true, false])(
    'what one process lifts is sent by another, to the new address alone (NOTIFY: %s)',
    async (listens) => {
      const front = await open(listens, { deliver: false })
      const back = await open(listens)
      await front.registerEndpoint(hook())
      const isHeld = async () => ((await back.getEndpoint('hook'))?.heldUntil ?? null) !== null
      const wantTime = () => ({ status: 429, headers: { 'retry-after': '3600' } })
      inbox.setAnswer(wantTime)
      await front.dispatchEvent(event())
      await until(isHeld)
      await front.dispatchEvents(Array.from({ length: 20 }, event))
      inbox.setAnswer(({ path }) => (path === '/hook' ? wantTime() : undefined))
      await front.updateEndpoint('hook', { url: `${inbox.url}/new` })
      expect(await until(async () => !(await isHeld()))).toBeLessThan(1_500)
      await inbox.waitForCount(21)
      expect(inbox.received.filter(({ path }) => path === '/hook')).toHaveLength(1)
      inbox.setAnswer(wantTime)
      await front.dispatchEvent(event())
      await until(isHeld)
      await front.dispatchEvent(event())
      inbox.setAnswer(() => undefined)
      // Active all the time: it is about the hold alone.
      await front.resumeEndpoint('hook')
      await inbox.waitForCount(23)
      expect(await isHeld()).toBe(false)
    },
  )

  test('one that only accepts leaves sending to the others, which begin at once', async () => {
    const front = await open(true, { deliver: false })
    await front.registerEndpoint(hook())
    const first = await front.dispatchEvent(event())
    expect(await front.getDelivery(first.deliveryIds[0] ?? '')).toMatchObject({ state: 'waiting' })
    expect(inbox.received).toHaveLength(0)
    const back = await open(true)
    await inbox.waitForCount(1)
    // Alone among those that deliver: all of the endpoint's concurrency is its own.
    await front.dispatchEvents(Array.from({ length: 50 }, event))
    await inbox.waitForCount(51)
    await back.drain()
    expect(await front.getDelivery(first.deliveryIds[0] ?? '')).toMatchObject({
      state: 'delivered',
    })
    expect((await front.health()).requestsUnderWay).toBe(0)
  })

  test('an event of a transaction that cannot be taken in holds up no other', async () => {
    const one = await open(false)
    await one.registerEndpoint(hook())
    const refused: string[] = []
    one.on('event.refused', ({ eventId }) => refused.push(eventId))
    const client = new pg.Client({ connectionString: schema.url })
    await client.connect()
    await client.query('begin')
    for (let i = 0; i < 30; i += 1) await one.dispatchEvent(event(), { transaction: client })
    await client.query(
      `update ${schema.name}.intake set body = 'no JSON' where event_id in ($1, $2)`,
      [`evt_${number - 29}`, `evt_${number - 10}`],
    )
    await client.query('commit')
    await client.end()
    await inbox.waitForCount(28)
    await one.drain()
    expect(refused.sort()).toEqual([`evt_${number - 10}`, `evt_${number - 29}`].sort())
    const left = await onServer(schema.url, (other) =>
      other.query(`select count(*)::int as n from ${schema.name}.intake`),
    )
    expect(left.rows).toEqual([{ n: 2 }])
    // And none that comes later.
    await client.end().catch(() => {})
    const another = new pg.Client({ connectionString: schema.url })
    await another.connect()
    await another.query('begin')
    await one.dispatchEvent(event(), { transaction: another })
    await another.query('commit')
    await another.end()
    await inbox.waitForCount(29)
  })
})
