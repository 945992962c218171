import { type Storage, sqlite, WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { fileJourney, gate, journey } from './stage.ts'

describe('close()', () => {
  journey('gives requests under way their time, and counts them', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvents(Array.from({ length: 5 }, () => stage.event()))
    await stage.inbox.waitForCount(5)
    const closed = service.close()
    const leftMs = () => (stage.clock.nextTimerAtMs ?? Infinity) - stage.clock.nowMs()
    let isOver = false
    void closed.then(() => {
      isOver = true
    })
    while (leftMs() > 5_000 && !isOver) await new Promise(setImmediate)
    const graceMs = leftMs()
    stage.clock.advance(4_999)
    hold.open()
    await closed
    expect(graceMs).toBe(5_000)
    const second = await stage.open()
    await second.drain()
    expect(stage.at('shop')).toHaveLength(5)
    expect(await second.getStats()).toMatchObject({ successfulDeliveries: 5, attempts: 5 })
  })

  journey(
    'gives back what does not end in time: not counted, sent again as attempt 1',
    async (stage) => {
      let answering = false
      const looked = gate()
      stage.inbox.setAnswer(() => ({ after: answering ? looked.opened : new Promise(() => {}) }))
      const service = await stage.open({ shutdownTimeoutMs: 2_000 })
      await service.registerEndpoint(stage.endpoint('shop', { concurrency: 3 }))
      const facts: string[] = []
      service.on('attempt.settled', (fact) => facts.push(fact.deliveryId))
      await service.dispatchEvents(Array.from({ length: 10 }, () => stage.event()))
      await stage.inbox.waitForCount(3)
      const closed = service.close()
      await stage.passed(2_000)
      await closed
      expect(facts).toEqual([])
      answering = true
      const second = await stage.open()
      expect((await second.listDeliveries()).deliveries.map((one) => one.attemptCount)).toEqual(
        Array(10).fill(0),
      )
      looked.open()
      await second.drain()
      expect(stage.at('shop')).toHaveLength(13)
      expect(stage.at('shop').map((one) => one.headers['x-webhook-attempt'])).toEqual(
        Array(13).fill('1'),
      )
      expect(await second.getStats()).toMatchObject({ successfulDeliveries: 10, attempts: 10 })
    },
  )

  journey('while deliveries are read from the store gives them back', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.dispatchEvents(Array.from({ length: 200 }, () => stage.event()))
    const resumed = service.resumeEndpoint('shop')
    // The claim goes out as soon as the change is written; close() comes right behind it.
    void resumed.then(() => service.close())
    await resumed
    await service.close()
    const second = await stage.open()
    await second.drain()
    const received = new Set(stage.inbox.events.map((event) => event.id))
    expect(received.size).toBe(200)
  })

  journey('stores what was dispatched before it', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const receipts = service.dispatchEvents(Array.from({ length: 300 }, () => stage.event()))
    // Accepting begins a turn later.
    await Promise.resolve()
    await Promise.resolve()
    const closed = service.close()
    const stored = await receipts.catch((error: { code: string }) => error.code)
    await closed
    const second = await stage.open()
    const { deliveries } = await second.listDeliveries({ limit: 1_000 })
    expect(deliveries).toHaveLength(stored === 'SERVICE_CLOSED' ? 0 : 300)
    await second.drain()
  })

  journey('twice is once, and everything after it says so', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await Promise.all([service.close(), service.close()])
    const calls: Promise<unknown>[] = [
      service.dispatchEvent(stage.event()),
      service.dispatchEvents([stage.event()]),
      service.registerEndpoint(stage.endpoint('other')),
      service.testEndpoint('shop'),
      service.getStats(),
      service.drain(),
      service.audit(),
    ]
    const results = await Promise.allSettled(calls)
    expect(results.map((one) => one.status === 'rejected' && one.reason.code)).toEqual(
      Array(calls.length).fill('SERVICE_CLOSED'),
    )
    expect((await service.health()).status).toBe('closed')
  })

  journey('works before the store is open', async (stage) => {
    const service = new WebhookService({ storage: stage.dataFile, logger: false })
    await service.close()
    const second = await stage.open()
    await second.ready()
  })

  fileJourney('writes what it has noted of an endpoint that fails', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ status: 500, after: hold.opened }))
    const order: string[] = []
    const inner = sqlite({ path: stage.dataFile })
    const storage: Storage = {
      kind: inner.kind,
      async open(host) {
        const store = await inner.open(host)
        const saveHealth = store.saveHealth.bind(store)
        store.saveHealth = async (...args) => {
          for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate)
          const saved = await saveHealth(...args)
          order.push('saved')
          return saved
        }
        const close = store.close.bind(store)
        store.close = async () => {
          order.push('closed')
          await close()
        }
        return store
      },
    }
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event())
    await stage.inbox.waitForCount(1)
    const closed = service.close()
    hold.open()
    await closed
    expect(order).toEqual(['saved', 'closed'])
  })

  journey('leaves no timer behind', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvents(Array.from({ length: 3 }, () => stage.event()))
    await service.runDue()
    await service.close()
    expect(stage.clock.nextTimerAtMs).toBeNull()
  })

  journey('`await using` closes', async (stage) => {
    let status = ''
    {
      await using service = await stage.open()
      await service.dispatchEvent(stage.event())
      service.on('event.accepted', () => {})
      status = (await service.health()).status
    }
    expect(status).toBe('ok')
    // The file is free again.
    await stage.open()
  })
})

describe('drain()', () => {
  journey('waits for retries to end', async (stage) => {
    let requests = 0
    stage.inbox.setAnswer(() => {
      requests += 1
      return { status: requests < 3 ? 500 : 200 }
    })
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    let drained = false
    const draining = service.drain().then(() => {
      drained = true
    })
    await service.runDue()
    expect(drained).toBe(false)
    await stage.passTime(service)
    await draining
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({ state: 'delivered' })
  })

  journey('gives up after its time, and the deliveries go on', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length < 2 ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [60_000] })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event())
    await service.runDue()
    const draining = service.drain({ timeoutMs: 1_000 })
    await stage.passed(1_000)
    await expect(draining).rejects.toMatchObject({ code: 'DRAIN_TIMEOUT' })
    stage.clock.advance(59_000)
    await service.drain({ timeoutMs: 1_000 })
    expect(stage.at('shop')).toHaveLength(2)
  })
})

describe('one file', () => {
  fileJourney('has one service at a time; the second is refused at once', async (stage) => {
    const first = await stage.open()
    const second = new WebhookService({ storage: stage.dataFile, logger: false })
    await expect(second.ready()).rejects.toMatchObject({ code: 'STORAGE_LOCKED' })
    await expect(second.dispatchEvent(stage.event())).rejects.toMatchObject({
      code: 'STORAGE_LOCKED',
    })
    const code = 'STORAGE_LOCKED'
    expect(await second.health()).toMatchObject({ status: 'degraded', trouble: { code } })
    await second.close()
    expect(await second.health()).toMatchObject({ status: 'closed' })
    // The refused one has not disturbed the first.
    await first.registerEndpoint(stage.endpoint('shop'))
    await first.dispatchEvent(stage.event())
    await first.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })
})

describe('listeners', () => {
  journey('that throw hurt no delivery', async (stage) => {
    const errors: string[] = []
    const logger = {
      debug() {},
      info() {},
      warn() {},
      error: (_fields: unknown, message: string) => errors.push(message),
    }
    const service = await stage.open({ logger })
    for (const name of [
      'event.accepted',
      'attempt.settled',
      'delivery.delivered',
      'endpoint.changed',
    ] as const) {
      service.on(name, () => {
        throw new Error('a bad listener')
      })
      // Types say that a listener returns nothing; an async one does all the same.
      service.on(name, (async () => Promise.reject(new Error('an async one'))) as () => void)
    }
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvents(Array.from({ length: 3 }, () => stage.event()))
    await service.drain()
    expect(stage.at('shop')).toHaveLength(3)
    expect(await service.getStats()).toMatchObject({ successfulDeliveries: 3 })
    expect(errors.length).toBe(2 * (1 + 3 * 3))
  })

  journey('stop hearing when told to', async (stage) => {
    const service = await stage.open()
    const heard: string[] = []
    const stop = service.on('event.accepted', (fact) => heard.push(fact.eventId))
    await service.dispatchEvent(stage.event({ id: 'one' }))
    stop()
    await service.dispatchEvent(stage.event({ id: 'two' }))
    expect(heard).toEqual(['one'])
  })
})
