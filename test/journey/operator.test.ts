// What an operator does takes effect: at once, for all that waits, and whoever listens is told.

import type { WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { between, gate, journey, type Stage } from './stage.ts'

const seconds = 1_000
const hours = 3_600 * seconds

function held(stage: Stage): void {
  stage.inbox.setAnswer(() => ({ status: 429, headers: { 'retry-after': '86400' } }))
}

async function flowOf(service: WebhookService): Promise<unknown> {
  const { heldUntil, breaker } = (await service.getEndpoint('shop')) ?? {}
  return { heldUntil, breaker }
}

const free = { heldUntil: null, breaker: { state: 'closed', until: null } }

/** Its receiver wants to be left alone for a day, and an event came after that. */
async function heldWithOneWaiting(stage: Stage): Promise<WebhookService> {
  const service = await stage.open({ retryScheduleMs: 'standard' })
  held(stage)
  await service.registerEndpoint(stage.endpoint('shop'))
  await service.dispatchEvent(stage.event({ id: 'first' }))
  await service.runDue()
  await service.dispatchEvent(stage.event({ id: 'second' }))
  await service.runDue()
  expect(stage.inbox.received).toHaveLength(1)
  stage.inbox.setAnswer(() => undefined)
  return service
}

describe('a hold', () => {
  journey('is lifted by another address, to which it never belonged', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.updateEndpoint('shop', { name: 'the shop' })
    await service.testEndpoint('shop')
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
    const updated = await service.updateEndpoint('shop', { url: `${stage.inbox.url}/new` })
    expect(updated.heldUntil).toBeNull()
    await service.runDue()
    expect(stage.at('new').map(({ events }) => events[0]?.id)).toEqual(['second'])
    // Its own next attempt stays where it was.
    expect((await stage.delivery(service, 'first', 'shop')).state).toBe('waiting')
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('new')).toHaveLength(2)
  })

  journey('is lifted by a registration with another address', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.registerEndpoint(stage.endpoint('shop', { url: `${stage.inbox.url}/new` }))
    await service.runDue()
    expect(stage.at('new')).toHaveLength(1)
  })

  journey('is lifted by resumeEndpoint, of an active endpoint as well', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    const { version } = await service.resumeEndpoint('shop', 'they have seen to it')
    expect(await flowOf(service)).toEqual(free)
    await service.runDue()
    expect(stage.at('shop').map(({ events }) => events[0]?.id)).toEqual(['first', 'second'])
    expect((await service.getEndpointHistory('shop')).at(-1)).toMatchObject({
      what: 'resumed',
      reason: 'they have seen to it',
    })
    // Nothing keeps it back any more: nothing changes.
    expect(await service.resumeEndpoint('shop')).toMatchObject({ version })
  })

  journey('is lifted by pause and resume, and by disable and enable', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.pauseEndpoint('shop')
    expect((await service.getEndpoint('shop'))?.heldUntil).not.toBeNull()
    await service.resumeEndpoint('shop')
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
    held(stage)
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect((await service.getEndpoint('shop'))?.heldUntil).not.toBeNull()
    stage.inbox.setAnswer(() => undefined)
    await service.disableEndpoint('shop')
    await service.enableEndpoint('shop')
    await service.dispatchEvent(stage.event({ id: 'last' }))
    await service.runDue()
    expect(stage.at('shop').at(-1)?.events[0]?.id).toBe('last')
  })

  journey('is lifted for good: a restart does not know of it', async (stage) => {
    const first = await heldWithOneWaiting(stage)
    await first.pauseEndpoint('shop')
    await first.resumeEndpoint('shop')
    await first.close()
    const second = await stage.open({ retryScheduleMs: 'standard' })
    expect(await flowOf(second)).toEqual(free)
    await second.runDue()
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey('stays when one delivery is retried', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.retryDelivery((await stage.delivery(service, 'first', 'shop')).id)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('that the old address asks for late is none of the new one', async (stage) => {
    const answer = gate()
    stage.inbox.setAnswer(({ path }) =>
      path === '/shop'
        ? { status: 503, headers: { 'retry-after': '86400' }, after: answer.opened }
        : undefined,
    )
    const service = await stage.open({ retryScheduleMs: [10 * seconds] })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event())
    await stage.inbox.waitForCount(1)
    await service.updateEndpoint('shop', { url: `${stage.inbox.url}/new` })
    answer.open()
    await service.runDue()
    expect(await flowOf(service)).toEqual(free)
    await stage.passTime(service, stage.clock.nowMs() + 10 * seconds)
    expect(stage.at('new')).toHaveLength(1)
  })

  journey('that is asked for after it was lifted counts', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    held(stage)
    await service.resumeEndpoint('shop')
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
    const heldUntil = new Date(stage.clock.nowMs() + 24 * hours)
    expect(await service.getEndpoint('shop')).toMatchObject({ heldUntil })
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
  })
})

describe('an open breaker', () => {
  async function broken(stage: Stage): Promise<WebhookService> {
    const service = await stage.open({ retryScheduleMs: Array(50).fill(15 * seconds) })
    stage.inbox.setAnswer(() => ({ status: 500 }))
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.dispatchEvents(Array.from({ length: 25 }, () => stage.event()))
    await service.runDue()
    stage.clock.advance(15 * seconds)
    await service.runDue()
    expect((await service.getEndpoint('shop'))?.breaker.state).toBe('open')
    await service.dispatchEvent(stage.event({ id: 'after' }))
    await service.runDue()
    stage.inbox.setAnswer(() => undefined)
    return service
  }

  journey('is closed by another address', async (stage) => {
    const service = await broken(stage)
    await service.updateEndpoint('shop', { url: `${stage.inbox.url}/new` })
    await service.runDue()
    expect(stage.at('new').map(({ events }) => events[0]?.id)).toContain('after')
    expect(await flowOf(service)).toEqual(free)
  })

  journey('is closed by enableEndpoint, and opens again for the first time', async (stage) => {
    const service = await broken(stage)
    const told: number[] = []
    service.on('endpoint.breaker.opened', ({ openings }) => told.push(openings))
    let closed = 0
    service.on('endpoint.breaker.closed', () => {
      closed += 1
    })
    await service.enableEndpoint('shop', 'repaired')
    expect(closed).toBe(1)
    expect(await flowOf(service)).toEqual(free)
    const before = stage.at('shop').length
    stage.inbox.setAnswer(() => ({ status: 500 }))
    await stage.passTime(service, stage.clock.nowMs() + 60 * seconds)
    expect(stage.at('shop').length).toBeGreaterThan(before + 19)
    expect(told[0]).toBe(1)
  })
})

describe('drain, when nothing is left of what was held', () => {
  /** Resolves although nobody moves the clock, and says that nothing is due any more. */
  async function nothingLeft(service: WebhookService): Promise<void> {
    await service.drain()
    expect(await service.nextDueAt()).toBeNull()
    expect((await service.health()).backlog).toMatchObject({ waiting: 0, delivering: 0 })
  }

  journey('waits no longer than for what was cancelled', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    expect(await service.nextDueAt()).not.toBeNull()
    const { id } = await stage.delivery(service, 'second', 'shop')
    await service.cancelDelivery(id)
    expect(await service.nextDueAt()).toEqual(new Date(stage.clock.nowMs() + 24 * hours))
    await service.cancelPending('shop')
    await nothingLeft(service)
    await service.dispatchEvent(stage.event({ id: 'third' }))
    await service.cancelDelivery((await stage.delivery(service, 'third', 'shop')).id)
    await nothingLeft(service)
  })

  journey('does not wait for what was erased', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.eraseEvents({ ids: ['first', 'second'] })
    await nothingLeft(service)
  })

  journey('does not wait for what has expired', async (stage) => {
    const service = await heldWithOneWaiting(stage)
    await service.cancelPending('shop')
    const expiresAt = new Date(stage.clock.nowMs() + 30 * seconds)
    await service.dispatchEvent(stage.event(), { expiresAt })
    const expired = new Promise((resolve) => service.on('delivery.cancelled', resolve))
    stage.clock.advance(120 * seconds)
    await expired
    await nothingLeft(service)
  })

  journey('does not wait for a breaker either, nor for a batch', async (stage) => {
    const service = await stage.open({ retryScheduleMs: Array(50).fill(15 * seconds) })
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const batch = { size: 5, timeoutMs: 60 * seconds }
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.dispatchEvents(Array.from({ length: 25 }, () => stage.event()))
    await service.runDue()
    stage.clock.advance(15 * seconds)
    await service.runDue()
    expect((await service.getEndpoint('shop'))?.breaker.state).toBe('open')
    await service.updateEndpoint('shop', { batch })
    await service.dispatchEvents(Array.from({ length: 7 }, () => stage.event()))
    expect(await service.cancelPending('shop')).toBe(32)
    await nothingLeft(service)
    expect((await service.getEndpoint('shop'))?.breaker.state).toBe('open')
  })
})

describe('enableEndpoint', () => {
  async function ends(service: WebhookService): Promise<Record<string, number>> {
    const found: Record<string, number> = {}
    for (let cursor: string | undefined; ; ) {
      const page = await service.listDeliveries({ limit: 1_000, cursor })
      for (const { state, reason } of page.deliveries) {
        const end = reason === null ? state : `${state} ${reason}`
        found[end] = (found[end] ?? 0) + 1
      }
      if (page.nextCursor === null) return found
      cursor = page.nextCursor
    }
  }

  const many = (stage: Stage, count: number) => Array.from({ length: count }, () => stage.event())

  /** A store whose cancelling stands still until it is let go. */
  function slowlyCancelling(stage: Stage) {
    const hold = gate()
    const asked: (() => void)[] = []
    let count = 0
    const storage = between(stage.storage(), async (verb, ask) => {
      if (verb !== 'cancelDeliveries') return ask()
      count += 1
      for (const tell of asked.splice(0)) tell()
      await hold.opened
      return ask()
    })
    const askedTimes = async (times: number) => {
      while (count < times) await new Promise<void>((resolve) => asked.push(resolve))
    }
    return { storage, open: hold.open, askedTimes }
  }

  journey('begins after the end of all that waited when it was disabled', async (stage) => {
    const { storage, open, askedTimes } = slowlyCancelling(stage)
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.dispatchEvents(many(stage, 1_500))
    const changed = [service.disableEndpoint('shop'), service.enableEndpoint('shop')] as const
    const enabled = changed[1].then(() => 'enabled')
    // Once by the disabling, in the background, and once for the enabling.
    expect(await Promise.race([enabled, askedTimes(2)])).toBeUndefined()
    expect((await service.getEndpoint('shop'))?.status).toBe('disabled')
    open()
    await enabled
    expect(await ends(service)).toEqual({ 'cancelled endpoint_disabled': 1_500 })
    await service.dispatchEvent(stage.event({ id: 'after' }))
    await service.runDue()
    expect(stage.at('shop').map(({ events }) => events[0]?.id)).toEqual(['after'])
  })

  journey('of updateEndpoint ends what a process left that was stopped', async (stage) => {
    // It cancels nothing, as if it had been killed before it could.
    const killed = between(stage.storage(), async (verb, ask) =>
      verb === 'cancelDeliveries' ? [] : ask(),
    )
    const first = await stage.open({ storage: killed })
    await first.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await first.dispatchEvents(many(stage, 20))
    await first.disableEndpoint('shop')
    await first.close()
    const again = slowlyCancelling(stage)
    const second = await stage.open({ storage: again.storage })
    const enabled = second.updateEndpoint('shop', { active: true }).then(({ status }) => status)
    expect(await Promise.race([enabled, again.askedTimes(2)])).toBeUndefined()
    again.open()
    expect(await enabled).toBe('active')
    await second.runDue()
    expect(await ends(second)).toEqual({ 'cancelled endpoint_disabled': 20 })
  })

  journey('lets nothing go that lay in a lane, and the request under way end', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.dispatchEvents(many(stage, 500))
    await stage.inbox.waitForCount(1)
    await service.disableEndpoint('shop')
    await service.enableEndpoint('shop')
    hold.open()
    await service.drain()
    expect(await ends(service)).toEqual({
      'cancelled endpoint_disabled': 499,
      'delivered accepted': 1,
    })
  })
})

describe('delivery.cancelled', () => {
  interface Told {
    deliveryId: string
    endpointId: string
    reason: string
  }

  function listen(service: WebhookService): Told[] {
    const told: Told[] = []
    service.on('delivery.cancelled', (fact) => told.push(fact))
    return told
  }

  /** Each that ended so was told once, with its reason. */
  async function eachToldOnce(service: WebhookService, told: readonly Told[]): Promise<void> {
    const { deliveries } = await service.listDeliveries({ state: 'cancelled', limit: 1_000 })
    const idOf = ({ deliveryId }: Told) => deliveryId
    const ended = deliveries.map(({ id, endpointId, reason }) => ({
      deliveryId: id,
      endpointId: endpointId ?? 'shop',
      reason: reason ?? '',
    }))
    const byId = (list: readonly Told[]) =>
      list.toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1)).map((one) => JSON.stringify(one))
    expect(byId(told)).toEqual(byId(ended))
  }

  async function oneUnderWay(stage: Stage, count: number) {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ status: 503, after: hold.opened }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    const told = listen(service)
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.dispatchEvents(Array.from({ length: count }, () => stage.event()))
    await stage.inbox.waitForCount(1)
    return { service, told, open: hold.open }
  }

  journey(
    'of a disabled endpoint: what lay in its lane, and the retry that is none',
    async (stage) => {
      const { service, told, open } = await oneUnderWay(stage, 10)
      await service.disableEndpoint('shop')
      open()
      await service.drain()
      expect(told).toHaveLength(10)
      await eachToldOnce(service, told)
    },
  )

  journey('of a removed endpoint, by its name', async (stage) => {
    const { service, told, open } = await oneUnderWay(stage, 10)
    await service.removeEndpoint('shop')
    open()
    await service.drain()
    expect(new Set(told.map(({ endpointId }) => endpointId))).toEqual(new Set(['shop']))
    expect(told.map(({ reason }) => reason)).toEqual(Array(10).fill('endpoint_removed'))
    expect(new Set(told.map(({ deliveryId }) => deliveryId)).size).toBe(10)
  })

  journey('of one by one: under way, in the lane, in the store', async (stage) => {
    const { service, told, open } = await oneUnderWay(stage, 3)
    for (const id of ['evt_1', 'evt_2']) {
      await service.cancelDelivery((await stage.delivery(service, id, 'shop')).id)
    }
    open()
    await service.runDue()
    await service.cancelDelivery((await stage.delivery(service, 'evt_3', 'shop')).id)
    await service.drain()
    expect(told).toHaveLength(3)
    await eachToldOnce(service, told)
  })

  journey('of a batch: each of its members', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ status: 503, after: hold.opened }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    const told = listen(service)
    const batch = { size: 3, timeoutMs: 60 * seconds }
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1, batch }))
    await service.dispatchEvents(Array.from({ length: 8 }, () => stage.event()))
    await stage.inbox.waitForCount(1)
    await service.disableEndpoint('shop')
    hold.open()
    await service.drain()
    expect(told).toHaveLength(8)
    await eachToldOnce(service, told)
  })

  journey('of what an endpoint holds too much of, and of what expires', async (stage) => {
    const service = await stage.open({ maxBacklog: 8 })
    const told = listen(service)
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    const expiresAt = new Date(stage.clock.nowMs() + 10 * seconds)
    for (let i = 0; i < 6; i += 1) await service.dispatchEvent(stage.event(), { expiresAt })
    expect(told.map(({ reason }) => reason)).toEqual([
      'endpoint_backlog_full',
      'endpoint_backlog_full',
    ])
    stage.clock.advance(10 * seconds)
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(told).toHaveLength(6)
    await eachToldOnce(service, told)
    expect(stage.at('shop')).toHaveLength(0)
  })
})
