import path from 'node:path'
import { describe, expect } from 'vitest'
import { fileJourney, gate, journey, type Stage } from './stage.ts'

describe('retryDelivery', () => {
  journey(
    'peers 26: makes a new round of what has ended, under the same event id',
    async (stage) => {
      let status = 400
      stage.inbox.setAnswer(() => ({ status }))
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.registerEndpoint(stage.endpoint('other'))
      await service.dispatchEvent(stage.event({ id: 'evt_1' }))
      await service.drain()
      const failed = await service.getFailedDeliveries('shop')
      expect(failed).toHaveLength(1)
      status = 200
      const retried = await service.retryDelivery(failed[0]?.id ?? '')
      expect(retried).toMatchObject({ eventId: 'evt_1', round: 2, attemptCount: 0 })
      await service.drain()
      expect(stage.at('shop').map((one) => one.headers['webhook-id'])).toEqual(['evt_1', 'evt_1'])
      // Nobody else hears of it, and what was retried is no longer listed as failed.
      expect(stage.at('other')).toHaveLength(1)
      expect(await service.getFailedDeliveries('shop')).toEqual([])
      expect(await service.getFailedDeliveries('other')).toHaveLength(1)
      expect(await service.getDelivery(retried.id)).toMatchObject({ state: 'delivered' })
      expect(await service.getDelivery(failed[0]?.id ?? '')).toMatchObject({ state: 'rejected' })
    },
  )

  journey('makes a waiting one due now, with its attempts kept', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length === 1 ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    expect(await service.retryDelivery(id)).toMatchObject({ id, round: 1, attemptCount: 1 })
    await service.drain()
    expect(await service.getDelivery(id)).toMatchObject({ state: 'delivered', attemptCount: 2 })
  })

  journey('never overlaps an attempt under way', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.inbox.waitForCount(1)
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    await expect(service.retryDelivery(id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_RETRIABLE',
      message: expect.stringMatching(/being sent/),
    })
    hold.open()
    await service.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('twice makes one new round', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const [failed] = await service.getFailedDeliveries()
    await service.pauseEndpoint('shop')
    const rounds = await Promise.allSettled([
      service.retryDelivery(failed?.id ?? ''),
      service.retryDelivery(failed?.id ?? ''),
    ])
    expect(rounds.some((one) => one.status === 'fulfilled')).toBe(true)
    const report = await service.getEvent('evt_1')
    expect(report?.deliveries.map((one) => one.round)).toEqual([1, 2])
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey('peers 26: refuses with a reason: unknown, disabled, removed', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    await expect(service.retryDelivery('dlv_nothing')).rejects.toMatchObject({
      code: 'DELIVERY_NOT_FOUND',
    })
    await service.updateEndpoint('shop', { active: false })
    await expect(service.retryDelivery(id)).rejects.toMatchObject({ code: 'ENDPOINT_DISABLED' })
    await service.removeEndpoint('shop')
    await expect(service.retryDelivery(id)).rejects.toMatchObject({ code: 'ENDPOINT_NOT_FOUND' })
  })
})

describe('failed deliveries', () => {
  journey('tell what each attempt met', async (stage) => {
    const answers = [
      { status: 503, body: 'try later' },
      { status: 404, body: 'no such hook' },
    ]
    stage.inbox.setAnswer(() => answers[stage.at('shop').length - 1] ?? {})
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const failed = await service.getFailedDeliveries('shop')
    expect(failed).toMatchObject([
      {
        eventId: 'evt_1',
        endpointId: 'shop',
        state: 'rejected',
        reason: 'status_404',
        attempts: [
          { number: 1, outcome: 'faulted', error: 'HTTP 503', responseBody: 'try later' },
          { number: 2, outcome: 'refused', error: 'HTTP 404', responseBody: 'no such hook' },
        ],
      },
    ])
    expect(failed[0]?.attempts[0].error).toBe('HTTP 503')
    const unknown = { code: 'ENDPOINT_NOT_FOUND' }
    await expect(service.getFailedDeliveries('nobody')).rejects.toMatchObject(unknown)
    await service.removeEndpoint('shop')
    await expect(service.getFailedDeliveries('shop')).rejects.toMatchObject(unknown)
    expect(await service.getFailedDeliveries()).toEqual(failed)
  })
})

describe('lists', () => {
  journey(
    'peers 34: page through everything once, newest first, also while more arrives',
    async (stage) => {
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
      for (let i = 0; i < 25; i += 1) {
        stage.clock.advance(10)
        await service.dispatchEvent(stage.event())
      }
      const seen: string[] = []
      let cursor: string | undefined
      do {
        const page = await service.listDeliveries({ limit: 10, cursor })
        seen.push(...page.deliveries.map((one) => one.eventId))
        cursor = page.nextCursor ?? undefined
        stage.clock.advance(10)
        await service.dispatchEvent(stage.event())
      } while (cursor !== undefined)
      expect(seen).toEqual(Array.from({ length: 25 }, (_, i) => `evt_${25 - i}`))
      expect((await service.listDeliveries({ state: 'delivered' })).deliveries).toEqual([])
      await expect(service.listDeliveries({ cursor: 'x' })).rejects.toMatchObject({
        code: 'CURSOR_INVALID',
      })
      await expect(service.listDeliveries({ limit: 0 })).rejects.toMatchObject({
        code: 'OPTION_OUT_OF_RANGE',
      })
    },
  )
})

describe('statistics', () => {
  journey('add up, per endpoint, type, outcome and hour', async (stage) => {
    stage.inbox.setAnswer(({ path: at, headers }) => {
      if (at === '/good') return {}
      return { status: headers['x-webhook-event'] === 'message.failed' ? 400 : 500 }
    })
    const service = await stage.open({ retryScheduleMs: [3_600_000] })
    await service.registerEndpoint(stage.endpoint('good'))
    await service.registerEndpoint(stage.endpoint('bad'))
    for (const type of ['message.sent', 'message.sent', 'message.failed']) {
      await service.dispatchEvent(stage.event({ type }))
    }
    await stage.passTime(service)
    const stats = await service.getStats()
    expect(stats).toMatchObject({
      totalEndpoints: 2,
      activeEndpoints: 2,
      totalDeliveries: 6,
      successfulDeliveries: 3,
      failedDeliveries: 3,
      successRate: 50,
      attempts: 8,
      byOutcome: { accepted: 3, faulted: 4, refused: 1 },
      byEventType: {
        'message.sent': { totalDeliveries: 4, successfulDeliveries: 2, failedDeliveries: 2 },
        'message.failed': { totalDeliveries: 2, successfulDeliveries: 1, failedDeliveries: 1 },
      },
    })
    expect(stats.averageLatency).toBeGreaterThanOrEqual(0)
    expect(stats.latencyPercentiles.p50).toBeLessThanOrEqual(stats.latencyPercentiles.p99)

    const startMs = Date.UTC(2026, 0, 1)
    const bad = await service.getEndpointStats('bad', { start: new Date(startMs) })
    expect(bad).toMatchObject({ totalDeliveries: 3, failedDeliveries: 3, successRate: 0 })
    expect(bad.hours.map((one) => [one.hour.getTime() - startMs, one.totalDeliveries])).toEqual([
      [0, 1],
      [3_600_000, 2],
    ])
    const firstHour = { start: new Date(startMs), end: new Date(startMs + 3_600_000) }
    expect(await service.getEndpointStats('bad', firstHour)).toMatchObject({ totalDeliveries: 1 })
    expect(await service.getEndpointStats('good')).toMatchObject({ successRate: 100 })
  })

  journey('survive the removal of an endpoint and a restart', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop'))
    await first.dispatchEvents([stage.event(), stage.event()])
    await first.drain()
    await first.removeEndpoint('shop')
    await first.close()
    const second = await stage.open()
    expect(await second.getStats()).toMatchObject({
      totalEndpoints: 0,
      totalDeliveries: 2,
      successRate: 100,
    })
  })
})

describe('erasing', () => {
  async function stageWithThree(stage: Stage) {
    stage.inbox.setAnswer(({ path: at }) => ({ status: at === '/down' ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('up'))
    await service.registerEndpoint(stage.endpoint('down'))
    for (const id of ['evt_a', 'evt_b', 'evt_c']) {
      await service.dispatchEvent(
        stage.event({ id, data: { phone: `010-${id}` }, metadata: { messageId: `msg-${id}` } }),
      )
    }
    await service.runDue()
    return service
  }

  journey('takes body and personal data, ends what waits, keeps the skeleton', async (stage) => {
    const service = await stageWithThree(stage)
    expect(await service.eraseEvents({ ids: ['evt_a', 'unknown'] })).toEqual({
      erased: 1,
      inFlight: 0,
    })
    const report = await service.getEvent('evt_a')
    expect(report).toMatchObject({ id: 'evt_a', type: 'message.sent', body: null })
    expect(report?.deliveries.map((one) => one.state).sort()).toEqual(['cancelled', 'delivered'])
    expect((await service.getEvent('evt_b'))?.body).not.toBeNull()
    const { deliveries } = report ?? { deliveries: [] }
    await expect(service.retryDelivery(deliveries[0]?.id ?? '')).rejects.toMatchObject({
      code: 'DELIVERY_NOT_RETRIABLE',
      message: expect.stringMatching(/whose body was erased.+new id/),
    })
    await expect(service.dispatchEvent(stage.event({ id: 'evt_a' }))).rejects.toMatchObject({
      code: 'EVENT_ID_CONFLICT',
      message: expect.stringMatching(/erased.+new id/),
    })
    // The others are still delivered.
    await stage.passTime(service)
    const sent = stage.at('down').map((one) => one.headers['webhook-id'])
    expect(sent.filter((id) => id === 'evt_a')).toHaveLength(1)
    expect(sent.filter((id) => id === 'evt_b')).toHaveLength(10)
  })

  journey('never sends what memory holds, and nothing a second time', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ path: at }) => ({
      status: 503,
      ...(at === '/slow' ? { after: hold.opened } : {}),
    }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('slow', { concurrency: 1 }))
    const ids = Array.from({ length: 50 }, (_, i) => `evt_${i}`)
    await service.dispatchEvents(ids.map((id) => stage.event({ id, data: { phone: '010-1' } })))
    await stage.inbox.waitForCount(1)
    expect(await service.eraseEvents({ ids })).toEqual({ erased: 49, inFlight: 1 })
    hold.open()
    await service.drain()
    expect(stage.at('slow')).toHaveLength(1)
    const [sent = ''] = stage.at('slow').map(({ headers }) => headers['webhook-id'] as string)
    expect(await stage.delivery(service, sent, 'slow')).toMatchObject({
      state: 'cancelled',
      reason: 'erased',
      attemptCount: 1,
    })
    expect(await service.eraseEvents({ ids })).toEqual({ erased: 1, inFlight: 0 })
    expect((await service.getEvent(sent))?.body).toBeNull()
  })

  journey('takes batches apart: in memory at once, in flight when it has ended', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({
      status: stage.at('shop').length > 1 ? 200 : 503,
      after: hold.opened,
    }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    const batch = { size: 2, timeoutMs: 60_000 }
    await service.registerEndpoint(stage.endpoint('shop', { batch, concurrency: 1 }))
    await service.dispatchEvents(['a', 'b', 'c', 'd'].map((id) => stage.event({ id })))
    await stage.inbox.waitForCount(1)
    const wanted = { ids: ['a', 'c'] }
    expect(await service.eraseEvents(wanted)).toEqual({ erased: 1, inFlight: 1 })
    hold.open()
    await stage.passTime(service)
    expect(await service.eraseEvents(wanted)).toEqual({ erased: 1, inFlight: 0 })
    const sent = stage.at('shop').map(({ events }) => events.map(({ id }) => id).sort())
    expect(sent).toEqual([
      ['a', 'b'],
      ['b', 'd'],
    ])
  })

  fileJourney('of everything before a time leaves nothing of it in the file', async (stage) => {
    const service = await stageWithThree(stage)
    stage.clock.advance(1)
    expect(await service.eraseEvents({ before: new Date(stage.clock.nowMs()) })).toMatchObject({
      erased: 3,
    })
    await service.drain()
    const copy = path.join(stage.folder, 'copy.db')
    await service.backup(copy)
    const { readFile } = await import('node:fs/promises')
    const bytes = await readFile(copy)
    expect(bytes.includes('010-evt_a')).toBe(false)
    expect(bytes.includes('msg-evt_b')).toBe(false)
  })

  journey('must be meant', async (stage) => {
    const service = await stage.open()
    for (const query of [
      {},
      { ids: ['a'], before: new Date() },
      { tenantId: 'shop', ids: undefined },
      { tenantId: 'shop', before: undefined },
    ]) {
      await expect(service.eraseEvents(query)).rejects.toMatchObject({ code: 'OPTION_INVALID' })
    }
  })
})

describe('a backup', () => {
  fileJourney('made under load opens and continues', async (stage) => {
    stage.inbox.setAnswer(({ path: at }) => ({ status: at === '/down' ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [60_000] })
    await service.registerEndpoint(stage.endpoint('up'))
    await service.registerEndpoint(stage.endpoint('down'))
    await service.dispatchEvents(Array.from({ length: 50 }, () => stage.event()))
    const copy = path.join(stage.folder, 'backup.db')
    await Promise.all([
      service.backup(copy),
      service.dispatchEvents(Array.from({ length: 50 }, () => stage.event())),
    ])
    await service.runDue()
    await service.close()

    stage.inbox.setAnswer(() => ({}))
    const restored = await stage.open({ storage: copy, retryScheduleMs: [60_000] })
    expect((await restored.audit()).problems).toEqual([])
    stage.clock.advance(60_000)
    await restored.drain()
    const { deliveries } = await restored.listDeliveries({ limit: 1_000 })
    expect(deliveries.length).toBeGreaterThanOrEqual(100)
    expect(new Set(deliveries.map((one) => one.state))).toEqual(new Set(['delivered']))
  })
})
