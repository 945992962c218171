import { describe, expect } from 'vitest'
import { gate, journey } from './stage.ts'

const minuteMs = 60_000
const dayMs = 86_400_000

describe('an event that is sent later', () => {
  journey('a month of schedule, over a restart: each at its time, none before', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop'))
    const startMs = stage.clock.nowMs()
    const days = Array.from({ length: 30 }, (_, i) => 30 - i)
    for (const day of days) {
      const deliverAt = new Date(startMs + day * dayMs)
      await first.dispatchEvent(stage.event({ id: `day_${day}` }), { deliverAt })
    }
    await first.runDue()
    expect(stage.at('shop')).toEqual([])
    await first.close()

    const second = await stage.open()
    expect((await stage.delivery(second, 'day_3', 'shop')).nextAttemptAt?.getTime()).toBe(
      startMs + 3 * dayMs,
    )
    for (let day = 1; day <= 30; day += 1) {
      await stage.passTime(second, startMs + day * dayMs - 1)
      expect(stage.at('shop')).toHaveLength(day - 1)
      await stage.passTime(second, startMs + day * dayMs)
      expect(stage.at('shop').at(-1)?.headers['webhook-id']).toBe(`day_${day}`)
    }
  })

  journey('the same id again keeps the first time', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event({ id: 'evt_1' })
    const deliverAt = new Date(stage.clock.nowMs() + dayMs)
    await service.dispatchEvent(event, { deliverAt: deliverAt.toISOString() })
    expect(await service.dispatchEvent(event)).toMatchObject({ duplicate: true })
    await service.runDue()
    expect(stage.at('shop')).toEqual([])
    // By hand it can go at once.
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    await service.retryDelivery(id)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('in the past it goes at once, and no batch takes it along', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.registerEndpoint(stage.endpoint('many', { batch: { size: 2, timeoutMs: 100 } }))
    const nowMs = stage.clock.nowMs()
    await service.dispatchEvent(stage.event(), { deliverAt: new Date(nowMs - dayMs) })
    await service.runDue()
    expect([stage.at('shop').length, stage.at('many').length]).toEqual([1, 1])
    await service.dispatchEvents([stage.event(), stage.event()], {
      deliverAt: new Date(nowMs + dayMs),
    })
    await service.dispatchEvent(stage.event())
    stage.clock.advance(minuteMs)
    await service.runDue()
    expect([stage.at('shop').length, stage.at('many').length]).toEqual([2, 2])
    stage.clock.advance(dayMs)
    await service.runDue()
    expect(stage.at('many').map(({ headers }) => headers['x-webhook-event'])).toEqual([
      'message.sent',
      'batch',
      'message.sent',
      'message.sent',
    ])
  })
})

describe('an event that expires', () => {
  journey('ends when its next attempt would come too late', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ retryScheduleMs: [1_000, 10_000] })
    await service.registerEndpoint(stage.endpoint('shop'))
    const cancelled: string[] = []
    service.on('delivery.cancelled', (fact) => cancelled.push(`${fact.endpointId} ${fact.reason}`))
    const expiresAt = new Date(stage.clock.nowMs() + 5_000)
    await service.dispatchEvent(stage.event({ id: 'evt_1' }), { expiresAt })
    await stage.passTime(service)
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({
      state: 'cancelled',
      reason: 'expired',
      attemptCount: 2,
      expiresAt: null,
    })
    expect(stage.at('shop')).toHaveLength(2)
    expect(cancelled).toEqual(['shop expired'])
  })

  journey('ends behind the limit of its lane, without an attempt', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('slow', { concurrency: 1 }))
    await service.dispatchEvent(stage.event({ id: 'first' }))
    const expiresAt = new Date(stage.clock.nowMs() + 1_000)
    for (const id of ['late_1', 'late_2']) {
      await service.dispatchEvent(stage.event({ id }), { expiresAt })
    }
    await service.dispatchEvent(stage.event({ id: 'patient' }))
    await stage.inbox.waitForCount(1)
    expect(await stage.delivery(service, 'late_1', 'slow')).toMatchObject({ expiresAt })
    expect(await stage.delivery(service, 'patient', 'slow')).toMatchObject({ expiresAt: null })
    stage.clock.advance(1_000)
    hold.open()
    await service.drain()
    expect(stage.at('slow').map(({ headers }) => headers['webhook-id'])).toEqual([
      'first',
      'patient',
    ])
    expect(await stage.delivery(service, 'late_2', 'slow')).toMatchObject({
      state: 'cancelled',
      reason: 'expired',
      attemptCount: 0,
    })
  })

  journey(
    'ends while its endpoint is paused, found by the sweep of every minute',
    async (stage) => {
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.pauseEndpoint('shop')
      const ended = new Promise((resolve) => service.on('delivery.cancelled', resolve))
      const expiresAt = new Date(stage.clock.nowMs() + 30_000)
      await service.dispatchEvent(stage.event({ id: 'evt_1' }), { expiresAt })
      await service.dispatchEvent(stage.event({ id: 'evt_2' }))
      stage.clock.advance(minuteMs)
      expect(await ended).toMatchObject({ endpointId: 'shop', reason: 'expired' })
      await service.resumeEndpoint('shop')
      await service.drain()
      expect(stage.at('shop').map(({ headers }) => headers['webhook-id'])).toEqual(['evt_2'])
    },
  )

  journey('times that make no sense are refused, with the field named', async (stage) => {
    const service = await stage.open()
    const nowMs = stage.clock.nowMs()
    const at = (ms: number) => new Date(nowMs + ms)
    const refused: [object, string, RegExp][] = [
      [{ deliverAt: 'tomorrow' }, 'OPTION_INVALID', /deliverAt/],
      [{ deliverAt: '2026-05-01T10:00:00' }, 'OPTION_INVALID', /deliverAt/],
      [{ deliverAt: '2026-02-30T10:00:00Z' }, 'OPTION_INVALID', /deliverAt/],
      [{ expiresAt: '2026-05-01T24:00:00Z' }, 'OPTION_INVALID', /expiresAt/],
      [{ expiresAt: new Date(Date.UTC(12_000, 0)) }, 'OPTION_INVALID', /expiresAt/],
      [{ deliverAt: new Date(Number.NaN) }, 'OPTION_INVALID', /deliverAt/],
      [{ expiresAt: 5 }, 'OPTION_INVALID', /expiresAt/],
      [{ expiresAt: at(0) }, 'OPTION_OUT_OF_RANGE', /expiresAt/],
      [{ deliverAt: at(9), expiresAt: at(8) }, 'OPTION_OUT_OF_RANGE', /expiresAt/],
      [{ deliverAt: at(367 * dayMs) }, 'OPTION_OUT_OF_RANGE', /366 days/],
    ]
    for (const [options, code, message] of refused) {
      const dispatched = service.dispatchEvent(stage.event(), options)
      await expect(dispatched).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      })
    }
  })
})
