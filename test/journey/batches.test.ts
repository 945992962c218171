import type { WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { gate, journey, type Stage } from './stage.ts'

const batch = { size: 3, timeoutMs: 5_000 }

async function dispatch(stage: Stage, service: WebhookService, count: number): Promise<void> {
  await service.dispatchEvents(Array.from({ length: count }, () => stage.event()))
}

function sizes(stage: Stage, id: string): number[] {
  return stage.at(id).map((request) => request.events.length)
}

describe('batches', () => {
  journey('go out when full, the rest when its first event has waited enough', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 7)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([3, 3])
    stage.clock.advance(4_999)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([3, 3])
    stage.clock.advance(1)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([3, 3, 1])
    expect(stage.inbox.events.map((event) => event.id).sort()).toEqual(
      Array.from({ length: 7 }, (_, i) => `evt_${i + 1}`),
    )
  })

  journey('one event never waits longer than the time of its batch', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    const startMs = stage.clock.nowMs()
    await dispatch(stage, service, 1)
    stage.clock.advance(3_000)
    await dispatch(stage, service, 1)
    await service.runDue()
    expect((await service.nextDueAt())?.getTime()).toBe(startMs + 5_000)
    stage.clock.advance(2_000)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([2])
  })

  journey('others get each event at once', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('batched', { batch }))
    await service.registerEndpoint(stage.endpoint('single'))
    await dispatch(stage, service, 2)
    await service.runDue()
    expect(sizes(stage, 'single')).toEqual([1, 1])
    expect(sizes(stage, 'batched')).toEqual([])
  })

  journey('`batch: true` takes the size and time of the service', async (stage) => {
    const service = await stage.open({ batchSize: 2, batchTimeoutMs: 700 })
    await service.registerEndpoint(stage.endpoint('shop', { batch: true }))
    const startMs = stage.clock.nowMs()
    await dispatch(stage, service, 3)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([2])
    expect((await service.nextDueAt())?.getTime()).toBe(startMs + 700)
    stage.clock.advance(700)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([2, 1])
  })

  journey(
    'are one request in the statistics, with deliveries of their own types',
    async (stage) => {
      let status = 503
      stage.inbox.setAnswer(() => ({ status }))
      const service = await stage.open({ retryScheduleMs: [1_000] })
      await service.registerEndpoint(stage.endpoint('shop', { batch }))
      for (const type of ['message.read', 'message.sent', 'message.read']) {
        await service.dispatchEvent(stage.event({ type }))
      }
      await service.runDue()
      status = 200
      stage.clock.advance(1_000)
      await service.runDue()
      expect(sizes(stage, 'shop')).toEqual([3, 3])
      const figures = {
        totalDeliveries: 3,
        successRate: 100,
        attempts: 2,
        byOutcome: { faulted: 1, accepted: 1 },
      }
      const stats = await service.getStats()
      expect(stats).toMatchObject(figures)
      const ofShop = await service.getEndpointStats('shop')
      expect(ofShop).toMatchObject({ ...figures, hours: [{ totalDeliveries: 3 }] })
      for (const { byEventType, averageLatency } of [stats, ofShop]) {
        expect(byEventType).toEqual({
          'message.read': expect.objectContaining({ totalDeliveries: 2, averageLatency }),
          'message.sent': expect.objectContaining({ totalDeliveries: 1, averageLatency }),
        })
      }
    },
  )

  journey('are a JSON array under one id and one signature', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await service.registerEndpoint(stage.endpoint('single'))
    await dispatch(stage, service, 3)
    await service.runDue()
    const [request] = stage.at('shop')
    expect(request?.signature).toBe('valid')
    expect(request?.headers).toMatchObject({
      'x-webhook-event': 'batch',
      'webhook-id': expect.stringMatching(/^bat_/),
      'x-webhook-id': request?.headers['webhook-id'],
    })
    // Each event is in it byte for byte as others get it.
    const singles = stage.at('single').map((one) => one.body)
    expect(request?.body.startsWith('[') && request.body.endsWith(']')).toBe(true)
    expect(singles.every((body) => request?.body.includes(body))).toBe(true)
    const { deliveries } = await service.listDeliveries({ endpointId: 'shop' })
    expect(new Set(deliveries.map((one) => one.batchId))).toEqual(
      new Set([request?.headers['webhook-id']]),
    )
  })

  journey('are retried unchanged, as one, while new events form new ones', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: sizes(stage, 'shop').length <= 2 ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [60_000, 60_000, 60_000] })
    await service.registerEndpoint(stage.endpoint('shop', { batch, concurrency: 1 }))
    await dispatch(stage, service, 3)
    await service.runDue()
    stage.clock.advance(60_000)
    await service.runDue()
    await dispatch(stage, service, 2)
    stage.clock.advance(60_000)
    await service.runDue()
    const [first, second, third] = stage.at('shop').filter((one) => one.events.length === 3)
    expect(second?.body).toBe(first?.body)
    expect(third?.body).toBe(first?.body)
    expect(third?.headers['webhook-id']).toBe(first?.headers['webhook-id'])
    expect([first, second, third].map((one) => one?.headers['x-webhook-attempt'])).toEqual([
      '1',
      '2',
      '3',
    ])
    expect(sizes(stage, 'shop').sort()).toEqual([2, 3, 3, 3])
    const delivery = await stage.delivery(service, 'evt_2', 'shop')
    expect(delivery).toMatchObject({ state: 'delivered', attemptCount: 3 })
    expect(delivery.attempts.map((one) => one.outcome)).toEqual(['faulted', 'faulted', 'accepted'])
    expect(await service.getStats()).toMatchObject({ totalDeliveries: 5, successRate: 100 })
  })

  journey('fail as one, with the reason on every member', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 422 }))
    const service = await stage.open()
    const failed: string[] = []
    service.on('delivery.failed', (fact) => failed.push(`${fact.eventId} ${fact.reason}`))
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 3)
    await service.drain()
    expect(failed.sort()).toEqual([1, 2, 3].map((i) => `evt_${i} status_422`))
    const deliveries = await service.getFailedDeliveries('shop')
    expect(deliveries.map((one) => one.attempts[0].error)).toEqual(Array(3).fill('HTTP 422'))
    expect(await service.getStats()).toMatchObject({ failedDeliveries: 3, attempts: 1 })
  })

  journey('correctness 12: keep id and bytes over a restart', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length === 1 ? 503 : 200 }))
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, first, 3)
    await first.runDue()
    await first.close()
    const second = await stage.open()
    stage.clock.advance(1_000)
    await second.drain()
    const [one, two] = stage.at('shop')
    expect(two?.headers['webhook-id']).toBe(one?.headers['webhook-id'])
    expect(two?.body).toBe(one?.body)
  })

  journey('correctness 12: not sealed yet, wait their time over a restart', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop', { batch }))
    const startMs = stage.clock.nowMs()
    await dispatch(stage, first, 2)
    await first.close()
    const second = await stage.open()
    await second.runDue()
    expect(sizes(stage, 'shop')).toEqual([])
    expect((await second.nextDueAt())?.getTime()).toBe(startMs + 5_000)
    await stage.passTime(second)
    expect(sizes(stage, 'shop')).toEqual([2])
  })

  journey('stay within 256 KiB', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch: { size: 10, timeoutMs: 0 } }))
    const data = 'x'.repeat(100_000)
    await service.dispatchEvents(Array.from({ length: 5 }, () => stage.event({ data })))
    await service.drain()
    expect(sizes(stage, 'shop').sort()).toEqual([1, 2, 2])
    expect(stage.at('shop').every((one) => one.body.length <= 262_144)).toBe(true)
  })

  journey('a full one is noticed at once also after a retry', async (stage) => {
    let fail = true
    stage.inbox.setAnswer(() => ({ status: fail ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [1_000] })
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 3)
    await service.runDue()
    fail = false
    await dispatch(stage, service, 2)
    stage.clock.advance(1_000)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([3, 3])
    // The two that wait, and this one, are a batch: nobody needs to wait for the time to pass.
    await dispatch(stage, service, 1)
    await service.runDue()
    expect(sizes(stage, 'shop')).toEqual([3, 3, 3])
  })

  journey('correctness 12: a replayed member goes alone, under its own id', async (stage) => {
    stage.inbox.setAnswer(({ events }) => ({ status: events.length > 1 ? 400 : 200 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 3)
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_2', 'shop')
    await service.retryDelivery(id)
    await service.drain()
    const last = stage.at('shop').at(-1)
    expect(last?.headers['webhook-id']).toBe('evt_2')
    expect(last?.headers['x-webhook-event']).toBe('message.sent')
    expect(last?.events.map((event) => event.id)).toEqual(['evt_2'])
    expect(JSON.parse(last?.body ?? '')).not.toBeInstanceOf(Array)
  })

  journey('end with their endpoint, formed or not', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ retryScheduleMs: [60_000] })
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 4)
    await service.runDue()
    await service.removeEndpoint('shop')
    await service.drain()
    const { deliveries } = await service.listDeliveries()
    expect(deliveries.map((one) => one.reason)).toEqual(Array(4).fill('endpoint_removed'))
  })

  journey('claimed while the endpoint is disabled, they end as well', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ status: 410, after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch, concurrency: 1 }))
    await dispatch(stage, service, 60)
    await stage.inbox.waitForCount(1)
    hold.open()
    await service.drain()
    expect(sizes(stage, 'shop')).toEqual([3])
    expect((await service.health()).backlog).toMatchObject({ waiting: 0, delivering: 0 })
  })

  journey('switched off, what waited goes out one by one', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    await dispatch(stage, service, 2)
    await service.updateEndpoint('shop', { batch: false })
    await stage.passTime(service)
    expect(sizes(stage, 'shop')).toEqual([1, 1])
  })
})
