import { WebhookError } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { gate, journey } from './stage.ts'

async function refusal(dispatched: Promise<unknown>): Promise<WebhookError> {
  const error = await dispatched.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(WebhookError)
  return error as WebhookError
}

describe('the signal to start more processes', () => {
  journey('is the age of what only a place is missing for', async (stage) => {
    const hang = gate()
    stage.inbox.setAnswer(() => ({ after: hang.opened }))
    const service = await stage.open({ maxConcurrency: 1 })
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 10 }))
    const ageMs = async () => (await service.health()).backlog?.oldestDueAgeMs
    await service.dispatchEvent(stage.event())
    await stage.inbox.waitForCount(1)
    stage.clock.advance(5_000)
    expect(await ageMs()).toBe(0)
    await service.dispatchEvents([stage.event(), stage.event()])
    stage.clock.advance(9_000)
    expect(await ageMs()).toBe(9_000)
    // Its own limit is in the way now: nobody could send to it.
    await service.updateEndpoint('shop', { concurrency: 1 })
    expect(await ageMs()).toBe(0)
    hang.open()
    await service.drain()
    expect(await ageMs()).toBe(0)
  })

  journey('does not count what a rate limit keeps', async (stage) => {
    const service = await stage.open()
    const rateLimit = { limit: 1, perMs: 60_000 }
    await service.registerEndpoint(stage.endpoint('shop', { rateLimit }))
    await service.dispatchEvents(Array.from({ length: 40 }, () => stage.event()))
    await stage.inbox.waitForCount(1)
    stage.clock.advance(20_000)
    expect((await service.health()).backlog).toMatchObject({ oldestDueAgeMs: 0 })
  })
})

describe('the largest backlog', () => {
  journey('dispatchEvent rejects with a hint, stores nothing, and goes on', async (stage) => {
    const service = await stage.open({ maxBacklog: 6 })
    const full: unknown[] = []
    service.on('backlog.full', (fact) => full.push(fact))
    await service.registerEndpoint(stage.endpoint('a'))
    await service.registerEndpoint(stage.endpoint('b', { concurrency: 1 }))
    await service.pauseEndpoint('a')
    await service.pauseEndpoint('b')
    for (let i = 0; i < 3; i += 1) await service.dispatchEvent(stage.event())

    await service.registerEndpoint(stage.endpoint('c'))
    const late = stage.event()
    const error = await refusal(service.dispatchEvent(late))
    expect(error.code).toBe('BACKLOG_FULL')
    expect(error.retryAfterMs).toBeGreaterThanOrEqual(1000)
    expect(error.message).toContain('maxBacklog')
    expect(await service.getEvent(late.id)).toBeNull()
    await refusal(service.dispatchEvent(stage.event()))
    expect(full.filter((fact) => (fact as { scope: string }).scope === 'service')).toHaveLength(1)

    await service.resumeEndpoint('a')
    await service.runDue()
    expect((await service.dispatchEvent(late)).deliveryIds).toHaveLength(3)
    await service.runDue()
    expect(stage.at('c')).toHaveLength(1)
  })

  journey('one endpoint that takes nothing never stops the others', async (stage) => {
    const service = await stage.open({ maxBacklog: 8 })
    await service.registerEndpoint(stage.endpoint('healthy'))
    await service.registerEndpoint(stage.endpoint('paused'))
    await service.pauseEndpoint('paused')
    for (let i = 0; i < 20; i += 1) {
      await service.dispatchEvent(stage.event({ id: `evt_${i}` }))
      await service.runDue()
    }
    expect(stage.at('healthy')).toHaveLength(20)
    const waiting = await stage.delivery(service, 'evt_3', 'paused')
    expect(waiting.state).toBe('waiting')
    const cut = await stage.delivery(service, 'evt_4', 'paused')
    expect(cut).toMatchObject({ state: 'cancelled', reason: 'endpoint_backlog_full' })

    await service.resumeEndpoint('paused')
    await service.runDue()
    expect(stage.at('paused')).toHaveLength(4)
    await service.dispatchEvent(stage.event({ id: 'evt_after' }))
    await service.runDue()
    expect(stage.at('paused')).toHaveLength(5)

    // What was cut is not lost: each under its id, once.
    const since = new Date(0)
    expect(await service.backfill('paused', { since, dryRun: true })).toMatchObject({ count: 16 })
    const done = new Promise((resolve) => service.on('repair.done', resolve))
    await service.backfill('paused', { since, maxPerSecond: 1_000 })
    expect(await stage.until(done)).toMatchObject({ queued: 16, skipped: { already_there: 5 } })
    await service.runDue()
    const ids = stage.at('paused').map(({ headers }) => headers['webhook-id'])
    expect(ids).toHaveLength(21)
    expect(new Set(ids).size).toBe(21)
    expect(await service.backfill('paused', { since, dryRun: true })).toMatchObject({ count: 0 })
  })

  journey('a tenant has a limit of its own', async (stage) => {
    const service = await stage.open({ maxTenantBacklog: 4 })
    for (const tenantId of ['loud', 'quiet']) {
      for (const id of ['one', 'two', 'three']) {
        await service.registerEndpoint(stage.endpoint(id, { tenantId }))
        await service.pauseEndpoint(id, 'full', { tenantId })
      }
    }
    await service.dispatchEvent(stage.event({ tenantId: 'loud' }))
    const error = await refusal(service.dispatchEvent(stage.event({ tenantId: 'loud' })))
    expect(error).toMatchObject({ code: 'BACKLOG_FULL' })
    expect(error.message).toContain('maxTenantBacklog')
    await service.dispatchEvent(stage.event({ tenantId: 'quiet' }))
  })

  journey(
    'what waits is counted again after a restart, and what ended unseen is not',
    async (stage) => {
      const first = await stage.open()
      await first.registerEndpoint(stage.endpoint('a'))
      await first.registerEndpoint(stage.endpoint('b'))
      await first.pauseEndpoint('a')
      await first.pauseEndpoint('b')
      for (let i = 0; i < 4; i += 1) await first.dispatchEvent(stage.event())
      await first.close()

      const second = await stage.open({ maxBacklog: 8 })
      await second.registerEndpoint(stage.endpoint('c'))
      expect(await refusal(second.dispatchEvent(stage.event()))).toMatchObject({
        code: 'BACKLOG_FULL',
      })
      // Ended by the store, delivery by delivery unseen.
      await second.removeEndpoint('a')
      await second.runDue()
      await stage.passed(5_000)
      await expect
        .poll(() =>
          second.dispatchEvent(stage.event()).then(
            () => 'in',
            () => 'out',
          ),
        )
        .toBe('in')
    },
  )
})
