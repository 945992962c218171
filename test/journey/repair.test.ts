import type { Repair, RepairFact, WebhookEvent, WebhookService } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { gate, journey, type Stage } from './stage.ts'

/** Lets a repair run to its end: its steps wait for time, and for what they have queued. */
async function finished(stage: Stage, service: WebhookService, { id }: Repair): Promise<Repair> {
  for (let steps = 0; steps < 2_000; steps += 1) {
    await service.runDue()
    const repair = await service.getRepair(id)
    if (repair !== null && repair.state !== 'running') return repair
    stage.clock.advance(100)
  }
  throw new Error(`${id} does not end`)
}

async function dispatch(
  stage: Stage,
  service: WebhookService,
  count: number,
  fields: Partial<WebhookEvent> = {},
): Promise<string[]> {
  const events = Array.from({ length: count }, () => stage.event(fields))
  await service.dispatchEvents(events)
  return events.map(({ id }) => id)
}

/** Waits until the one delivery of an event waits for nothing but its turn. */
async function inMemory(service: WebhookService, eventId: string): Promise<void> {
  for (;;) {
    const explained = await service.explainEvent(eventId)
    if (explained?.endpoints[0]?.outcome === 'sending') return
  }
}

const idsAt = (stage: Stage, id: string) => stage.at(id).map((one) => one.headers['webhook-id'])

describe('retryFailed', () => {
  journey(
    'peers 27: after an outage sends what failed again, each once, to nobody else',
    async (stage) => {
      let isDown = true
      stage.inbox.setAnswer(({ path }) => ({ status: path === '/shop' && isDown ? 503 : 200 }))
      const service = await stage.open({ retryScheduleMs: [1_000] })
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.registerEndpoint(stage.endpoint('other'))
      const ids = await dispatch(stage, service, 35)
      await stage.passTime(service)
      expect(await service.getFailedDeliveries('shop')).toHaveLength(35)
      isDown = false
      const sent = stage.at('shop').length
      const begun = await service.retryFailed({ endpointId: 'shop' })
      expect(begun).toMatchObject({
        kind: 'retry',
        endpointId: 'shop',
        state: 'running',
        queued: 0,
      })
      expect(await finished(stage, service, begun)).toMatchObject({
        state: 'done',
        matched: 35,
        queued: 35,
        skipped: {},
        endedAt: expect.any(Date),
      })
      await service.drain()
      // The same event id, so that the receiver can deduplicate; oldest first but for those side by side.
      expect(idsAt(stage, 'shop').slice(sent).sort()).toEqual([...ids].sort())
      expect(stage.at('other')).toHaveLength(35)
      expect(await service.getFailedDeliveries('shop')).toEqual([])
      const report = await service.getEvent(ids[0] ?? '')
      const rounds = report?.deliveries.filter(({ endpointId }) => endpointId === 'shop')
      expect(rounds).toMatchObject([
        { round: 1, state: 'exhausted', attemptCount: 2 },
        { round: 2, state: 'delivered', attemptCount: 1 },
      ])
    },
  )

  journey('sends what waits for its next attempt at once, its attempts kept', async (stage) => {
    let status = 503
    stage.inbox.setAnswer(() => ({ status }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 3)
    await service.runDue()
    status = 200
    const repair = await finished(stage, service, await service.retryFailed({ endpointId: 'shop' }))
    expect(repair).toMatchObject({ state: 'done', queued: 3 })
    await service.drain()
    const { deliveries } = await service.listDeliveries()
    expect(deliveries.map((one) => [one.state, one.round, one.attemptCount])).toEqual(
      Array(3).fill(['delivered', 1, 2]),
    )
  })

  journey('takes the times, types and states that are asked for', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 2)
    stage.clock.advance(60_000)
    const since = new Date(stage.clock.nowMs())
    const [sent] = await dispatch(stage, service, 1)
    const [created] = await dispatch(stage, service, 1, { type: 'template.created' })
    await service.drain()
    stage.clock.advance(60_000)
    const until = new Date(stage.clock.nowMs())
    await dispatch(stage, service, 2)
    await service.drain()
    await service.pauseEndpoint('shop')
    const [waiting] = await dispatch(stage, service, 1)
    await service.cancelPending('shop')
    await service.resumeEndpoint('shop')
    const events = async (query: object) => {
      const preview = await service.retryFailed({ endpointId: 'shop', dryRun: true, ...query })
      return preview.sample.map(({ eventId }) => eventId)
    }
    expect(await events({})).toHaveLength(6)
    expect(await events({ since, until })).toEqual([sent, created])
    expect(await events({ since, until, types: ['template.*'] })).toEqual([created])
    expect(await events({ states: ['cancelled'] })).toEqual([waiting])
    expect(await events({ states: ['exhausted'] })).toEqual([])
  })
})

describe('replay', () => {
  journey('sends what was delivered again, oldest first, under its id', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 1 }))
    await service.registerEndpoint(stage.endpoint('other'))
    const ids = await dispatch(stage, service, 25)
    await service.drain()
    const told: RepairFact[] = []
    service.on('repair.progress', (fact) => told.push(fact))
    service.on('repair.done', (fact) => told.push(fact))
    const repair = await finished(stage, service, await service.replay({ endpointId: 'shop' }))
    await service.drain()
    expect(repair).toMatchObject({ state: 'done', matched: 25, queued: 25 })
    expect(idsAt(stage, 'shop').slice(25)).toEqual(ids)
    expect(stage.at('other')).toHaveLength(25)
    expect(told.map(({ queued }) => queued)).toEqual([10, 20, 25])
    expect(told.at(-1)).toMatchObject({ repairId: repair.id, kind: 'replay', state: 'done' })
    const stats = await service.getEndpointStats('shop')
    expect(stats).toMatchObject({ totalDeliveries: 50, successRate: 100 })
  })

  journey('leaves what is to be sent later, and says so beforehand', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length === 1 ? 503 : 200 }))
    const service = await stage.open({ retryScheduleMs: [3_600_000] })
    await service.registerEndpoint(stage.endpoint('shop'))
    const [tried = ''] = await dispatch(stage, service, 1)
    await service.runDue()
    const deliverAt = new Date(stage.clock.nowMs() + 3_600_000)
    await service.dispatchEvent(stage.event({ id: 'later' }), { deliverAt })
    const query = { endpointId: 'shop' }
    stage.clock.advance(1_000)
    const preview = await service.replay({ ...query, dryRun: true })
    expect(preview).toMatchObject({ count: 1, skipped: { not_yet_tried: 1 } })
    expect(await finished(stage, service, await service.replay(query))).toMatchObject({
      queued: 1,
      skipped: { not_yet_tried: 1 },
    })
    expect(idsAt(stage, 'shop')).toEqual([tried, tried])
    await stage.passTime(service, deliverAt.getTime())
    expect(idsAt(stage, 'shop')).toEqual([tried, tried, 'later'])
  })

  journey('again replays each event once, not each round', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 3)
    await service.drain()
    for (const round of [2, 3]) {
      const repair = await finished(stage, service, await service.replay({ endpointId: 'shop' }))
      expect(repair.queued).toBe(3)
      await service.drain()
      expect(stage.at('shop')).toHaveLength(3 * round)
    }
  })

  journey('of members of a batch sends each alone', async (stage) => {
    const service = await stage.open()
    const batch = { size: 3, timeoutMs: 1_000 }
    await service.registerEndpoint(stage.endpoint('shop', { batch }))
    const ids = await dispatch(stage, service, 3)
    await service.drain()
    await finished(stage, service, await service.replay({ endpointId: 'shop' }))
    await service.drain()
    expect(stage.at('shop').map(({ events }) => events.length)).toEqual([3, 1, 1, 1])
    expect(idsAt(stage, 'shop').slice(1).sort()).toEqual([...ids].sort())
  })

  journey(
    'correctness 10: leaves what is in flight, and what has no body any more',
    async (stage) => {
      const hold = gate()
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      const [kept, erased] = await dispatch(stage, service, 2)
      await service.drain()
      await service.eraseEvents({ ids: [erased ?? ''] })
      stage.inbox.setAnswer(({ headers }) =>
        headers['webhook-id'] === 'flying' ? { after: hold.opened } : {},
      )
      await service.dispatchEvent(stage.event({ id: 'flying' }))
      await stage.inbox.waitForCount(3)
      const done = new Promise((resolve) => service.on('repair.done', resolve))
      const { id } = await service.replay({ endpointId: 'shop' })
      await done
      expect(await service.getRepair(id)).toMatchObject({
        matched: 3,
        queued: 1,
        skipped: { in_flight: 1, body_gone: 1 },
      })
      await stage.inbox.waitForCount(4)
      hold.open()
      await service.drain()
      expect(idsAt(stage, 'shop').filter((one) => one === 'flying')).toHaveLength(1)
      expect(idsAt(stage, 'shop').filter((one) => one === kept)).toHaveLength(2)
    },
  )

  journey('keeps its rate', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 30)
    await service.drain()
    const startMs = stage.clock.nowMs()
    const atMs: number[] = []
    stage.inbox.setAnswer(() => {
      atMs.push(stage.clock.nowMs() - startMs)
      return {}
    })
    const repair = await service.replay({ endpointId: 'shop', maxPerSecond: 20 })
    await finished(stage, service, repair)
    expect(atMs).toEqual(Array.from({ length: 30 }, (_, i) => Math.floor(i / 2) * 100))
  })

  journey('of ten thousand holds up a live event by three at most', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused', concurrency: 1 }))
    await dispatch(stage, service, 10_000)
    expect(await service.cancelPending('shop')).toBe(10_000)
    await service.resumeEndpoint('shop')
    const query = { endpointId: 'shop', states: ['cancelled'] } as const
    expect(await service.replay({ ...query, dryRun: true })).toMatchObject({ count: 10_000 })
    let hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const repair = await service.replay(query)
    await stage.inbox.waitForCount(1)
    for (let steps = 0; steps < 20; steps += 1) {
      stage.clock.advance(1_000)
      await service.health()
    }
    const before = stage.at('shop').length
    await service.dispatchEvent(stage.event({ id: 'live' }))
    // In its lane: requests that are through while it is still read back are not what is counted.
    await inMemory(service, 'live')
    hold.open()
    hold = gate()
    hold.open()
    await stage.inbox.waitFor(({ headers }) => headers['webhook-id'] === 'live')
    const place = idsAt(stage, 'shop').indexOf('live') - before
    expect(place).toBeLessThanOrEqual(3)
    await service.cancelRepair(repair.id)
    await service.drain()
    expect(stage.at('shop').length).toBeLessThan(100)
  })

  journey('waits while its endpoint is paused, and goes on after', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 30)
    await service.drain()
    await service.pauseEndpoint('shop')
    const repair = await service.replay({ endpointId: 'shop' })
    for (let steps = 0; steps < 50; steps += 1) {
      stage.clock.advance(1_000)
      await service.runDue()
    }
    expect(await service.getRepair(repair.id)).toMatchObject({ state: 'running', queued: 20 })
    await service.resumeEndpoint('shop')
    expect(await finished(stage, service, repair)).toMatchObject({ state: 'done', queued: 30 })
    await service.drain()
    expect(stage.at('shop')).toHaveLength(60)
  })

  journey('goes on after a restart where it was, each event once', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop'))
    const ids = await dispatch(stage, first, 40)
    await first.drain()
    const repair = await first.replay({ endpointId: 'shop' })
    await first.runDue()
    expect(await first.getRepair(repair.id)).toMatchObject({ state: 'running', queued: 10 })
    await first.close()
    const second = await stage.open()
    // The process is another one: on a shared store it waits whether the first goes on.
    expect(await finished(stage, second, repair)).toMatchObject({ state: 'done', queued: 40 })
    await second.drain()
    expect(idsAt(stage, 'shop').slice(40).sort()).toEqual([...ids].sort())
  })
})

describe('backfill', () => {
  journey('peers 27: sends a new endpoint what it would have got, and only that', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('old'))
    await dispatch(stage, service, 3)
    stage.clock.advance(60_000)
    const since = new Date(stage.clock.nowMs())
    const kakao = await dispatch(stage, service, 4, { metadata: { providerId: 'kakao' } })
    await dispatch(stage, service, 2, { metadata: { providerId: 'other' } })
    await dispatch(stage, service, 2, { type: 'template.created' })
    await service.drain()
    const filters = { providerId: ['kakao'] }
    await service.registerEndpoint(stage.endpoint('new', { events: ['message.*'], filters }))
    const [live] = await dispatch(stage, service, 1, { metadata: { providerId: 'kakao' } })
    await service.drain()
    const preview = await service.backfill('new', { since, dryRun: true })
    expect(preview).toEqual({
      dryRun: true,
      count: 4,
      isComplete: true,
      skipped: { already_there: 1 },
      sample: kakao.map((eventId) => ({
        eventId,
        eventType: 'message.sent',
        acceptedAt: since,
      })),
    })
    expect(await service.listRepairs()).toEqual([])
    expect(stage.at('new')).toHaveLength(1)
    const repair = await finished(stage, service, await service.backfill('new', { since }))
    expect(repair).toMatchObject({ queued: 4, skipped: { already_there: 1 } })
    await service.drain()
    expect(idsAt(stage, 'new').sort()).toEqual([...kakao, live].sort())
    expect(stage.at('old')).toHaveLength(12)
    const again = await finished(stage, service, await service.backfill('new', { since }))
    expect(again).toMatchObject({ queued: 0, skipped: { already_there: 5 } })
    expect((await service.explainEvent(kakao[0] ?? ''))?.endpoints).toMatchObject([
      { endpointId: 'new', outcome: 'delivered' },
      { endpointId: 'old', outcome: 'delivered' },
    ])
  })

  journey('sends what was cancelled because its endpoint was disabled', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 503 }))
    const service = await stage.open({ retryScheduleMs: 'standard' })
    await service.registerEndpoint(stage.endpoint('shop'))
    const [expired] = await dispatch(stage, service, 1)
    const [delivery] = (await service.listDeliveries()).deliveries
    await service.runDue()
    await service.cancelDelivery(delivery?.id ?? '')
    const tried = await dispatch(stage, service, 3)
    await service.runDue()
    await service.disableEndpoint('shop', 'dead')
    await service.runDue()
    const unmatched = await dispatch(stage, service, 2)
    await service.enableEndpoint('shop', 'repaired')
    stage.inbox.setAnswer(() => undefined)
    const before = stage.at('shop').length
    const repair = await service.backfill('shop', { since: new Date(0) })
    expect(await finished(stage, service, repair)).toMatchObject({
      queued: 5,
      // Cancelled by hand: that was meant.
      skipped: { already_there: 1 },
    })
    await service.drain()
    expect(idsAt(stage, 'shop').slice(before).sort()).toEqual([...tried, ...unmatched].sort())
    expect(idsAt(stage, 'shop').slice(before)).not.toContain(expired)
  })

  journey('takes a filter of its own, and nothing of other tenants', async (stage) => {
    const service = await stage.open()
    const tenant = { tenantId: 'a' }
    await dispatch(stage, service, 2, { ...tenant, metadata: { channelId: 'one' } })
    const [wanted] = await dispatch(stage, service, 1, {
      ...tenant,
      metadata: { channelId: 'two' },
    })
    await dispatch(stage, service, 1, { metadata: { channelId: 'two' } })
    await dispatch(stage, service, 1, { tenantId: 'b', metadata: { channelId: 'two' } })
    const [erased] = await dispatch(stage, service, 1, tenant)
    await service.eraseEvents({ ...tenant, ids: [erased ?? ''] })
    await service.registerEndpoint(stage.endpoint('shop', tenant))
    const repair = await service.backfill('shop', {
      ...tenant,
      since: new Date(0),
      filter: { types: ['message.sent'], metadata: { channelId: ['two'] } },
    })
    await service.runDue()
    expect(await service.getRepair(repair.id, { tenantId: 'b' })).toBeNull()
    expect(await service.getRepair(repair.id, tenant)).toMatchObject({
      state: 'done',
      tenantId: 'a',
      queued: 1,
      skipped: { body_gone: 1 },
    })
    expect(await service.listRepairs({ tenantId: 'b' })).toEqual([])
    await expect(service.cancelRepair(repair.id, { tenantId: 'b' })).rejects.toMatchObject({
      code: 'REPAIR_NOT_FOUND',
    })
    expect(idsAt(stage, 'shop')).toEqual([wanted])
  })
})

describe('a repair', () => {
  journey('is cancelled in the middle: the rest is not sent', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 50)
    await service.drain()
    const repair = await service.replay({ endpointId: 'shop' })
    await service.runDue()
    stage.clock.advance(100)
    await service.runDue()
    expect(await service.cancelRepair(repair.id)).toMatchObject({
      state: 'cancelled',
      reason: 'by_request',
      queued: 20,
    })
    stage.clock.advance(10_000)
    await service.drain()
    expect(stage.at('shop')).toHaveLength(70)
    expect(await service.cancelRepair(repair.id)).toMatchObject({ state: 'cancelled', queued: 20 })
    expect(await service.listRepairs()).toMatchObject([{ id: repair.id, state: 'cancelled' }])
  })

  journey('of a disabled endpoint is refused with the reason', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 1)
    await service.drain()
    await service.updateEndpoint('shop', { active: false })
    const since = new Date(0)
    for (const begin of [
      () => service.retryFailed({ endpointId: 'shop' }),
      () => service.replay({ endpointId: 'shop' }),
      () => service.replay({ endpointId: 'shop', dryRun: true }),
      () => service.backfill('shop', { since }),
    ]) {
      await expect(begin()).rejects.toMatchObject({
        code: 'ENDPOINT_DISABLED',
        message: expect.stringContaining('it is disabled ('),
      })
    }
    await expect(service.replay({ endpointId: 'none' })).rejects.toMatchObject({
      code: 'ENDPOINT_NOT_FOUND',
    })
    expect(await service.listRepairs()).toEqual([])
  })

  journey('fails with the reason when its endpoint is disabled or removed', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.registerEndpoint(stage.endpoint('gone'))
    await dispatch(stage, service, 30)
    await service.drain()
    const shop = await service.replay({ endpointId: 'shop' })
    const gone = await service.replay({ endpointId: 'gone' })
    await service.runDue()
    await service.updateEndpoint('shop', { active: false })
    await service.removeEndpoint('gone')
    expect(await finished(stage, service, shop)).toMatchObject({
      state: 'failed',
      reason: 'endpoint_disabled',
    })
    expect(await finished(stage, service, gone)).toMatchObject({
      state: 'failed',
      reason: 'endpoint_removed',
    })
    expect(stage.at('shop').length).toBeLessThan(60)
  })

  journey('names its endpoint by its id, also when that is gone or another', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const service = await stage.open()
    const told: string[] = []
    service.on('repair.done', ({ endpointId, state }) => told.push(`${endpointId} ${state}`))
    await service.registerEndpoint(stage.endpoint('shop'))
    await dispatch(stage, service, 30)
    await service.runDue()
    const { id } = await service.retryFailed({ endpointId: 'shop', maxPerSecond: 1 })
    await service.removeEndpoint('shop')
    await finished(stage, service, (await service.getRepair(id)) as Repair)
    const gone = { endpointId: 'shop', state: 'failed', reason: 'endpoint_removed' }
    expect(await service.getRepair(id)).toMatchObject(gone)
    await service.registerEndpoint(stage.endpoint('shop'))
    expect(await service.getRepair(id)).toMatchObject(gone)
    expect(await service.listRepairs()).toMatchObject([gone])
    expect(told).toEqual(['shop failed'])
  })

  journey('says what is wrong with its options', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const wrong: [object, string][] = [
      [{ dryrun: true }, 'OPTION_UNKNOWN'],
      [{ dryRun: 'yes' }, 'OPTION_INVALID'],
      [{ maxPerSecond: 0 }, 'OPTION_OUT_OF_RANGE'],
      [{ maxPerSecond: 1_001 }, 'OPTION_OUT_OF_RANGE'],
      [{ since: 'yesterday' }, 'OPTION_INVALID'],
      [{ until: new Date('never') }, 'OPTION_INVALID'],
      [{ types: [] }, 'OPTION_INVALID'],
      [{ types: ['Message.Sent'] }, 'EVENT_TYPE_INVALID'],
      [{ states: ['delivering'] }, 'OPTION_INVALID'],
    ]
    for (const [query, code] of wrong) {
      const replayed = service.replay({ endpointId: 'shop', ...query })
      await expect(replayed, JSON.stringify(query)).rejects.toMatchObject({ code })
    }
    for (const query of [{}, { since: new Date(), filter: { metadata: { a: 'b' } } }]) {
      await expect(service.backfill('shop', query as never)).rejects.toMatchObject({
        code: 'OPTION_INVALID',
      })
    }
    expect(await service.getRepair('rep_nothing')).toBeNull()
  })
})

describe('what others got wrong:', () => {
  journey('peers 26: a retry by hand works on what was never attempted', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await dispatch(stage, service, 2)
    await service.cancelPending('shop', { types: ['message.sent'] })
    await service.resumeEndpoint('shop')
    const [one] = (await service.listDeliveries({ state: 'cancelled' })).deliveries
    expect(one?.attemptCount).toBe(0)
    await service.retryDelivery(one?.id ?? '')
    const query = { endpointId: 'shop', states: ['cancelled'] } as const
    const repair = await finished(stage, service, await service.retryFailed(query))
    // The other one: what was retried by hand is under way, or through.
    expect(repair.queued).toBe(1)
    await service.drain()
    expect(idsAt(stage, 'shop').sort()).toEqual(['evt_1', 'evt_2'])
  })

  journey('a replay is signed anew, with what the endpoint is now', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { headers: { 'x-team': 'blue' } }))
    await dispatch(stage, service, 1)
    await service.drain()
    stage.clock.advance(3 * 86_400_000)
    const moved = { url: `${stage.inbox.url}/moved`, headers: { 'x-team': 'green' } }
    await service.updateEndpoint('shop', moved)
    await finished(stage, service, await service.replay({ endpointId: 'shop' }))
    await service.drain()
    const [again] = stage.at('moved')
    expect(again).toMatchObject({
      headers: { 'x-team': 'green', 'webhook-id': 'evt_1', 'x-webhook-attempt': '1' },
      body: stage.at('shop')[0]?.body,
    })
    const agoMs = Number(again?.headers['webhook-timestamp']) * 1_000 - stage.clock.nowMs()
    expect(Math.abs(agoMs)).toBeLessThan(10_000)
  })
})
