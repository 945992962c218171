import { describe, expect } from 'vitest'
import { between, journey } from './stage.ts'

const dayMs = 86_400_000

describe('retention', () => {
  journey('takes bodies of delivered events after 7 days, all of it after 30', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')

    stage.clock.advance(7 * dayMs - 1_200_000)
    await stage.pruned(service)
    expect((await service.getEvent('evt_1'))?.body).not.toBeNull()
    stage.clock.advance(1_200_000)
    await stage.pruned(service)
    expect(await service.getEvent('evt_1')).toMatchObject({ id: 'evt_1', body: null })
    expect(await service.getDelivery(id)).toMatchObject({ state: 'delivered' })
    await expect(service.retryDelivery(id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_RETRIABLE',
    })

    stage.clock.advance(23 * dayMs + 1_200_000)
    await stage.pruned(service)
    expect(await service.getDelivery(id)).toBeNull()
    expect((await service.listDeliveries()).deliveries).toEqual([])
    // What was counted stays counted.
    expect(await service.getStats()).toMatchObject({ totalDeliveries: 1, successRate: 100 })
  })

  journey(
    'keeps the bodies of failed deliveries for their 30 days, to be sent again',
    async (stage) => {
      let status = 400
      stage.inbox.setAnswer(() => ({ status }))
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.dispatchEvent(stage.event({ id: 'evt_1' }))
      await service.drain()
      stage.clock.advance(29 * dayMs)
      await stage.pruned(service)
      const [failed] = await service.getFailedDeliveries('shop')
      status = 200
      await service.retryDelivery(failed?.id ?? '')
      await service.drain()
      expect(stage.at('shop').map((one) => one.signature)).toEqual(['valid', 'valid'])
    },
  )

  journey('correctness 11: never takes what is still to be sent, however old', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.registerEndpoint(stage.endpoint('other'))
    await service.dispatchEvents(Array.from({ length: 20 }, () => stage.event()))
    await service.runDue()
    for (let month = 0; month < 3; month += 1) {
      stage.clock.advance(30 * dayMs)
      await stage.pruned(service)
    }
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(new Set(stage.at('shop').map((one) => one.headers['webhook-id'])).size).toBe(20)
    expect(stage.at('shop').every((one) => one.signature === 'valid')).toBe(true)
  })

  journey('correctness 9: an event that waits or is kept is found by its id', async (stage) => {
    stage.inbox.setAnswer(({ path }) => ({ status: path === '/down' ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [20 * dayMs] })
    const sent = ['message.sent']
    await service.registerEndpoint(stage.endpoint('paused', { status: 'paused', events: sent }))
    await service.registerEndpoint(stage.endpoint('down', { events: ['message.failed'] }))
    const [waits, failed, gone] = [
      stage.event({ id: 'waits', data: { phone: '010-1234-5678' } }),
      stage.event({ id: 'failed', type: 'message.failed', metadata: { from: 'a' } }),
      stage.event({ id: 'gone', tenantId: 'nobody' }),
    ] as const
    await service.dispatchEvents([waits, failed, gone])
    await service.runDue()
    stage.clock.advance(20 * dayMs)
    await service.runDue()
    stage.clock.advance(11 * dayMs)
    await stage.pruned(service)

    expect(await service.getEvent('gone', { tenantId: 'nobody' })).toBeNull()
    expect((await service.getEvent('waits'))?.body).not.toBeNull()
    expect((await service.getFailedDeliveries('down')).map((one) => one.eventId)).toEqual([
      'failed',
    ])
    expect((await service.getEvent('failed'))?.deliveries).toMatchObject([{ state: 'exhausted' }])
    expect((await service.explainEvent('waits'))?.endpoints).toContainEqual(
      expect.objectContaining({ endpointId: 'paused', outcome: 'waiting' }),
    )
    expect(await service.dispatchEvent(waits)).toMatchObject({ duplicate: true })
    await expect(service.dispatchEvent({ ...waits, data: {} })).rejects.toMatchObject({
      code: 'EVENT_ID_CONFLICT',
    })
    expect(await service.eraseEvents({ ids: ['waits', 'failed'] })).toMatchObject({ erased: 2 })
    await service.resumeEndpoint('paused')
    await service.drain()
    expect(stage.at('paused')).toEqual([])

    stage.clock.advance(31 * dayMs)
    await stage.pruned(service)
    expect(await service.getEvent('waits')).toBeNull()
    expect(await service.dispatchEvent({ ...waits, data: {} })).toMatchObject({ duplicate: false })
  })

  journey('remembers ids for 30 days unless told otherwise, in small steps', async (stage) => {
    const limits = new Set<unknown>()
    const storage = between(stage.storage(), (verb, ask, args) => {
      if (verb === 'prune') limits.add(args[1])
      return ask()
    })
    // Nothing else of it is kept: what is known of it is its id.
    const retention = { settledMs: 0, deliveredBodiesMs: 0 }
    const service = await stage.open({ storage, retention })
    const event = stage.event()
    await service.dispatchEvent(event)
    stage.clock.advance(30 * dayMs - 1_200_000)
    await stage.pruned(service)
    expect(await service.dispatchEvent(event)).toMatchObject({ duplicate: true })
    stage.clock.advance(1_200_000)
    await stage.pruned(service)
    expect(await service.dispatchEvent(event)).toMatchObject({ duplicate: false })
    // Commits wait for a step.
    expect([...limits]).toEqual([500])
  })

  journey('has options for all of it', async (stage) => {
    const service = await stage.open({
      retention: { settledMs: 60_000, deliveredBodiesMs: 0, eventIdsMs: 60_000 },
    })
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event({ id: 'evt_1' })
    await service.dispatchEvent(event)
    await service.drain()
    stage.clock.advance(60_001)
    await stage.pruned(service)
    expect(await service.getEvent('evt_1')).toBeNull()
    expect(await service.dispatchEvent(event)).toMatchObject({ duplicate: false })
    await service.drain()
    expect(stage.at('shop')).toHaveLength(2)
  })
})
