import { describe, expect } from 'vitest'
import { gate, journey } from './stage.ts'

describe('one endpoint never slows another', () => {
  journey('endpoints that hang hold up the others for a second at the most', async (stage) => {
    const hang = gate()
    stage.inbox.setAnswer(({ path }) => (path === '/healthy' ? {} : { after: hang.opened }))
    const service = await stage.open({ maxConcurrency: 20 })
    const hanging = ['h1', 'h2', 'h3'].map((id) => stage.endpoint(id, { events: ['hang'] }))
    for (const input of hanging) await service.registerEndpoint(input)
    await service.registerEndpoint(stage.endpoint('healthy', { events: ['message.*'] }))
    const events = Array.from({ length: 40 }, () => stage.event({ type: 'hang' }))
    await service.dispatchEvents(events)
    await stage.inbox.waitForCount(20)

    await service.dispatchEvent(stage.event())
    await service.health()
    expect(stage.at('healthy')).toHaveLength(0)
    await stage.passed(1_000)
    await expect.poll(() => stage.at('healthy').length).toBe(1)
    for (let i = 0; i < 30; i += 1) await service.dispatchEvent(stage.event())
    await expect.poll(() => stage.at('healthy').length).toBe(31)
    expect(stage.inbox.received.length - 31).toBe(20)
    hang.open()
    await service.drain()
  })

  journey('news come before retries, and one in four is a retry', async (stage) => {
    let isUp = false
    stage.inbox.setAnswer(() => ({ status: isUp ? 200 : 503 }))
    const service = await stage.open({ retryScheduleMs: [60_000] })
    await service.registerEndpoint(stage.endpoint('one', { concurrency: 1 }))
    const old = Array.from({ length: 8 }, (_, i) => stage.event({ id: `old_${i}` }))
    await service.dispatchEvents(old)
    await service.runDue()
    expect(stage.at('one')).toHaveLength(8)

    await service.pauseEndpoint('one')
    stage.clock.advance(60_000)
    const news = Array.from({ length: 12 }, (_, i) => stage.event({ id: `new_${i}` }))
    await service.dispatchEvents(news)
    isUp = true
    await service.resumeEndpoint('one')
    await service.runDue()
    const order = stage
      .at('one')
      .slice(8)
      .map(({ events }) => String(events[0]?.id).slice(0, 3))
    // The first one went out before the others were read.
    expect(order.slice(1, 9)).toEqual(['new', 'new', 'new', 'old', 'new', 'new', 'new', 'old'])
    expect(order).toHaveLength(20)
  })

  journey(
    'a tenant with many endpoints gets no more turns than one with a single one',
    async (stage) => {
      const held: (() => void)[] = []
      stage.inbox.setAnswer(() => ({
        after: new Promise<void>((resolve) => {
          held.push(resolve)
        }),
      }))
      const service = await stage.open({ maxConcurrency: 2 })
      for (let i = 0; i < 30; i += 1) {
        await service.registerEndpoint(stage.endpoint(`loud${i}`, { tenantId: 'loud' }))
      }
      await service.registerEndpoint(stage.endpoint('quiet', { tenantId: 'quiet' }))
      await service.dispatchEvents(
        Array.from({ length: 4 }, () => stage.event({ tenantId: 'loud' })),
      )
      await stage.inbox.waitForCount(2)
      await service.dispatchEvents(
        Array.from({ length: 4 }, () => stage.event({ tenantId: 'quiet' })),
      )
      for (let answered = 0; answered < 12; answered += 1) {
        await expect.poll(() => held.length).toBeGreaterThan(0)
        held.shift()?.()
        await stage.inbox.waitForCount(3 + answered)
      }
      expect(stage.at('quiet')).toHaveLength(4)
      stage.inbox.setAnswer(() => ({}))
      for (const answer of held) answer()
      await service.drain()
    },
  )

  journey('a backlog from before a restart is met slowly: 1, 2, 4', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('one', { concurrency: 8 }))
    await first.pauseEndpoint('one')
    await first.dispatchEvents(Array.from({ length: 40 }, () => stage.event()))
    await first.close()

    const second = await stage.open()
    const held: (() => void)[] = []
    stage.inbox.setAnswer(() => ({
      after: new Promise<void>((resolve) => {
        held.push(resolve)
      }),
    }))
    await second.resumeEndpoint('one')
    for (const arrived of [1, 3, 7]) {
      await stage.inbox.waitForCount(arrived)
      await second.health()
      expect(stage.at('one')).toHaveLength(arrived)
      for (const answer of held.splice(0)) answer()
    }
    stage.inbox.setAnswer(() => ({}))
    await stage.inbox.waitForCount(8)
    for (const answer of held) answer()
    await second.drain()
    expect(stage.at('one')).toHaveLength(40)
  })
})
