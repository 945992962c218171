// Services on one database, where one ends what another has in its hands: by erasing, or by disabling.
import { type Storage, WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { between, gate, secret } from '../journey/stage.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

describe('what another process has in its hands', () => {
  let schema: TestSchema
  let inbox: Inbox
  let services: WebhookService[]
  let pools: pg.Pool[]
  let number = 0

  beforeEach(async () => {
    schema = freshSchema()
    inbox = await createInbox({ secret })
    services = []
    pools = []
  })
  afterEach(async () => {
    for (const service of services) await service.close()
    await inbox.close()
    const storage = postgres(schema.url, { schema: schema.name })
    const store = await storage.open({ nowMs: Date.now, log: () => {}, onFatal: () => {} })
    expect((await store.audit()).problems).toEqual([])
    await store.close()
    for (const pool of pools) await pool.end()
    await schema.drop()
  })

  async function open(storage: Storage, config: object = {}): Promise<WebhookService> {
    const service = new WebhookService({
      storage,
      secretKey: secret,
      allowedNetworks: ['127.0.0.0/8'],
      logger: false,
      retryScheduleMs: [1, 1],
      ...config,
    })
    services.push(service)
    await service.ready()
    return service
  }

  const listening = () => postgres(schema.url, { schema: schema.name })

  /** NOTIFY does not reach it, as behind a pooler: it learns of others by asking, every second. */
  function deaf(): Storage {
    const pool = new pg.Pool({ connectionString: schema.url })
    pools.push(pool)
    const poolOfTheApp = {
      query: (config: pg.QueryConfig) => pool.query(config),
      connect: () => pool.connect(),
      end: () => pool.end(),
      on: (event: 'error', listener: (error: Error) => void) => pool.on(event, listener),
    }
    return postgres(poolOfTheApp, { schema: schema.name })
  }

  const hook = () => ({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'], concurrency: 1 })
  const event = () => {
    number += 1
    const timestamp = new Date()
    return { id: `evt_${number}`, type: 'message.sent', timestamp, data: { number }, metadata: {} }
  }

  async function ends(service: WebhookService): Promise<Record<string, number>> {
    const found: Record<string, number> = {}
    for (const { state, reason } of (await service.listDeliveries({ limit: 1_000 })).deliveries) {
      const end = `${state} ${reason}`
      found[end] = (found[end] ?? 0) + 1
    }
    return found
  }

  /** It has one request under way and the others in its lane. */
  async function busy(storage: Storage): Promise<{ one: WebhookService; ids: string[] }> {
    const one = await open(storage)
    await one.registerEndpoint(hook())
    const events = Array.from({ length: 30 }, event)
    await one.dispatchEvents(events)
    await inbox.waitForCount(1)
    return { one, ids: events.map(({ id }) => id) }
  }

  test.each([true, false])(
    'is not sent once it was disabled and enabled again (NOTIFY: %s)',
    async (listens) => {
      const hold = gate()
      inbox.setAnswer(() => ({ status: 503, after: hold.opened }))
      const { one } = await busy(listens ? listening() : deaf())
      const two = await open(listening(), { deliver: false })
      await two.disableEndpoint('hook')
      await two.enableEndpoint('hook')
      hold.open()
      await one.drain()
      // The one that was under way is not tried again either: nothing of before waits.
      expect(inbox.received).toHaveLength(1)
      expect(await ends(two)).toEqual({ 'cancelled endpoint_disabled': 30 })
      inbox.setAnswer(() => undefined)
      await two.dispatchEvent(event())
      await inbox.waitForCount(2)
    },
  )

  test('is not begun once it is erased, whether or not NOTIFY is heard', async () => {
    const hold = gate()
    inbox.setAnswer(() => ({ status: 503, after: hold.opened }))
    const { one, ids } = await busy(deaf())
    const two = await open(listening(), { deliver: false })
    await two.eraseEvents({ ids })
    hold.open()
    await one.drain()
    expect(inbox.received).toHaveLength(1)
    expect(await two.eraseEvents({ ids })).toMatchObject({ inFlight: 0 })
  })

  test.each(['another', 'the same'])(
    'is not begun where its claim is answered after %s process has erased it',
    async (who) => {
      const hold = gate()
      const claimed = gate()
      const storage = between(listening(), async (verb, ask) => {
        const answer = await ask()
        if (verb === 'claim' && (answer as { claims: unknown[] }).claims.length > 0) {
          claimed.open()
          await hold.opened
        }
        return answer
      })
      const one = await open(storage)
      const two = await open(listening(), { deliver: false })
      await one.registerEndpoint({ ...hook(), status: 'paused' })
      const events = Array.from({ length: 5 }, event)
      await one.dispatchEvents(events)
      await one.resumeEndpoint('hook')
      await claimed.opened
      const eraser = who === 'another' ? two : one
      const ids = events.map(({ id }) => id)
      expect(await eraser.eraseEvents({ ids })).toEqual({ erased: 0, inFlight: 5 })
      hold.open()
      await one.drain()
      expect(inbox.received).toHaveLength(0)
      expect(await eraser.eraseEvents({ ids })).toEqual({ erased: 5, inFlight: 0 })
    },
  )
})
