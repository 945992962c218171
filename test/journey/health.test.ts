import type { WebhookFacts, WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { journey, type Stage } from './stage.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** What is told about endpoints, in order. */
function listen(service: WebhookService): [string, string, Record<string, unknown>][] {
  const told: [string, string, Record<string, unknown>][] = []
  const note = (name: string) => (fact: WebhookFacts['endpoint.failing' | 'endpoint.disabled']) =>
    told.push([name, fact.endpointId, { ...fact }])
  service.on('endpoint.failing', note('failing'))
  service.on('endpoint.disabled', note('disabled'))
  service.on('endpoint.recovered', (fact) => told.push(['recovered', fact.endpointId, { ...fact }]))
  return told
}

/** An event every hour, with everything that becomes due between. */
/** An event every hour, or every few. */
async function hours(
  stage: Stage,
  service: WebhookService,
  count: number,
  every = 1,
): Promise<void> {
  for (let i = 0; i < count; i += every) {
    await service.dispatchEvent(stage.event())
    await stage.passTime(service, stage.clock.nowMs() + every * hourMs)
  }
}

describe('an endpoint that only fails', () => {
  journey(
    'D19: five dead days, one notice each, disabled by rule, enabled again',
    async (stage) => {
      let status = 500
      stage.inbox.setAnswer(({ path }) => ({ status: path === '/dead' ? status : 200 }))
      const config = { retryScheduleMs: [60_000, 600_000], systemEvents: { endpointId: 'ops' } }
      const service = await stage.open(config)
      await service.registerEndpoint(stage.endpoint('dead'))
      await service.registerEndpoint(stage.endpoint('ops', { events: ['never.sent'] }))
      const told = listen(service)
      const since = new Date(stage.clock.nowMs())
      await hours(stage, service, 4 * 24 + 1)
      expect(told.map(([what, id, { stage: when }]) => [what, id, when])).toEqual([
        ['failing', 'dead', 'early'],
        ['failing', 'dead', 'final'],
      ])
      expect(told[0]?.[2]).toMatchObject({ since, disableAt: new Date(+since + 5 * dayMs) })

      await hours(stage, service, 24)
      expect(told.slice(2).map(([what, id]) => [what, id])).toEqual([['disabled', 'dead']])
      const dead = await service.getEndpoint('dead')
      expect(dead).toMatchObject({ status: 'disabled' })
      expect(dead?.statusReason).toContain(since.toISOString())
      expect(+(dead?.statusChangedAt ?? 0) - +since).toBeGreaterThanOrEqual(5 * dayMs)
      const { deliveries } = await service.listDeliveries({ endpointId: 'dead', limit: 5 })
      expect(deliveries.filter((one) => one.state === 'waiting')).toEqual([])

      // The same in its history and at the endpoint that is told, and nowhere twice.
      const history = await service.getEndpointHistory('dead')
      expect(history.map(({ what }) => what)).toEqual([
        'registered',
        'failing',
        'to be disabled',
        'disabled',
      ])
      expect(stage.at('ops').map(({ body }) => JSON.parse(String(body)).type)).toEqual([
        'system.endpoint.failing',
        'system.endpoint.failing',
        'system.endpoint.disabled',
      ])

      // A test offers to enable it; enabled, it starts with a clean slate.
      expect(await service.testEndpoint('dead')).toMatchObject({ success: false, canEnable: false })
      status = 200
      expect(await service.testEndpoint('dead')).toMatchObject({ success: true, canEnable: true })
      expect(await service.getEndpoint('dead')).toMatchObject({ status: 'disabled' })
      await service.enableEndpoint('dead', 'repaired')
      status = 500
      const before = stage.at('dead').length
      await hours(stage, service, 2)
      expect(stage.at('dead').length).toBeGreaterThan(before)
      expect(await service.getEndpoint('dead')).toMatchObject({
        status: 'active',
        statusReason: 'repaired',
      })
    },
  )

  journey('a run goes on over restarts', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 503 }))
    const disableAfterMs = dayMs
    for (let i = 0; i < 6; i += 1) {
      const service = await stage.open({ maxRetries: 0, disableAfterMs })
      await service.registerEndpoint(stage.endpoint('dead'))
      await hours(stage, service, 5)
      if (i < 5) await service.close()
      else expect(await service.getEndpoint('dead')).toMatchObject({ status: 'disabled' })
    }
  })

  journey('one success ends the run, and is told after a warning', async (stage) => {
    let status = 500
    stage.inbox.setAnswer(() => ({ status }))
    const service = await stage.open({ maxRetries: 0, disableAfterMs: dayMs })
    await service.registerEndpoint(stage.endpoint('weak'))
    const told = listen(service)
    await hours(stage, service, 20)
    status = 200
    await hours(stage, service, 1)
    status = 500
    await hours(stage, service, 20)
    expect(told.map(([what, , fact]) => [what, fact.stage])).toEqual([
      ['failing', 'early'],
      ['failing', 'final'],
      ['recovered', undefined],
      ['failing', 'early'],
      ['failing', 'final'],
    ])
    expect(await service.getEndpoint('weak')).toMatchObject({ status: 'active' })
  })

  journey('another url is another chance', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ maxRetries: 0, disableAfterMs: dayMs })
    await service.registerEndpoint(stage.endpoint('moved'))
    await hours(stage, service, 23)
    await service.updateEndpoint('moved', { url: `${stage.inbox.url}/elsewhere` })
    await hours(stage, service, 3)
    expect(await service.getEndpoint('moved')).toMatchObject({ status: 'active' })
  })

  journey('peers 33: neither one failed event nor any number of tests disables', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open({ retryScheduleMs: 'standard', disableAfterMs: dayMs })
    await service.registerEndpoint(stage.endpoint('shop'))
    const told = listen(service)
    for (let i = 0; i < 50; i += 1) {
      await service.testEndpoint('shop')
      stage.clock.advance(hourMs)
    }
    expect(told).toEqual([])
    const day = stage.clock.nowMs()
    // 10 attempts in 75 hours, and no other event.
    await service.dispatchEvent(stage.event())
    await stage.passTime(service)
    expect(stage.clock.nowMs() - day).toBeGreaterThan(3 * dayMs)
    expect(await service.getEndpoint('shop')).toMatchObject({ status: 'active' })
  })

  journey('a name that does not resolve is not held against it', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 200 }))
    const service = await stage.open({ maxRetries: 0, disableAfterMs: dayMs, lookup: nowhere })
    await service.registerEndpoint({
      id: 'nameless',
      url: 'https://nameless.example/',
      events: ['*'],
    })
    const told = listen(service)
    await hours(stage, service, 30)
    expect(told).toEqual([])
    expect(await service.getEndpoint('nameless')).toMatchObject({ status: 'active' })
  })

  journey(
    'every disabling is told, by whomever, with its reason; never for ever',
    async (stage) => {
      stage.inbox.setAnswer(({ path }) => ({ status: path === '/gone' ? 410 : 500 }))
      const config = { maxRetries: 0, disableAfterMs: false as const }
      const service = await stage.open({ ...config, systemEvents: { endpointId: 'ops' } })
      for (const id of ['gone', 'asked', 'dead', 'ops']) {
        await service.registerEndpoint(stage.endpoint(id))
      }
      const told = listen(service)
      await service.disableEndpoint('asked', 'contract ended')
      await hours(stage, service, 11 * 24, 6)
      expect(
        told.filter(([what]) => what === 'disabled').map(([, id, fact]) => [id, fact.reason]),
      ).toEqual([
        ['asked', 'contract ended'],
        ['gone', 'the receiver answered 410 Gone'],
      ])
      expect(await service.getEndpoint('dead')).toMatchObject({ status: 'active' })
      await service.removeEndpoint('dead', { reason: 'moved away' })
      // The endpoint that is told fails too; nothing is told about it to itself.
      const ops = (await service.listDeliveries({ endpointId: 'ops', limit: 1_000 })).deliveries
      const system = ops.filter((one) => one.eventType.startsWith('system.'))
      const reports = await Promise.all(system.map((one) => service.getEvent(one.eventId)))
      const about = reports.map((one) => {
        const data = one?.body?.data as { endpointId: string }
        return `${one?.type} ${data.endpointId}`
      })
      expect(about.sort()).toEqual([
        'system.endpoint.disabled gone',
        'system.endpoint.failing dead',
      ])
      expect(reports[0]?.notMatched.map(({ reason }) => reason)).toContain('system_event')
    },
  )
})

const nowhere = (_: string, callback: (error: Error, found: never[]) => void) => {
  callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), [])
}
