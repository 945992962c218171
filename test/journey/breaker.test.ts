// An endpoint that fails is left alone, and comes back slowly; one with a limit is kept to it.

import type { WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { journey, type Stage } from './stage.ts'

const seconds = 1_000
const config = { retryScheduleMs: Array.from({ length: 50 }, () => 15 * seconds) }

function tellings(service: WebhookService): string[] {
  const told: string[] = []
  service.on('endpoint.breaker.opened', ({ openings }) => told.push(`opened ${openings}`))
  service.on('endpoint.breaker.half-open', () => told.push('half-open'))
  service.on('endpoint.breaker.closed', () => told.push('closed'))
  return told
}

/** 25 events for an endpoint that fails: open after the first of them was tried again. */
async function broken(stage: Stage, service: WebhookService): Promise<void> {
  stage.inbox.setAnswer(() => ({ status: 500 }))
  await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
  await service.dispatchEvents(Array.from({ length: 25 }, () => stage.event()))
  await service.runDue()
  expect((await service.getEndpoint('shop'))?.breaker).toEqual({ state: 'closed', until: null })
  stage.clock.advance(15 * seconds)
  await service.runDue()
  const until = new Date(stage.clock.nowMs() + 30 * seconds)
  expect((await service.getEndpoint('shop'))?.breaker).toEqual({ state: 'open', until })
}

describe('the breaker of an endpoint', () => {
  journey('opens, is probed, closes: nothing is lost and no attempt used up', async (stage) => {
    const service = await stage.open(config)
    const told = tellings(service)
    await broken(stage, service)
    const tried = stage.at('shop').length
    expect(told).toEqual(['opened 1'])
    await service.dispatchEvent(stage.event({ id: 'late' }))
    stage.clock.advance(29 * seconds)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(tried)
    expect(await stage.delivery(service, 'late', 'shop')).toMatchObject({
      state: 'waiting',
      attemptCount: 0,
      waiting: { for: 'breaker', until: new Date(stage.clock.nowMs() + 1 * seconds) },
    })
    // Still failing: one request, and twice as long.
    stage.clock.advance(1 * seconds)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(tried + 1)
    expect(told).toEqual(['opened 1', 'half-open', 'opened 2'])
    stage.inbox.setAnswer(() => undefined)
    stage.clock.advance(60 * seconds)
    await service.runDue()
    await stage.passTime(service)
    expect(told.slice(3)).toEqual(['half-open', 'closed'])
    expect((await service.getEndpoint('shop'))?.breaker).toEqual({ state: 'closed', until: null })
    const { deliveries } = await service.listDeliveries()
    expect(deliveries.map(({ state }) => state)).toEqual(Array(26).fill('delivered'))
    const attempts = deliveries.reduce((sum, { attemptCount }) => sum + attemptCount, 0)
    expect(attempts).toBe(stage.at('shop').length)
  })

  journey('is open after a restart, for the rest of its time', async (stage) => {
    const first = await stage.open(config)
    await broken(stage, first)
    const tried = stage.at('shop').length
    await first.close()
    stage.inbox.setAnswer(() => undefined)
    const second = await stage.open(config)
    expect((await second.getEndpoint('shop'))?.breaker.state).toBe('open')
    stage.clock.advance(29 * seconds)
    await second.runDue()
    expect(stage.at('shop')).toHaveLength(tried)
    await stage.passTime(second)
    expect(
      new Set(
        stage
          .at('shop')
          .slice(tried)
          .map(({ events }) => events[0]?.id),
      ).size,
    ).toBe(25)
  })

  journey(
    'flaps for three hours: each bad spell costs few requests, nothing is lost',
    async (stage) => {
      const minutes = 60 * seconds
      const startMs = stage.clock.nowMs()
      const spell = () => Math.floor((stage.clock.nowMs() - startMs) / (10 * minutes))
      const failures = new Map<number, number>()
      stage.inbox.setAnswer(() => {
        if (spell() % 2 === 1) return undefined
        failures.set(spell(), (failures.get(spell()) ?? 0) + 1)
        return { status: 500 }
      })
      const service = await stage.open({ retryScheduleMs: Array(100).fill(1 * minutes) })
      const told = tellings(service)
      await service.registerEndpoint(stage.endpoint('shop'))
      for (let minute = 1; minute <= 180; minute += 1) {
        await service.dispatchEvents([stage.event(), stage.event(), stage.event()])
        await stage.passTime(service, startMs + minute * minutes)
      }
      await stage.passTime(service)
      // Opened anew in each spell, and for 30 s at first: a good one clears what was before.
      expect(told.filter((one) => one === 'opened 1')).toHaveLength(9)
      expect(told.filter((one) => one === 'closed')).toHaveLength(9)
      // Without a breaker it would be 30 events, each tried every minute: 165.
      expect(failures.size).toBe(9)
      for (const count of failures.values()) expect(count).toBeLessThan(50)
      const { deliveries } = await service.listDeliveries({ limit: 1_000 })
      expect(deliveries.map(({ state }) => state)).toEqual(Array(540).fill('delivered'))
      const attempts = deliveries.reduce((sum, { attemptCount }) => sum + attemptCount, 0)
      expect(attempts).toBe(stage.at('shop').length)
    },
  )

  journey('of one does not hold up another', async (stage) => {
    const service = await stage.open(config)
    await broken(stage, service)
    await service.registerEndpoint(stage.endpoint('other'))
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('other')).toHaveLength(1)
  })
})

describe('a rate limit', () => {
  journey(
    'peers 13: spreads what is sent, uses up no attempt, and can be changed',
    async (stage) => {
      const service = await stage.open(config)
      const rateLimit = { limit: 5, perMs: 1_000 }
      const registered = await service.registerEndpoint(stage.endpoint('shop', { rateLimit }))
      expect(registered.rateLimit).toEqual(rateLimit)
      await service.dispatchEvents(Array.from({ length: 20 }, () => stage.event()))
      await service.runDue()
      const fromMs = stage.clock.nowMs()
      expect(stage.at('shop')).toHaveLength(1)
      const { deliveries: held } = await service.listDeliveries({ state: 'waiting' })
      const waits = await service.getDelivery(held[0]?.id ?? '')
      expect(waits?.waiting?.for).toBe('rate')
      expect(waits?.waiting?.until?.getTime()).toBeGreaterThan(fromMs)
      await stage.passTime(service, fromMs + 999)
      expect(stage.at('shop')).toHaveLength(5)
      const changed = await service.updateEndpoint('shop', { rateLimit: null })
      expect(changed).toMatchObject({ rateLimit: null, version: 2 })
      await service.runDue()
      expect(stage.at('shop')).toHaveLength(20)
      const { deliveries } = await service.listDeliveries()
      expect(new Set(deliveries.map(({ attemptCount }) => attemptCount))).toEqual(new Set([1]))
    },
  )

  journey('of one a minute goes on where processes end sooner than that', async (stage) => {
    const rateLimit = { limit: 1, perMs: 60_000 }
    let service = await stage.open(config)
    await service.registerEndpoint(stage.endpoint('shop', { rateLimit }))
    await service.dispatchEvents(Array.from({ length: 6 }, () => stage.event()))
    const sentAtMs: number[] = []
    for (let lives = 0; lives < 40; lives += 1) {
      await service.runDue()
      while (sentAtMs.length < stage.at('shop').length) sentAtMs.push(stage.clock.nowMs())
      await service.close()
      stage.clock.advance(7_000)
      service = await stage.open(config)
    }
    expect(sentAtMs.length).toBeGreaterThan(4)
    const gapsMs = sentAtMs.slice(1).map((ms, i) => ms - (sentAtMs[i] ?? 0))
    expect(Math.min(...gapsMs)).toBeGreaterThanOrEqual(60_000)
    expect(Math.max(...gapsMs)).toBeLessThan(60_000 + 2 * 7_000)
  })

  journey('of the service is that of every endpoint without one', async (stage) => {
    const service = await stage.open({ ...config, endpointRateLimit: { limit: 1, perMs: 60_000 } })
    await service.registerEndpoint(stage.endpoint('slow'))
    await service.registerEndpoint(
      stage.endpoint('quick', { rateLimit: { limit: 100_000, perMs: 1 } }),
    )
    await service.dispatchEvents(Array.from({ length: 3 }, () => stage.event()))
    await stage.passTime(service, stage.clock.nowMs() + 50)
    expect(stage.at('slow')).toHaveLength(1)
    expect(stage.at('quick')).toHaveLength(3)
  })
})

describe('a service with `deliver: false`', () => {
  journey('accepts and answers; who opens the store next delivers', async (stage) => {
    const front = await stage.open({ ...config, deliver: false })
    await front.registerEndpoint(stage.endpoint('shop'))
    const { deliveryIds } = await front.dispatchEvent(stage.event())
    await front.runDue()
    await front.drain()
    expect(stage.at('shop')).toHaveLength(0)
    expect(await front.getDelivery(deliveryIds[0] ?? '')).toMatchObject({ state: 'waiting' })
    await front.close()
    const back = await stage.open(config)
    await back.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })
})
