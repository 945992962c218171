import type { WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { between, fileJourney, gate, journey, type Stage } from './stage.ts'

async function stateOf(stage: Stage, service: WebhookService, eventId: string) {
  const { state, reason, attemptCount } = await stage.delivery(service, eventId, 'shop')
  return [state, reason, attemptCount]
}

describe('cancelDelivery', () => {
  journey('ends what waits for its next attempt', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 503 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    const told: unknown[] = []
    service.on('delivery.cancelled', (fact) => told.push(fact))
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    expect(await service.cancelDelivery(id)).toMatchObject({
      state: 'cancelled',
      reason: 'by_request',
      attemptCount: 1,
    })
    expect(told).toEqual([{ deliveryId: id, endpointId: 'shop', reason: 'by_request' }])
    // Nobody waits for it any more.
    await service.drain()
    expect(stage.at('shop')).toHaveLength(1)
    await expect(service.cancelDelivery(id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_CANCELLABLE',
    })
    await expect(service.cancelDelivery('dlv_nothing')).rejects.toMatchObject({
      code: 'DELIVERY_NOT_FOUND',
    })
  })

  journey('lets a request under way end, and sends no further attempt', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ headers }) => ({
      status: headers['webhook-id'] === 'evt_1' ? 503 : 200,
      after: hold.opened,
    }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvents([stage.event({ id: 'evt_1' }), stage.event({ id: 'evt_2' })])
    await stage.inbox.waitForCount(2)
    for (const eventId of ['evt_1', 'evt_2']) {
      const { id } = await stage.delivery(service, eventId, 'shop')
      expect(await service.cancelDelivery(id)).toMatchObject({ state: 'delivering' })
    }
    hold.open()
    await service.drain()
    expect(await stateOf(stage, service, 'evt_1')).toEqual(['cancelled', 'by_request', 1])
    expect(await stateOf(stage, service, 'evt_2')).toEqual(['delivered', 'accepted', 1])
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey('never sends what memory holds and has not begun', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.dispatchEvents(['a', 'b', 'c'].map((id) => stage.event({ id })))
    await stage.inbox.waitForCount(1)
    const { id } = await stage.delivery(service, 'b', 'shop')
    expect(await service.cancelDelivery(id)).toMatchObject({ state: 'cancelled', attemptCount: 0 })
    hold.open()
    await service.drain()
    expect(stage.inbox.events.map((event) => event.id)).toEqual(['a', 'c'])
  })

  journey('correctness 12: refuses a member of a sealed batch', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 503 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop', { batch: { size: 2, timeoutMs: 1_000 } }))
    await service.dispatchEvents(['a', 'b', 'c'].map((id) => stage.event({ id })))
    await service.runDue()
    const { id, batchId } = await stage.delivery(service, 'a', 'shop')
    await expect(service.cancelDelivery(id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_CANCELLABLE',
      message: expect.stringContaining(String(batchId)),
    })
    // Deliveries are counted, not the batch that carries two of them.
    expect(await service.cancelPending('shop')).toBe(3)
    await service.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })
})

describe('cancelPending', () => {
  journey('ends all that waits, in memory and in the store, and nothing else', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ path }) => (path === '/shop' ? { after: hold.opened } : {}))
    const service = await stage.open({ memoryCapacity: 100 })
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 2 }))
    await service.registerEndpoint(stage.endpoint('other'))
    await service.dispatchEvents(Array.from({ length: 300 }, () => stage.event()))
    await stage.inbox.waitForCount(302)
    const turn = await service.explainEvent('evt_300')
    expect(turn?.endpoints).toMatchObject([
      { endpointId: 'other' },
      { endpointId: 'shop', outcome: 'waiting', waitingFor: 'concurrency', until: null },
    ])
    expect(await service.cancelPending('shop')).toBe(298)
    hold.open()
    await service.dispatchEvent(stage.event({ id: 'after' }))
    await service.drain()
    const at = stage.at('shop').map((one) => one.headers['webhook-id'])
    expect(at.slice(0, 2).sort()).toEqual(['evt_1', 'evt_2'])
    expect(at.slice(2)).toEqual(['after'])
    expect(stage.at('other')).toHaveLength(301)
  })

  journey('takes types and a time', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.dispatchEvent(stage.event({ id: 'old' }))
    await service.dispatchEvent(stage.event({ id: 'template', type: 'template.created' }))
    stage.clock.advance(1_000)
    const until = new Date(stage.clock.nowMs())
    await service.dispatchEvent(stage.event({ id: 'new' }))
    expect(await service.cancelPending('shop', { types: ['message.*'], until })).toBe(1)
    expect(await stateOf(stage, service, 'old')).toEqual(['cancelled', 'by_request', 0])
    expect(await service.cancelPending('shop', { types: ['*'], until })).toBe(1)
    expect(await stateOf(stage, service, 'template')).toEqual(['cancelled', 'by_request', 0])
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(await stateOf(stage, service, 'new')).toEqual(['delivered', 'accepted', 1])
    await expect(service.cancelPending('shop', { types: [] })).rejects.toMatchObject({
      code: 'OPTION_INVALID',
    })
    await expect(service.cancelPending('nobody')).rejects.toMatchObject({
      code: 'ENDPOINT_NOT_FOUND',
    })
  })
})

describe('a delivery that the store ends as it is accepted', () => {
  // On a server the event would be matched anew first.
  fileJourney('is not sent, though memory did not know of the end yet', async (stage) => {
    const isSaved = gate()
    const hold = gate()
    const storage = between(stage.storage(), async (verb, ask, args) => {
      const result = await ask()
      const isDisabling = verb === 'saveEndpoint' && JSON.stringify(args).includes('"disabled"')
      if (!isDisabling) return result
      isSaved.open()
      await hold.opened
      return result
    })
    const service = await stage.open({ storage, maxBacklog: 10 })
    await service.registerEndpoint(stage.endpoint('shop'))
    const told: unknown[] = []
    service.on('delivery.cancelled', (fact) => told.push(fact))
    const disabled = service.updateEndpoint('shop', { active: false })
    await isSaved.opened
    const { deliveryIds } = await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    expect(stage.at('shop')).toEqual([])
    expect(told).toEqual([
      { deliveryId: deliveryIds[0], endpointId: 'shop', reason: 'endpoint_disabled' },
    ])
    hold.open()
    await disabled
    expect(await stateOf(stage, service, 'evt_1')).toEqual(['cancelled', 'endpoint_disabled', 0])
    expect(await service.enableEndpoint('shop')).toMatchObject({ status: 'active' })
    // Its place in the lane and in the backlog is free again.
    await service.dispatchEvents(['a', 'b', 'c', 'd', 'e'].map((id) => stage.event({ id })))
    await service.drain()
    expect(stage.at('shop')).toHaveLength(5)
  })
})
