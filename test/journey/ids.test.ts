import { describe, expect } from 'vitest'
import { journey } from './stage.ts'

describe('the same event id again', () => {
  journey('with the same content returns the first receipt and sends nothing', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event({ id: 'evt_1', data: { a: 1, b: [1, { c: 2 }] } })
    const first = await service.dispatchEvent(event)
    stage.clock.advance(60_000)
    // Another time and another order of keys are the same event.
    const again = await service.dispatchEvent({
      ...event,
      timestamp: new Date(stage.clock.nowMs()),
      data: { b: [1, { c: 2 }], a: 1 },
    })
    expect(again).toEqual({ ...first, duplicate: true })
    await service.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('peers 2: with other content is refused; the first stays as it was', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event({ id: 'evt_1', data: { total: 1 } })
    await service.dispatchEvent(event)
    for (const other of [
      { data: { total: 2 } },
      { type: 'message.failed' },
      { metadata: { providerId: 'x' } },
      { version: '2.0' },
      { data: { total: '1' } },
      { data: [{ total: 1 }] },
    ]) {
      await expect(service.dispatchEvent({ ...event, ...other })).rejects.toMatchObject({
        code: 'EVENT_ID_CONFLICT',
      })
    }
    await service.drain()
    expect(stage.inbox.events.map((one) => one.data)).toEqual([{ total: 1 }])
  })

  journey('fifty times at once is one event', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event({ id: 'evt_1' })
    const receipts = await Promise.all(
      Array.from({ length: 50 }, () => service.dispatchEvent(event)),
    )
    expect(receipts.filter((one) => !one.duplicate)).toHaveLength(1)
    expect(new Set(receipts.map((one) => one.deliveryIds.join())).size).toBe(1)
    await service.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey(
    'twice in one call: the second is a duplicate; a conflict fails the call',
    async (stage) => {
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      const event = stage.event({ id: 'evt_1' })
      const receipts = await service.dispatchEvents([event, stage.event(), event])
      expect(receipts.map((one) => one.duplicate)).toEqual([false, false, true])
      await expect(
        service.dispatchEvents([stage.event({ id: 'evt_9' }), { ...event, data: 'other' }]),
      ).rejects.toMatchObject({ code: 'EVENT_ID_CONFLICT' })
      // The same call can be repeated.
      await service.dispatchEvents([stage.event({ id: 'evt_9', data: { number: 3 } })])
      await service.drain()
      expect(stage.at('shop')).toHaveLength(3)
    },
  )

  journey(
    'correctness 9: outlives a restart, and is new again after its retention',
    async (stage) => {
      const first = await stage.open()
      await first.registerEndpoint(stage.endpoint('shop'))
      const event = stage.event({ id: 'evt_1' })
      await first.dispatchEvent(event)
      await first.drain()
      await first.close()
      const second = await stage.open()
      expect(await second.dispatchEvent(event)).toMatchObject({ duplicate: true })
      await stage.passTime(second, stage.clock.nowMs() + 31 * 86_400_000)
      await stage.pruned(second)
      expect(await second.dispatchEvent(event)).toMatchObject({ duplicate: false })
      await second.drain()
      expect(stage.at('shop')).toHaveLength(2)
    },
  )
})

describe('one bad event among many', () => {
  journey('peers 9: rejects only its own promise', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const loop: { self?: unknown } = {}
    loop.self = loop
    const bad = [
      { id: 'bad id' },
      { type: 'Bad Type' },
      { data: loop },
      { data: { toJSON: () => undefined } },
      { metadata: 'none' as never },
    ]
    const results = await Promise.allSettled([
      service.dispatchEvent(stage.event({ id: 'first' })),
      ...bad.map((fields) => service.dispatchEvent(stage.event(fields))),
      service.dispatchEvent(stage.event({ id: 'last' })),
    ])
    expect(results.map((one) => one.status)).toEqual([
      'fulfilled',
      ...bad.map(() => 'rejected'),
      'fulfilled',
    ])
    await service.drain()
    expect(stage.inbox.events.map(({ id }) => id)).toEqual(['first', 'last'])
  })

  journey('in dispatchEvents stores none of them', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await expect(
      service.dispatchEvents([stage.event({ id: 'ok' }), stage.event({ type: 'Bad Type' })]),
    ).rejects.toMatchObject({ code: 'EVENT_TYPE_INVALID' })
    expect(await service.getEvent('ok')).toBeNull()
    await service.drain()
    expect(stage.inbox.received).toEqual([])
  })
})
