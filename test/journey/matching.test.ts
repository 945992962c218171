import { WebhookEventType } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { journey, type Stage } from './stage.ts'

/** Paths that got the event. */
function reached(stage: Stage, eventId: string): string[] {
  return stage.inbox.received
    .filter((request) => request.events.some((event) => event.id === eventId))
    .map((request) => request.path.slice(1))
    .sort()
}

describe('who gets an event', () => {
  journey('body filters look at what is sent, over restarts, and say why not', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(
      stage.endpoint('large', {
        bodyFilter: {
          and: [
            { path: 'order.amount', gt: 1_000 },
            { path: 'at', prefix: '2026-' },
          ],
        },
      }),
    )
    await first.registerEndpoint(stage.endpoint('all'))
    await first.close()
    const service = await stage.open()
    const at = new Date('2026-02-01')
    const send = (id: string, amount: unknown) =>
      service.dispatchEvent(stage.event({ id, data: { order: { amount }, at } }))
    await send('large', 1_001)
    await send('small', 1_000)
    await send('odd', '5000')
    await service.dispatchEvent(stage.event({ id: 'none', data: null }))
    await service.drain()
    expect(['large', 'small', 'odd', 'none'].map((id) => reached(stage, id))).toEqual([
      ['all', 'large'],
      ...[['all'], ['all'], ['all']],
    ])
    expect((await service.getEvent('small'))?.notMatched).toEqual([
      { endpointId: 'large', reason: 'body_filter: order.amount' },
    ])
    await service.updateEndpoint('large', { bodyFilter: null })
    expect(await service.getEndpoint('large')).toMatchObject({ bodyFilter: null, version: 2 })
    await send('after', 1)
    await service.drain()
    expect(reached(stage, 'after')).toEqual(['all', 'large'])
    await expect(
      service.updateEndpoint('large', { bodyFilter: { path: 'a' } as never }),
    ).rejects.toMatchObject({ code: 'ENDPOINT_INVALID' })
  })

  journey('peers 30: types, wildcards and filters decide, and fail closed', async (stage) => {
    const service = await stage.open()
    const endpoints = {
      all: { events: ['*'] },
      messages: { events: ['message.*'] },
      sent: { events: ['message.sent'] },
      failed: { events: ['message.failed', 'template.*'] },
      iwinv: { filters: { providerId: ['iwinv', 'other'] } },
      channel: { filters: { channelId: ['c1'], providerId: ['iwinv'] } },
      priority: { filters: { priority: [1, true] } },
    }
    for (const [id, input] of Object.entries(endpoints)) {
      await service.registerEndpoint(stage.endpoint(id, input))
    }
    const events = {
      plain: { type: 'message.sent' },
      provider: { type: 'message.sent', metadata: { providerId: 'iwinv' } },
      both: { type: 'message.failed', metadata: { providerId: 'iwinv', channelId: 'c1' } },
      wrong: { type: 'template.created', metadata: { providerId: 'nobody' } },
      own: { type: 'shop.order_paid', metadata: { priority: 1 } },
      text: { type: 'shop.order_paid', metadata: { priority: '1' } },
      dotless: { type: 'message' },
    }
    for (const [id, fields] of Object.entries(events)) {
      await service.dispatchEvent(stage.event({ id, ...fields }))
    }
    await service.drain()
    expect(
      Object.fromEntries(Object.keys(events).map((id) => [id, reached(stage, id).join(' ')])),
    ).toEqual({
      plain: 'all messages sent',
      provider: 'all iwinv messages sent',
      both: 'all channel failed iwinv messages',
      wrong: 'all failed',
      own: 'all priority',
      text: 'all',
      dotless: 'all',
    })
  })

  journey('getEvent says of every endpoint why it did not get the event', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('other', { events: ['template.*'] }))
    await service.registerEndpoint(
      stage.endpoint('filtered', { filters: { providerId: ['iwinv'] } }),
    )
    await service.registerEndpoint(stage.endpoint('off', { active: false }))
    await service.registerEndpoint(
      stage.endpoint('changed', { filters: { region: ['kr'] }, events: ['*'] }),
    )
    await service.dispatchEvent(stage.event({ id: 'evt_1', data: { a: 1 } }))
    await service.updateEndpoint('changed', { filters: {} })
    stage.clock.advance(1)
    await service.registerEndpoint(stage.endpoint('later'))
    expect(await service.getEvent('evt_1')).toMatchObject({
      id: 'evt_1',
      type: 'message.sent',
      tenantId: null,
      body: { id: 'evt_1', data: { a: 1 } },
      deliveries: [],
      pendingDeliveries: 0,
      notMatched: [
        { endpointId: 'changed', reason: 'endpoint_changed_later' },
        { endpointId: 'filtered', reason: 'filter_providerId' },
        { endpointId: 'later', reason: 'endpoint_registered_later' },
        { endpointId: 'off', reason: 'endpoint_disabled' },
        { endpointId: 'other', reason: 'event_type_not_subscribed' },
      ],
    })
    expect(await service.getEvent('unknown')).toBeNull()
  })

  journey(
    'peers 10: an event nobody wants is stored with the reason, and its receipt is empty',
    async (stage) => {
      const service = await stage.open()
      await service.dispatchEvent(stage.event({ id: 'evt_0' }))
      expect(await service.getEvent('evt_0')).toMatchObject({ deliveries: [], notMatched: [] })
      await service.registerEndpoint(stage.endpoint('shop', { events: ['message.read'] }))
      expect(await service.dispatchEvent(stage.event({ id: 'evt_1' }))).toMatchObject({
        eventId: 'evt_1',
        duplicate: false,
        deliveryIds: [],
      })
      expect(await service.getEvent('evt_1')).toMatchObject({
        body: { id: 'evt_1' },
        deliveries: [],
        notMatched: [{ endpointId: 'shop', reason: 'event_type_not_subscribed' }],
      })
    },
  )

  journey('a type outside `enabledEvents` is refused and not stored', async (stage) => {
    const service = await stage.open({ enabledEvents: [WebhookEventType.MESSAGE_SENT] })
    await service.registerEndpoint(stage.endpoint('shop'))
    await expect(
      service.dispatchEvent(stage.event({ id: 'evt_no', type: 'message.failed' })),
    ).rejects.toMatchObject({ code: 'EVENT_TYPE_DISABLED' })
    await service.dispatchEvent(stage.event({ id: 'evt_yes' }))
    expect(await service.getEvent('evt_no')).toBeNull()
    await service.drain()
    expect(stage.inbox.events.map((event) => event.id)).toEqual(['evt_yes'])
  })

  journey('peers 35: tenants see nothing of each other', async (stage) => {
    const service = await stage.open()
    const secrets: Record<string, string> = {}
    for (const tenantId of ['a', 'b', undefined]) {
      const scoped = tenantId === undefined ? {} : { tenantId }
      const path = `${stage.inbox.url}/hook_${tenantId}`
      const made = await service.registerEndpoint(stage.endpoint('hook', { ...scoped, url: path }))
      if (made.secret) secrets[`/hook_${tenantId}`] = made.secret
    }
    for (const [path, own] of Object.entries(secrets)) stage.inbox.setSecret(path, own)
    for (const tenantId of ['a', 'b', 'c', undefined]) {
      await service.dispatchEvent(
        stage.event({
          id: 'same_id',
          ...(tenantId === undefined ? {} : { tenantId }),
          data: tenantId ?? null,
        }),
      )
    }
    await service.drain()
    expect(stage.inbox.received.map((one) => [one.path, one.events[0]?.data]).sort()).toEqual([
      ['/hook_a', 'a'],
      ['/hook_b', 'b'],
      ['/hook_undefined', null],
    ])
    // A tenant's endpoint has a secret of its own and never signs with the shared one.
    expect(Object.keys(secrets)).toEqual(['/hook_a', '/hook_b'])
    expect(stage.inbox.received.every((one) => one.signature === 'valid')).toBe(true)

    const ofA = await service.listDeliveries({ tenantId: 'a' })
    expect(ofA.deliveries.map((one) => one.tenantId)).toEqual(['a'])
    const id = ofA.deliveries[0]?.id ?? ''
    expect(await service.getDelivery(id)).toBeNull()
    expect(await service.getDelivery(id, { tenantId: 'b' })).toBeNull()
    expect(await service.getDelivery(id, { tenantId: 'a' })).not.toBeNull()
    await expect(service.retryDelivery(id, { tenantId: 'b' })).rejects.toMatchObject({
      code: 'DELIVERY_NOT_FOUND',
    })
    expect(await service.getStats({ tenantId: 'a' })).toMatchObject({
      totalEndpoints: 1,
      totalDeliveries: 1,
    })
    expect(await service.getStats({ tenantId: '*' })).toMatchObject({
      totalEndpoints: 3,
      totalDeliveries: 3,
    })
    expect(await service.getEndpoint('hook', { tenantId: 'c' })).toBeNull()
    expect((await service.getEvent('same_id', { tenantId: 'c' }))?.deliveries).toEqual([])
  })
})

describe('a very wide event', () => {
  journey(
    'correctness 16: reaches 2,500 endpoints, each once, also after a restart in between',
    async (stage) => {
      const first = await stage.open()
      const ids = Array.from({ length: 2_500 }, (_, i) => `e${i}`)
      await Promise.all(ids.map((id) => first.registerEndpoint(stage.endpoint(id))))
      const receipt = await first.dispatchEvent(stage.event({ id: 'wide' }))
      expect(receipt.deliveryIds).toHaveLength(2_500)
      await first.close()
      const second = await stage.open()
      await second.drain()
      expect(reached(stage, 'wide')).toHaveLength(new Set(reached(stage, 'wide')).size)
      expect(reached(stage, 'wide')).toEqual([...ids].sort())
      const report = await second.getEvent('wide')
      expect(report?.pendingDeliveries).toBe(0)
      expect(report?.deliveries.map((one) => one.id).sort()).toEqual(
        [...receipt.deliveryIds].sort(),
      )
    },
  )
})
