import { type AddressInfo, createServer } from 'node:net'
import { RetryManager, WebhookDispatcher } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { journey } from './stage.ts'

const dayMs = 86_400_000

describe('retries over real HTTP', () => {
  journey('go by the rules of a part that is handed in', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const retryManager = new RetryManager({ maxRetries: 1 })
    const dispatcher = new WebhookDispatcher(undefined, undefined, retryManager)
    for (const parts of [{ retryManager }, { dispatcher }]) {
      const service = await stage.open({}, parts)
      await service.registerEndpoint(stage.endpoint('shop'))
      const { eventId } = await service.dispatchEvent(stage.event())
      await stage.passTime(service)
      const delivery = await stage.delivery(service, eventId, 'shop')
      expect(delivery).toMatchObject({ state: 'exhausted', attemptCount: 2 })
      await service.close()
    }
    await dispatcher.close()
  })

  journey(
    'peers 24: a month of retries runs in a second, each attempt at its time',
    async (stage) => {
      stage.inbox.setAnswer(() => ({ status: 500, body: 'broken' }))
      const service = await stage.open({ retryScheduleMs: Array(30).fill(dayMs) })
      await service.registerEndpoint(stage.endpoint('shop'))
      const startMs = stage.clock.nowMs()
      await service.dispatchEvent(stage.event({ id: 'evt_month' }))
      await stage.passTime(service)

      const delivery = await stage.delivery(service, 'evt_month', 'shop')
      expect(delivery).toMatchObject({ state: 'exhausted', reason: 'HTTP 500', attemptCount: 31 })
      expect(delivery.attempts.map((one) => one.startedAt.getTime() - startMs)).toEqual(
        Array.from({ length: 31 }, (_, index) => index * dayMs),
      )
      expect(stage.clock.nowMs() - startMs).toBe(30 * dayMs)
      const requests = stage.at('shop')
      expect(requests).toHaveLength(31)
      expect(new Set(requests.map((one) => one.headers['webhook-id']))).toEqual(
        new Set(['evt_month']),
      )
      expect(requests.map((one) => one.headers['x-webhook-attempt'])).toEqual(
        Array.from({ length: 31 }, (_, index) => String(index + 1)),
      )
      // A new timestamp and a new signature each time, and all of them valid.
      expect(new Set(requests.map((one) => one.headers['webhook-signature'])).size).toBe(31)
      expect(requests.every((one) => one.signature === 'valid')).toBe(true)
      expect(requests.map((one) => Number(one.headers['webhook-timestamp']) * 1_000)).toEqual(
        Array.from({ length: 31 }, (_, index) => startMs + index * dayMs),
      )
    },
  )

  journey('peers 20: the standard schedule reaches its last step after 75 hours', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 503 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    const startMs = stage.clock.nowMs()
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    expect(stage.at('shop')).toHaveLength(10)
    expect(stage.clock.nowMs() - startMs).toBeGreaterThan(74 * 3_600_000)
  })

  journey('an endpoint that recovers gets the event at the next attempt', async (stage) => {
    let failures = 2
    stage.inbox.setAnswer(() => {
      failures -= 1
      return { status: failures >= 0 ? 502 : 204 }
    })
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const delivery = await stage.delivery(service, 'evt_1', 'shop')
    expect(delivery).toMatchObject({ state: 'delivered', reason: 'accepted', attemptCount: 3 })
    expect(delivery.attempts.map((one) => one.outcome)).toEqual(['faulted', 'faulted', 'accepted'])
  })

  journey('peers 23: maxRetries: undefined is the default of 3', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ maxRetries: undefined })
    await service.registerEndpoint(stage.endpoint('shop'))
    const retryConfig = { maxRetries: undefined }
    await service.registerEndpoint(stage.endpoint('own', { retryConfig }))
    await service.registerEndpoint(stage.endpoint('none', { retryConfig: { maxRetries: 0 } }))
    await service.dispatchEvent(stage.event())
    await stage.passTime(service)
    expect(['shop', 'own', 'none'].map((id) => stage.at(id).length)).toEqual([4, 4, 1])
  })

  journey('peers 23: maxRetries: 0 sends once', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ maxRetries: 0 })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    expect(stage.at('shop')).toHaveLength(1)
    const delivery = await stage.delivery(service, 'evt_1', 'shop')
    expect(delivery).toMatchObject({ state: 'exhausted', attemptCount: 1 })
  })

  journey('maxRetries: 3 sends four times, 1 s, 2 s and 4 s apart', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const startMs = stage.clock.nowMs()
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const { attempts } = await stage.delivery(service, 'evt_1', 'shop')
    expect(attempts.map((one) => one.startedAt.getTime() - startMs)).toEqual([
      0, 1_000, 3_000, 7_000,
    ])
  })

  journey('a delay longer than a timer of Node can count is kept', async (stage) => {
    const delayMs = 2 ** 31 + 12_345
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ retryScheduleMs: [delayMs] })
    await service.registerEndpoint(stage.endpoint('shop'))
    const startMs = stage.clock.nowMs()
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect((await service.nextDueAt())?.getTime()).toBe(startMs + delayMs)
    stage.clock.advance(delayMs - 1)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
    stage.clock.advance(1)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey('a due time outlives the service', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const first = await stage.open({ retryScheduleMs: [dayMs, dayMs] })
    await first.registerEndpoint(stage.endpoint('shop'))
    await first.dispatchEvent(stage.event({ id: 'evt_1' }))
    await first.runDue()
    const dueAt = await first.nextDueAt()
    await first.close()
    const second = await stage.open({ retryScheduleMs: [dayMs, dayMs] })
    expect(await second.nextDueAt()).toEqual(dueAt)
    await second.runDue()
    expect(stage.at('shop')).toHaveLength(1)
    await stage.passTime(second)
    expect((await stage.delivery(second, 'evt_1', 'shop')).attemptCount).toBe(3)
  })

  journey('the answer decides whether another attempt follows', async (stage) => {
    const table = [
      [200, 'delivered', 'accepted', 1],
      [204, 'delivered', 'accepted', 1],
      [400, 'rejected', 'status_400', 1],
      [401, 'rejected', 'status_401', 1],
      [404, 'rejected', 'status_404', 1],
      [422, 'rejected', 'status_422', 1],
      [408, 'exhausted', 'HTTP 408', 4],
      [429, 'exhausted', 'HTTP 429', 4],
      [500, 'exhausted', 'HTTP 500', 4],
      [503, 'exhausted', 'HTTP 503', 4],
    ] as const
    stage.inbox.setAnswer(({ path }) => ({ status: Number(path.slice('/s'.length)) }))
    const service = await stage.open()
    for (const [status] of table) await service.registerEndpoint(stage.endpoint(`s${status}`))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const seen = await Promise.all(
      table.map(async ([status]) => {
        const { state, reason } = await stage.delivery(service, 'evt_1', `s${status}`)
        return [status, state, reason, stage.at(`s${status}`).length]
      }),
    )
    expect(seen).toEqual(table)
  })

  journey('peers 22: whatever keeps it from being reached is retried', async (stage) => {
    stage.inbox.setAnswer(({ path }) =>
      path === '/silent' ? { after: new Promise(() => {}) } : {},
    )
    const resets = createServer((socket) => socket.once('data', () => socket.resetAndDestroy()))
    await new Promise<void>((resolve) => resets.listen(0, '127.0.0.1', resolve))
    const { port } = resets.address() as AddressInfo
    const noSuchName = Object.assign(new Error('reworded by the runtime'), { code: 'ENOTFOUND' })
    const service = await stage.open({ lookup: (_, callback) => callback(noSuchName, []) })
    const kinds = {
      // Port 9 of this machine: nobody listens there.
      closed: ['http://127.0.0.1:9/', 'could not be reached (ECONNREFUSED)'],
      reset: [`http://127.0.0.1:${port}/`, 'could not be reached (ECONNRESET)'],
      nameless: ['http://nobody.example/', 'the host has no address that may be used'],
      silent: [`${stage.inbox.url}/silent`, 'timed out (headers)'],
    }
    for (const [id, [url]] of Object.entries(kinds)) {
      await service.registerEndpoint(stage.endpoint(id, { url: url ?? '', timeoutMs: 100 }))
    }
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    for (const [id, [, error]] of Object.entries(kinds)) {
      const delivery = await stage.delivery(service, 'evt_1', id)
      expect(delivery).toMatchObject({ state: 'exhausted', attemptCount: 4 })
      const met = Array(4).fill(expect.stringContaining(error ?? ''))
      expect(delivery.attempts.map((one) => one.error)).toEqual(met)
    }
    await new Promise((resolve) => resets.close(resolve))
  })

  journey('an endpoint that never answers is cut at its time limit and retried', async (stage) => {
    const never = new Promise<void>(() => {})
    stage.inbox.setAnswer(() => ({ after: never }))
    const service = await stage.open({ maxRetries: 1 })
    await service.registerEndpoint(stage.endpoint('slow', { timeoutMs: 50 }))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const delivery = await stage.delivery(service, 'evt_1', 'slow')
    expect(delivery).toMatchObject({ state: 'exhausted', reason: 'timed out (headers)' })
    expect(delivery.attempts.every((one) => one.latencyMs >= 45 && one.latencyMs < 2_000)).toBe(
      true,
    )
  })
})
