/**
 * What other systems of this kind got wrong, where no test elsewhere is about it. The number after
 * `peers` is that of the behaviour; test/peers.test.ts holds the list of them.
 */
import { WebhookError } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import type { CommitGroup } from '../../src/storage/commit-records.ts'
import type { Store } from '../../src/storage/storage.ts'
import { between, gate, journey } from './stage.ts'

const minuteMs = 60_000
const dayMs = 86_400_000

const unavailable = () => new WebhookError('STORAGE_UNAVAILABLE', 'Expected a store, got none.')

describe('nothing is lost:', () => {
  journey('peers 1: an event is answered for when all of it is stored at once', async (stage) => {
    const held = gate()
    const carried: [string, number[]][] = []
    const storage = between(stage.storage(), async (verb, ask, [group]) => {
      if (verb !== 'commit') return ask()
      const { accepts } = group as CommitGroup
      for (const { event, deliveries } of accepts) {
        carried.push([event.id, deliveries.map(({ dueAtMs }) => dueAtMs)])
      }
      if (accepts.length > 0) await held.opened
      return ask()
    })
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.registerEndpoint(stage.endpoint('other'))
    const deliverAt = new Date(stage.clock.nowMs() + dayMs)
    let isAnswered = false
    const dispatched = service.dispatchEvent(stage.event({ id: 'evt_1' }), { deliverAt })
    const answered = dispatched.then(() => {
      isAnswered = true
    })
    for (let question = 0; question < 20; question += 1) await service.health()
    expect(isAnswered).toBe(false)
    expect(await service.getEvent('evt_1')).toBeNull()
    held.open()
    await answered
    for (const id of ['shop', 'other']) {
      const waits = { state: 'waiting', nextAttemptAt: deliverAt }
      expect(await stage.delivery(service, 'evt_1', id)).toMatchObject(waits)
    }
    // A commit that finds an endpoint it did not know of is matched anew, and stores nothing before.
    expect(carried.at(-1)).toEqual(['evt_1', [deliverAt.getTime(), deliverAt.getTime()]])
  })

  journey('peers 5: a success that cannot be recorded is recorded again', async (stage) => {
    let refusals = 3
    const storage = between(stage.storage(), async (verb, ask, [group]) => {
      const isOutcome = verb === 'commit' && (group as CommitGroup).settlements.length > 0
      if (!isOutcome || refusals === 0) return ask()
      refusals -= 1
      throw unavailable()
    })
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    const failed: unknown[] = []
    service.on('delivery.failed', (fact) => failed.push(fact))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.until(service.drain())
    expect(refusals).toBe(0)
    expect(stage.at('shop')).toHaveLength(1)
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({
      state: 'delivered',
      attemptCount: 1,
      attempts: [{ number: 1, outcome: 'accepted' }],
    })
    expect(failed).toEqual([])
  })

  journey('peers 6: a retry needs its own row, and nothing that is a log', async (stage) => {
    const logs: (keyof Store)[] = ['attemptsOf', 'findDelivery', 'findEvent', 'listDeliveries']
    let isLogGone = true
    const logless = () =>
      between(stage.storage(), (verb, ask) => {
        if (isLogGone && logs.includes(verb)) throw unavailable()
        return ask()
      })
    const logger = Object.fromEntries(
      ['debug', 'info', 'warn', 'error'].map((level) => [
        level,
        () => {
          throw new Error('the log is full')
        },
      ]),
    ) as unknown as Console
    const config = { logger, retryScheduleMs: [minuteMs, dayMs, dayMs] }
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length < 4 ? 500 : 200 }))
    const first = await stage.open({ ...config, storage: logless() })
    await first.registerEndpoint(stage.endpoint('shop'))
    await first.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(first, stage.clock.nowMs() + minuteMs)
    expect(stage.at('shop')).toHaveLength(2)
    await first.close()
    const second = await stage.open({ ...config, storage: logless() })
    await stage.passTime(second)
    expect(stage.at('shop').map(({ headers }) => headers['x-webhook-attempt'])).toEqual([
      ...['1', '2', '3', '4'],
    ])
    isLogGone = false
    expect(await stage.delivery(second, 'evt_1', 'shop')).toMatchObject({ state: 'delivered' })
  })

  journey(
    'peers 7: a store that is away for ten minutes: no restart, and one line',
    async (stage) => {
      let isAway = false
      const storage = between(stage.storage(), (_, ask) => {
        if (isAway) throw unavailable()
        return ask()
      })
      const lines: string[] = []
      const write = (_: unknown, line: string) => lines.push(line)
      const logger = { debug() {}, info: write, warn: write, error: write }
      stage.inbox.setAnswer(({ headers }) => ({
        status: headers['x-webhook-attempt'] === '1' ? 503 : 200,
      }))
      const rateLimit = { limit: 100, perMs: 1_000 }
      const service = await stage.open({ storage, logger, retryScheduleMs: [minuteMs] })
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.registerEndpoint(stage.endpoint('limited', { rateLimit }))
      await service.dispatchEvent(stage.event({ id: 'before' }))
      await stage.passTime(service, stage.clock.nowMs() + 1_000)
      expect(stage.inbox.received).toHaveLength(2)

      isAway = true
      const refused = service.dispatchEvent(stage.event({ id: 'during' }))
      await expect(stage.until(refused)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
      for (const endMs = stage.clock.nowMs() + 10 * minuteMs; stage.clock.nowMs() < endMs; ) {
        stage.clock.advance(200)
        await new Promise(setImmediate)
      }
      expect(await service.health()).toMatchObject({ status: 'degraded' })
      isAway = false
      await stage.until(service.dispatchEvent(stage.event({ id: 'after' })))
      await stage.until(service.drain(), minuteMs)
      for (const id of ['before', 'after']) {
        for (const endpointId of ['shop', 'limited']) {
          expect(await stage.delivery(service, id, endpointId)).toMatchObject({
            state: 'delivered',
          })
        }
      }
      expect(await service.health()).toMatchObject({ status: 'ok', trouble: null })
      const about = (text: string) => lines.filter((line) => line.includes(text))
      expect(about('due deliveries cannot be read')).toHaveLength(1)
      expect(about('due deliveries are read again')).toHaveLength(1)
    },
  )

  journey('peers 8: the end comes in time, however much is queued', async (stage) => {
    stage.inbox.setAnswer(() => ({ after: new Promise(() => {}) }))
    const service = await stage.open({ shutdownTimeoutMs: 2_000 })
    for (const id of ['a', 'b', 'c']) await service.registerEndpoint(stage.endpoint(id))
    await service.dispatchEvents(Array.from({ length: 500 }, () => stage.event()))
    await stage.inbox.waitForCount(30)
    const startMs = stage.clock.nowMs()
    const closed = service.close()
    await stage.passed(2_000)
    await closed
    expect(stage.clock.nowMs() - startMs).toBe(2_000)
    expect(stage.inbox.received).toHaveLength(30)
    const second = await stage.open({ deliver: false })
    expect((await second.health()).backlog).toMatchObject({ waiting: 1_500, delivering: 0 })
  })
})

describe('endpoints are apart:', () => {
  journey(
    'peers 11: those of one event are sent to side by side, each on its own',
    async (stage) => {
      const all = gate()
      const hangs = gate()
      stage.inbox.setAnswer(({ path, headers }) => {
        const first = headers['x-webhook-attempt'] === '1'
        // Nobody is answered before everybody was asked: one after the other would never end.
        if (stage.inbox.received.length === 3) all.open()
        if (path === '/hangs') return { after: hangs.opened }
        const status = path === '/weak' && first ? 503 : 200
        return first ? { status, after: all.opened } : { status }
      })
      const service = await stage.open({ retryScheduleMs: [minuteMs, minuteMs] })
      for (const id of ['hangs', 'weak', 'well']) await service.registerEndpoint(stage.endpoint(id))
      const startMs = stage.clock.nowMs()
      const twoSettled = new Promise<void>((resolve) => {
        let left = 2
        service.on('attempt.settled', () => {
          left -= 1
          if (left === 0) resolve()
        })
      })
      await service.dispatchEvent(stage.event({ id: 'evt_1' }))
      // A store may let outcomes wait a moment for others: the clock has to go on.
      await stage.until(twoSettled, 10)
      expect(await stage.delivery(service, 'evt_1', 'well')).toMatchObject({ state: 'delivered' })
      expect(await stage.delivery(service, 'evt_1', 'weak')).toMatchObject({
        state: 'waiting',
        attemptCount: 1,
        nextAttemptAt: new Date(startMs + minuteMs),
      })
      expect(await stage.delivery(service, 'evt_1', 'hangs')).toMatchObject({
        state: 'delivering',
        attemptCount: 0,
      })
      stage.clock.advance(minuteMs)
      await stage.inbox.waitForCount(4)
      hangs.open()
      await service.drain()
      expect(stage.at('weak').map(({ headers }) => headers['x-webhook-attempt'])).toEqual([
        '1',
        '2',
      ])
      expect(await stage.delivery(service, 'evt_1', 'hangs')).toMatchObject({ attemptCount: 1 })
    },
  )

  journey('peers 19: a proxy that fails is not held against an endpoint', async (stage) => {
    const service = await stage.open({
      // Port 9 of this machine: nobody listens there, and nothing leaves.
      proxy: 'http://127.0.0.1:9',
      retryScheduleMs: Array(20).fill(minuteMs),
      disableAfterMs: dayMs,
    })
    await service.registerEndpoint(stage.endpoint('far', { url: 'http://8.8.8.8/' }))
    const told: string[] = []
    service.on('endpoint.breaker.opened', () => told.push('opened'))
    service.on('endpoint.failing', () => told.push('failing'))
    for (let hour = 0; hour < 30; hour += 1) {
      await service.dispatchEvent(stage.event({ id: `evt_${hour}` }))
      await stage.passTime(service, stage.clock.nowMs() + 3_600_000)
    }
    const { attempts } = await stage.delivery(service, 'evt_0', 'far')
    expect(attempts).toHaveLength(21)
    expect(told).toEqual([])
    expect(await service.getEndpoint('far')).toMatchObject({
      status: 'active',
      breaker: { state: 'closed' },
    })
  })

  journey('peers 31: two may share a url, and one of them may go', async (stage) => {
    const service = await stage.open()
    const url = `${stage.inbox.url}/same`
    await service.registerEndpoint(stage.endpoint('first', { url }))
    await service.registerEndpoint(stage.endpoint('second', { url }))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    await service.removeEndpoint('second')
    await service.dispatchEvent(stage.event({ id: 'evt_2' }))
    await service.drain()
    expect(stage.at('same').map(({ headers }) => headers['webhook-id'])).toEqual([
      ...['evt_1', 'evt_1', 'evt_2'],
    ])
    expect(await stage.delivery(service, 'evt_2', 'first')).toMatchObject({ state: 'delivered' })
  })

  journey(
    'peers 32: what is registered or changed counts from the next event on',
    async (stage) => {
      const service = await stage.open()
      const reached = async (id: string) => {
        await service.dispatchEvent(stage.event({ id }))
        const report = await service.getEvent(id)
        return report?.deliveries.map(({ endpointId }) => endpointId)
      }
      expect(await reached('before')).toEqual([])
      await service.registerEndpoint(stage.endpoint('shop', { events: ['message.sent'] }))
      expect(await reached('new')).toEqual(['shop'])
      await service.updateEndpoint('shop', { events: ['message.read'] })
      expect(await reached('changed')).toEqual([])
      await service.updateEndpoint('shop', { events: ['*'], active: false })
      expect(await reached('disabled')).toEqual([])
      await service.enableEndpoint('shop')
      expect(await reached('enabled')).toEqual(['shop'])
      await service.removeEndpoint('shop')
      expect(await reached('removed')).toEqual([])
      await service.drain()
    },
  )
})
