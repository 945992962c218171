import { describe, expect } from 'vitest'
import { gate, journey } from './stage.ts'

describe('explainEvent', () => {
  journey('says for each endpoint what became of an event', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ path, headers }) => {
      if (path === '/slow') return { after: hold.opened }
      if (path === '/asks') return { status: 429, headers: { 'retry-after': '120' } }
      if (path === '/flaky') return { status: headers['x-webhook-attempt'] === '1' ? 500 : 200 }
      return { status: path === '/refuses' ? 404 : path === '/down' ? 503 : 200 }
    })
    const service = await stage.open({ retryScheduleMs: [1_000, 3_600_000] })
    const startMs = stage.clock.nowMs()
    for (const id of ['ok', 'flaky', 'refuses', 'down', 'asks']) {
      await service.registerEndpoint(stage.endpoint(id))
    }
    await service.registerEndpoint(stage.endpoint('held', { status: 'paused' }))
    await service.registerEndpoint(stage.endpoint('off', { active: false }))
    await service.registerEndpoint(stage.endpoint('other', { events: ['template.*'] }))
    await service.registerEndpoint(stage.endpoint('picky', { filters: { channelId: ['one'] } }))
    const batch = { size: 10, timeoutMs: 60_000 }
    await service.registerEndpoint(stage.endpoint('batched', { batch }))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    stage.clock.advance(1_000)
    await service.runDue()
    await service.registerEndpoint(stage.endpoint('late'))
    const at = (ms: number) => new Date(startMs + ms)
    const explained = await service.explainEvent('evt_1')
    expect(explained).toMatchObject({
      eventId: 'evt_1',
      eventType: 'message.sent',
      acceptedAt: at(0),
      pendingDeliveries: 0,
    })
    const answer = (id: string) => explained?.endpoints.find((one) => one.endpointId === id)
    expect(answer('ok')).toMatchObject({ outcome: 'delivered', attempts: 1, at: at(0) })
    expect(answer('flaky')).toMatchObject({ outcome: 'delivered', attempts: 2, at: at(1_000) })
    expect(answer('refuses')).toMatchObject({ outcome: 'ended', reason: 'status_404' })
    expect(answer('down')).toMatchObject({
      outcome: 'waiting',
      waitingFor: 'schedule',
      until: at(3_601_000),
      attempts: 2,
      reason: 'HTTP 503',
    })
    expect(answer('asks')).toMatchObject({
      outcome: 'waiting',
      waitingFor: 'retry-after',
      until: at(120_000),
    })
    expect(answer('held')).toMatchObject({ outcome: 'waiting', waitingFor: 'paused', until: null })
    expect(answer('batched')).toMatchObject({ waitingFor: 'batch', until: at(60_000) })
    expect(answer('off')).toMatchObject({ outcome: 'not_matched', reason: 'endpoint_disabled' })
    expect(answer('other')).toMatchObject({ reason: 'event_type_not_subscribed' })
    expect(answer('picky')).toMatchObject({ reason: 'filter_channelId' })
    expect(answer('late')).toMatchObject({ reason: 'endpoint_registered_later' })
    const lines = explained?.text.split('\n') ?? []
    expect(lines[0]).toBe(`evt_1 (message.sent) was accepted at ${at(0).toISOString()}.`)
    expect(lines).toContain(`- flaky: delivered at ${at(1_000).toISOString()} with 2 attempts`)
    expect(lines).toContain(
      `- down: waits for its next attempt at ${at(3_601_000).toISOString()}; 2 attempts so far, the last met HTTP 503`,
    )
    expect(lines).toContain('- other: does not get it: its `events` do not name this type')
    expect(lines).toContain(
      '- picky: does not get it: its filter on `channelId` does not match the metadata',
    )
    expect(lines).toHaveLength(12)
    expect(JSON.parse(JSON.stringify(explained))).toMatchObject({ eventId: 'evt_1' })
    hold.open()
  })

  journey('says what else can be waited for: rate, breaker, ordering', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ path }) => {
      if (path === '/broken') return { status: 500 }
      return path === '/paced' ? {} : { after: hold.opened }
    })
    const service = await stage.open({ retryScheduleMs: Array(9).fill(10_000) })
    const rateLimit = { limit: 1, perMs: 60_000 }
    const ordering = { key: 'userId', onExhausted: 'block' } as const
    await service.registerEndpoint(stage.endpoint('paced', { rateLimit }))
    await service.registerEndpoint(stage.endpoint('ordered', { ordering }))
    await service.registerEndpoint(stage.endpoint('broken'))
    const metadata = { userId: 'kim' }
    const opened = new Promise((resolve) => service.on('endpoint.breaker.opened', resolve))
    const failedOnce = new Promise<void>((resolve) => {
      let left = 10
      service.on('attempt.settled', ({ endpointId }) => {
        if (endpointId === 'broken') left -= 1
        if (left === 0) resolve()
      })
    })
    for (let i = 0; i < 10; i += 1) await service.dispatchEvent(stage.event({ metadata }))
    await stage.inbox.waitForCount(12)
    // The failures of the first attempts are recorded before the clock goes on to the second ones.
    await stage.until(failedOnce, 10)
    stage.clock.advance(10_000)
    await stage.until(opened, 10)
    await service.dispatchEvent(stage.event({ id: 'evt_last', metadata }))
    const explained = await service.explainEvent('evt_last')
    const waits = explained?.endpoints.map((one) => [
      one.endpointId,
      one.outcome === 'waiting' && one.waitingFor,
    ])
    hold.open()
    expect(waits).toEqual([
      ['broken', 'breaker'],
      ['ordered', 'ordering'],
      ['paced', 'rate'],
    ])
  })

  journey(
    'says in words why an endpoint does not get it, also after the body is gone',
    async (stage) => {
      const service = await stage.open()
      const bodyFilter = { path: 'order.amount', gt: 5 } as const
      await service.registerEndpoint(stage.endpoint('body', { bodyFilter }))
      await service.registerEndpoint(stage.endpoint('timed'))
      const deliverAt = new Date(stage.clock.nowMs() + 60_000)
      await service.dispatchEvent(stage.event({ id: 'evt_1' }), { deliverAt })
      const lines = async () => (await service.explainEvent('evt_1'))?.text.split('\n').slice(1)
      expect(await lines()).toEqual([
        '- body: does not get it: its `bodyFilter` does not match the data: order.amount',
        `- timed: waits for its first attempt at ${deliverAt.toISOString()}`,
      ])
      await service.eraseEvents({ ids: ['evt_1'] })
      expect(await lines()).toContain(
        '- body: does not get it: why cannot be told any more: what its filters look at was removed',
      )
    },
  )

  journey('says what is being sent', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('slow', { concurrency: 1 }))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.inbox.waitForCount(1)
    const sending = await service.explainEvent('evt_1')
    expect(sending?.endpoints).toMatchObject([{ outcome: 'sending', attempts: 0 }])
    hold.open()
    await service.drain()
  })

  journey('tells of the newest round, and nothing of other tenants', async (stage) => {
    let status = 400
    stage.inbox.setAnswer(() => ({ status }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { tenantId: 'a' }))
    await service.registerEndpoint(stage.endpoint('stranger', { tenantId: 'b' }))
    await service.dispatchEvent(stage.event({ id: 'evt_1', tenantId: 'a' }))
    await service.drain()
    const tenant = { tenantId: 'a' }
    const ended = await service.explainEvent('evt_1', tenant)
    expect(ended?.endpoints).toMatchObject([{ endpointId: 'shop', outcome: 'ended' }])
    status = 200
    const [failed] = await service.getFailedDeliveries('shop', tenant)
    await service.retryDelivery(failed?.id ?? '', tenant)
    await service.drain()
    expect((await service.explainEvent('evt_1', tenant))?.endpoints).toMatchObject([
      { endpointId: 'shop', outcome: 'delivered', deliveryId: `${failed?.id}_r2` },
    ])
    expect(await service.explainEvent('evt_1', { tenantId: 'b' })).toBeNull()
    expect(await service.explainEvent('evt_2', tenant)).toBeNull()
  })
})
