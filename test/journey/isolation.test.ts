import { describe, expect } from 'vitest'
import { gate, journey } from './stage.ts'

describe('limits', () => {
  journey('peers 14: never more requests to an endpoint than its concurrency', async (stage) => {
    const under = new Map<string, number>()
    const most = new Map<string, number>()
    stage.inbox.setAnswer(({ path }) => {
      const now = (under.get(path) ?? 0) + 1
      under.set(path, now)
      most.set(path, Math.max(most.get(path) ?? 0, now))
      return {
        status: Math.random() < 0.2 ? 500 : 200,
        after: new Promise<void>((resolve) => {
          setImmediate(() => {
            under.set(path, (under.get(path) ?? 0) - 1)
            resolve()
          })
        }),
      }
    })
    const service = await stage.open({ endpointConcurrency: 4, retryScheduleMs: [0, 0, 0, 0, 0] })
    await service.registerEndpoint(stage.endpoint('one', { concurrency: 1 }))
    await service.registerEndpoint(stage.endpoint('four'))
    await service.registerEndpoint(
      stage.endpoint('batched', { batch: { size: 5, timeoutMs: 0 }, concurrency: 2 }),
    )
    for (let round = 0; round < 5; round += 1) {
      await service.dispatchEvents(Array.from({ length: 40 }, () => stage.event()))
      await service.pauseEndpoint('four')
      await service.resumeEndpoint('four')
    }
    await service.drain()
    expect(most.get('/one')).toBe(1)
    expect(most.get('/four')).toBeLessThanOrEqual(4)
    expect(most.get('/batched')).toBeLessThanOrEqual(2)
    expect(most.get('/four')).toBeGreaterThan(1)
  })

  journey('tests of endpoints take no more than a few connections', async (stage) => {
    const open: (() => void)[] = []
    stage.inbox.setAnswer(() => ({
      after: new Promise<void>((resolve) => {
        open.push(resolve)
      }),
    }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('silent'))
    const tests = Array.from({ length: 20 }, () => service.testEndpoint('silent'))
    await stage.inbox.waitForCount(16)
    await service.health()
    expect(open).toHaveLength(16)
    for (const answer of open.splice(0)) answer()
    await stage.inbox.waitForCount(20)
    for (const answer of open.splice(0)) answer()
    expect((await Promise.all(tests)).every(({ success }) => success)).toBe(true)
  })

  journey(
    'never more requests in all than the service allows, and all endpoints get turns',
    async (stage) => {
      const hold = gate()
      stage.inbox.setAnswer(() => ({ after: hold.opened }))
      const service = await stage.open({ maxConcurrency: 6 })
      for (const id of ['a', 'b', 'c']) await service.registerEndpoint(stage.endpoint(id))
      await service.dispatchEvents(Array.from({ length: 20 }, () => stage.event()))
      await stage.inbox.waitForCount(6)
      expect((await service.health()).requestsUnderWay).toBe(6)
      expect(['a', 'b', 'c'].map((id) => stage.at(id).length)).toEqual([2, 2, 2])
      hold.open()
      await service.drain()
      expect(stage.inbox.received).toHaveLength(60)
    },
  )
})

describe('an endpoint that hangs', () => {
  journey('peers 12: delays no other', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ path }) => (path === '/hangs' ? { after: hold.opened } : {}))
    const service = await stage.open({ memoryCapacity: 100 })
    await service.registerEndpoint(stage.endpoint('hangs'))
    await service.registerEndpoint(stage.endpoint('healthy'))
    const settledAll = new Promise<void>((resolve) => {
      let left = 1_000
      service.on('delivery.delivered', (fact) => {
        if (fact.endpointId !== 'healthy') return
        left -= 1
        if (left === 0) resolve()
      })
    })
    // Far more than memory holds: the hanging one must not fill it.
    for (let i = 0; i < 10; i += 1) {
      await service.dispatchEvents(Array.from({ length: 100 }, () => stage.event()))
    }
    await stage.until(settledAll, 25)
    expect(stage.at('hangs').length).toBe(10)
    hold.open()
    await service.drain()
    expect(stage.at('hangs')).toHaveLength(1_000)
  })
})

describe('a backlog', () => {
  journey('correctness R1: larger than memory is sent completely, each once', async (stage) => {
    const service = await stage.open({ memoryCapacity: 100 })
    await service.registerEndpoint(stage.endpoint('a', { status: 'paused' }))
    await service.registerEndpoint(stage.endpoint('b', { status: 'paused' }))
    await service.dispatchEvents(Array.from({ length: 1_500 }, () => stage.event()))
    await service.resumeEndpoint('a')
    await service.resumeEndpoint('b')
    await service.drain()
    for (const id of ['a', 'b']) {
      expect(new Set(stage.at(id).map((one) => one.headers['webhook-id'])).size).toBe(1_500)
      expect(stage.at(id)).toHaveLength(1_500)
    }
  })
})
