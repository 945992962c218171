import { describe, expect, vi } from 'vitest'
import { between, gate, journey, secret } from './stage.ts'

const dayMs = 86_400_000

describe('an endpoint that is paused and resumed at once', () => {
  journey('goes on with what was on its way back to the store', async (stage) => {
    const held = { commits: null as Promise<void> | null, claims: 0 }
    const storage = between(stage.storage(), async (verb, ask) => {
      if (verb === 'commit') await held.commits
      const result = await ask()
      if (verb === 'claim') held.claims += 1
      return result
    })
    const answer = gate()
    stage.inbox.setAnswer(() => ({ after: answer.opened }))
    const service = await stage.open({ storage })
    await service.registerEndpoint(
      stage.endpoint('shop', { concurrency: 1, events: ['message.*'] }),
    )
    await service.dispatchEvents(['a', 'b'].map((id) => stage.event({ id })))
    await stage.inbox.waitForCount(1)
    const commit = gate()
    held.commits = commit.opened
    // A commit is under way: what the pause gives back comes with the next.
    const other = service.dispatchEvent(stage.event({ id: 'other', type: 'quota.exceeded' }))
    const before = held.claims
    await service.pauseEndpoint('shop')
    await service.resumeEndpoint('shop')
    await vi.waitUntil(() => held.claims > before)
    commit.open()
    await other
    answer.open()
    await service.drain()
    expect(stage.at('shop').map(({ headers }) => headers['webhook-id'])).toEqual(['a', 'b'])
  })
})

describe('an endpoint that asks for time', () => {
  journey('peers 21: is left alone as a whole until the Retry-After has passed', async (stage) => {
    stage.inbox.setAnswer(({ path }) =>
      path === '/busy' && stage.at('busy').length === 1
        ? { status: 429, headers: { 'retry-after': '3600' } }
        : {},
    )
    // The lowest jitter there is: what was asked for is a floor.
    const service = await stage.open({ jitter: true, random: () => 0 })
    await service.registerEndpoint(stage.endpoint('busy', { concurrency: 1 }))
    await service.registerEndpoint(stage.endpoint('free'))
    const startMs = stage.clock.nowMs()
    for (let i = 0; i < 5; i += 1) await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('busy')).toHaveLength(1)
    expect(stage.at('free')).toHaveLength(5)

    const asked = new Date(startMs + 3_600_000)
    const { nextAttemptAt } = await stage.delivery(service, 'evt_1', 'busy')
    expect(nextAttemptAt?.getTime()).toBeGreaterThanOrEqual(asked.getTime())

    // What comes later waits with the rest; the other endpoint never does.
    await service.dispatchEvent(stage.event())
    stage.clock.set(startMs + 3_600_000 - 1)
    await service.runDue()
    expect(stage.at('busy')).toHaveLength(1)
    expect(stage.at('free')).toHaveLength(6)

    stage.clock.set(startMs + 3_600_000)
    await service.runDue()
    expect(stage.at('busy')).toHaveLength(7)
    const { attempts } = await stage.delivery(service, 'evt_1', 'busy')
    expect(attempts.map((one) => one.outcome)).toEqual(['throttled', 'accepted'])
    // Waiting used up no attempt of the others.
    expect(await stage.delivery(service, 'evt_2', 'busy')).toMatchObject({ attemptCount: 1 })
  })

  journey('is still left alone after a restart, whatever was changed meanwhile', async (stage) => {
    stage.inbox.setAnswer(() =>
      stage.at('busy').length === 1 ? { status: 503, headers: { 'retry-after': '600' } } : {},
    )
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('busy'))
    const startMs = stage.clock.nowMs()
    await first.dispatchEvent(stage.event())
    await first.runDue()
    await first.updateEndpoint('busy', { name: 'another name' })
    await first.close()

    const second = await stage.open()
    await second.dispatchEvent(stage.event())
    await second.runDue()
    expect(stage.at('busy')).toHaveLength(1)
    stage.clock.set(startMs + 600_000)
    await second.runDue()
    expect(stage.at('busy')).toHaveLength(3)
  })

  journey('a Retry-After is kept within a second and a day', async (stage) => {
    stage.inbox.setAnswer(({ path }) => ({
      status: 429,
      headers: { 'retry-after': path === '/long' ? '999999999' : '0' },
    }))
    const service = await stage.open({ retryScheduleMs: [10] })
    await service.registerEndpoint(stage.endpoint('long'))
    await service.registerEndpoint(stage.endpoint('short'))
    const startMs = stage.clock.nowMs()
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await stage.passTime(service)
    const times = async (id: string) =>
      (await stage.delivery(service, 'evt_1', id)).attempts.map(
        (one) => one.startedAt.getTime() - startMs,
      )
    expect(await times('short')).toEqual([0, 1_000])
    expect(await times('long')).toEqual([0, dayMs])
  })
})

describe('an endpoint that is gone', () => {
  journey('410 disables it, ends what waits for it, and says why', async (stage) => {
    let status = 500
    stage.inbox.setAnswer(() => ({ status }))
    const service = await stage.open({ maxRetries: 5 })
    await service.registerEndpoint(stage.endpoint('gone'))
    const changes: unknown[] = []
    const cancelled: string[] = []
    service.on('endpoint.changed', (fact) => changes.push([fact.what, fact.reason]))
    service.on('delivery.cancelled', (fact) => cancelled.push(fact.endpointId))
    for (let i = 1; i <= 3; i += 1) await service.dispatchEvent(stage.event({ id: `old_${i}` }))
    await service.runDue()
    status = 410
    stage.clock.advance(1_000)
    await service.runDue()
    await service.drain()

    expect(await service.getEndpoint('gone')).toMatchObject({
      status: 'disabled',
      active: false,
      statusReason: 'the receiver answered 410 Gone',
      version: 2,
    })
    expect(changes).toEqual([['disabled', 'the receiver answered 410 Gone']])
    const states = await Promise.all(
      [1, 2, 3].map(async (i) => {
        const { state, reason } = await stage.delivery(service, `old_${i}`, 'gone')
        return `${state}: ${reason}`
      }),
    )
    expect(new Set(states)).toEqual(new Set(['rejected: gone']))
    // Nothing is made for it any more, and the event says so.
    await service.dispatchEvent(stage.event({ id: 'new' }))
    expect((await service.getEvent('new'))?.notMatched).toEqual([
      { endpointId: 'gone', reason: 'endpoint_disabled' },
    ])
    expect((await service.getEndpointHistory('gone')).map((one) => one.what)).toEqual([
      'registered',
      'disabled',
    ])
    expect(cancelled).toEqual([])
  })

  journey('410 cancels what waits, later or behind the limit', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ status: 410, after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('gone', { concurrency: 1 }))
    for (let i = 1; i <= 20; i += 1) await service.dispatchEvent(stage.event({ id: `e${i}` }))
    await stage.inbox.waitForCount(1)
    hold.open()
    await service.drain()
    expect(stage.at('gone')).toHaveLength(1)
    const { deliveries } = await service.listDeliveries({ endpointId: 'gone' })
    expect(deliveries.map((one) => `${one.state}: ${one.reason}`).sort()).toEqual([
      ...Array(19).fill('cancelled: endpoint_disabled'),
      'rejected: gone',
    ])
  })

  journey(
    '410 that comes after it was disabled does not outlast its being enabled',
    async (stage) => {
      const hold = gate()
      stage.inbox.setAnswer(({ headers }) =>
        headers['webhook-id'] === 'evt_1' ? { status: 410, after: hold.opened } : {},
      )
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.dispatchEvent(stage.event({ id: 'evt_1' }))
      await stage.inbox.waitForCount(1)
      await service.updateEndpoint('shop', { active: false })
      hold.open()
      await service.drain()
      await service.enableEndpoint('shop')
      await service.dispatchEvent(stage.event({ id: 'evt_2' }))
      await service.drain()
      expect(await stage.delivery(service, 'evt_2', 'shop')).toMatchObject({ state: 'delivered' })
    },
  )

  journey('correctness 6: removing it ends what waits, and drain() notices', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    const drained = service.drain()
    await service.removeEndpoint('shop')
    await drained
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({
      state: 'cancelled',
      reason: 'endpoint_removed',
      attemptCount: 1,
    })
    expect(await service.getEndpoint('shop')).toBeNull()
    await stage.passTime(service)
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('disabling it ends what waits, and drain() notices', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 500 }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    const drained = service.drain()
    await service.updateEndpoint('shop', { active: false })
    await drained
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({
      state: 'cancelled',
      reason: 'endpoint_disabled',
    })
  })

  journey('thousands of waiting deliveries are ended in steps', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.dispatchEvents(Array.from({ length: 2_500 }, () => stage.event()))
    await service.removeEndpoint('shop')
    await service.drain()
    expect((await service.health()).backlog).toMatchObject({ waiting: 0, delivering: 0 })
    expect(stage.inbox.received).toHaveLength(0)
  })

  journey(
    'correctness 6: disabled and enabled again at once, it loses nothing without a trace',
    async (stage) => {
      stage.inbox.setAnswer(() => ({ status: stage.at('shop').length <= 50 ? 500 : 200 }))
      const service = await stage.open({ retryScheduleMs: [60_000] })
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.dispatchEvents(Array.from({ length: 50 }, () => stage.event()))
      await service.runDue()
      await Promise.all([
        service.updateEndpoint('shop', { active: false }),
        service.resumeEndpoint('shop'),
        service.dispatchEvents(Array.from({ length: 20 }, () => stage.event())),
      ])
      stage.clock.advance(60_000)
      await service.drain()
      const { deliveries } = await service.listDeliveries({ limit: 1_000 })
      const open = deliveries.filter((one) => ['waiting', 'delivering'].includes(one.state))
      expect(open).toEqual([])
    },
  )

  journey('comes back under the same id as a new endpoint', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    await service.removeEndpoint('shop')
    stage.clock.advance(1)
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_2' }))
    await service.runDue()
    expect(stage.at('shop').map((one) => one.headers['webhook-id'])).toEqual(['evt_1', 'evt_2'])
    expect((await service.getEvent('evt_1'))?.notMatched).toEqual([
      { endpointId: 'shop', reason: 'endpoint_registered_later' },
    ])
  })
})

describe('a paused endpoint', () => {
  journey('holds its events and sends them all when it resumes', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.registerEndpoint(stage.endpoint('other'))
    await service.pauseEndpoint('shop', 'maintenance')
    for (let i = 0; i < 30; i += 1) await service.dispatchEvent(stage.event())
    await service.drain()
    expect(stage.at('shop')).toHaveLength(0)
    expect(stage.at('other')).toHaveLength(30)
    expect((await service.health()).backlog).toMatchObject({ waiting: 30 })
    stage.clock.advance(30 * dayMs)
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(0)

    await service.resumeEndpoint('shop')
    await service.drain()
    expect(stage.at('shop')).toHaveLength(30)
    expect(await stage.delivery(service, 'evt_1', 'shop')).toMatchObject({ attemptCount: 1 })
  })

  journey('stays paused over a restart and an upsert', async (stage) => {
    const first = await stage.open()
    await first.registerEndpoint(stage.endpoint('shop'))
    await first.pauseEndpoint('shop')
    await first.dispatchEvent(stage.event())
    await first.close()
    const second = await stage.open()
    const again = await second.registerEndpoint(stage.endpoint('shop', { active: true }))
    expect(again).toMatchObject({ status: 'paused', active: true })
    await second.runDue()
    expect(stage.at('shop')).toHaveLength(0)
    await second.resumeEndpoint('shop')
    await second.drain()
    expect(stage.at('shop')).toHaveLength(1)
  })

  journey('paused while a request is under way: that one ends, no other begins', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { concurrency: 2 }))
    for (let i = 0; i < 10; i += 1) await service.dispatchEvent(stage.event())
    await stage.inbox.waitForCount(2)
    await service.pauseEndpoint('shop')
    hold.open()
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
    expect((await service.health()).backlog).toMatchObject({ waiting: 8, delivering: 0 })
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(stage.at('shop')).toHaveLength(10)
    const { deliveries } = await service.listDeliveries()
    expect(deliveries.every((one) => one.attemptCount === 1)).toBe(true)
  })
})

describe('a changed endpoint', () => {
  journey('peers 25: url, headers and secret are those in force at the attempt', async (stage) => {
    stage.inbox.setAnswer(({ path }) => ({ status: path === '/old' ? 500 : 200 }))
    const service = await stage.open()
    await service.registerEndpoint(
      stage.endpoint('shop', { url: `${stage.inbox.url}/old`, headers: { 'x-team': 'a' } }),
    )
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.runDue()
    const changed = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
    stage.inbox.setSecret('/new', changed)
    await service.updateEndpoint('shop', {
      url: `${stage.inbox.url}/new`,
      headers: { 'x-team': 'b' },
      secret: changed,
    })
    // Until then the header of one value is signed with the former secret.
    await service.finishRotation('shop')
    stage.clock.advance(1_000)
    await service.runDue()
    expect(stage.at('old').map((one) => one.headers['x-team'])).toEqual(['a'])
    expect(stage.at('new').map((one) => [one.headers['x-team'], one.signature])).toEqual([
      ['b', 'valid'],
    ])
    const { attempts } = await stage.delivery(service, 'evt_1', 'shop')
    expect(attempts.map((one) => one.endpointVersion)).toEqual([1, 3])
  })

  journey('a rotated secret: both sign for the overlap, then only the new one', async (stage) => {
    const [oldSecret, newSecret] = [
      'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
      'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx',
    ]
    const service = await stage.open({ rotationOverlapMs: 3_600_000 })
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    await service.registerEndpoint(stage.endpoint('shop', { secret: newSecret }))
    const verdictWith = async (held: string) => {
      stage.inbox.setSecret('/shop', held)
      const before = stage.at('shop').length
      await service.dispatchEvent(stage.event())
      await service.runDue()
      const headers = stage.at('shop')[before]?.headers
      return headers?.['webhook-signature']?.split(' ').length
    }
    expect(await verdictWith(oldSecret)).toBe(2)
    stage.clock.advance(3_600_000)
    expect(await verdictWith(newSecret)).toBe(1)
    expect(stage.at('shop').at(-1)?.signature).toBe('valid')
    // The overlap also outlives a restart.
    await service.close()
    const second = await stage.open()
    expect((await second.getEndpointHistory('shop')).map((one) => one.what)).toEqual([
      'registered',
      'secret rotated',
      'rotation ended',
    ])
  })

  journey(
    'peers 28: a receiver that holds only the old secret verifies during the overlap',
    async (stage) => {
      const oldSecret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
      stage.inbox.setSecret('/shop', oldSecret)
      // Only the Standard Webhooks header can carry two signatures.
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
      await service.registerEndpoint(
        stage.endpoint('shop', { secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx' }),
      )
      await service.dispatchEvent(stage.event())
      await service.runDue()
      const { createHmac } = await import('node:crypto')
      const [request] = stage.at('shop')
      const expected = createHmac('sha256', Buffer.from(oldSecret.slice(6), 'base64'))
        .update(
          `${request?.headers['webhook-id']}.${request?.headers['webhook-timestamp']}.${request?.body}`,
        )
        .digest('base64')
      expect(request?.headers['webhook-signature']?.split(' ')).toContain(`v1,${expected}`)
    },
  )

  journey('peers 29: reads, lists, facts and history never show a secret', async (stage) => {
    const own = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
    const service = await stage.open()
    const facts: unknown[] = []
    service.on('endpoint.changed', (fact) => facts.push(fact))
    const registered = await service.registerEndpoint(
      stage.endpoint('shop', { secret: own, headers: { authorization: 'Bearer of-bad-news' } }),
    )
    const updated = await service.updateEndpoint('shop', { secret: `${own}AAAA` })
    const everything = JSON.stringify([
      registered,
      updated,
      facts,
      await service.getEndpoint('shop'),
      await service.listEndpoints({ tenantId: '*' }),
      await service.getEndpointHistory('shop'),
      await service.health(),
    ])
    expect(everything).not.toContain(own.slice(6))
    expect(everything).not.toContain('of-bad-news')
    expect(everything).not.toContain(secret.slice(6))
  })

  journey('a created secret is shown once and signs', async (stage) => {
    const service = await stage.open({ secretKey: undefined })
    const { secret: created } = await service.registerEndpoint(stage.endpoint('shop'))
    expect(created).toMatch(/^whsec_/)
    stage.inbox.setSecret('/shop', created ?? '')
    expect(await service.registerEndpoint(stage.endpoint('shop'))).not.toHaveProperty('secret')
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('shop').map((one) => one.signature)).toEqual(['valid'])
  })
})

describe('redirects', () => {
  journey(
    'peers 16: count as success with a visible warning by default, never followed',
    async (stage) => {
      stage.inbox.setAnswer(({ path }) =>
        path === '/moved'
          ? { status: 307, headers: { location: `${stage.inbox.url}/target` } }
          : {},
      )
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('moved'))
      const warnings: string[] = []
      service.on('endpoint.warning', (fact) => warnings.push(fact.warning))
      for (let i = 0; i < 3; i += 1) await service.dispatchEvent(stage.event())
      await service.drain()
      expect(await stage.delivery(service, 'evt_1', 'moved')).toMatchObject({
        state: 'delivered',
        reason: 'redirect_307',
      })
      expect(stage.at('target')).toHaveLength(0)
      expect((await service.getEndpoint('moved'))?.warning).toContain('307')
      expect(warnings).toHaveLength(1)
      // Memory, store and history speak of the same version.
      expect(await service.getEndpoint('moved')).toMatchObject({ version: 2 })
      expect(await service.getEndpointHistory('moved')).toMatchObject([
        { version: 1, what: 'registered' },
        { version: 2, what: 'warned', fields: ['warning'] },
      ])
      await service.updateEndpoint('moved', { name: 'moved away' })
      expect((await service.getEndpointHistory('moved')).at(-1)).toMatchObject({ version: 3 })
    },
  )

  journey(
    'peers 25: history tells with which url, secret and filters an attempt was made',
    async (stage) => {
      let status = 500
      stage.inbox.setAnswer(() => ({ status }))
      const service = await stage.open({ retryScheduleMs: [1_000, 1_000, 1_000] })
      await service.registerEndpoint(stage.endpoint('shop'))
      await service.dispatchEvent(stage.event({ id: 'evt_1' }))
      await service.runDue()
      await service.updateEndpoint('shop', { url: `${stage.inbox.url}/moved` })
      stage.clock.advance(1_000)
      await service.runDue()
      const { secret: created } = await service.rotateSecret('shop')
      stage.inbox.setSecret('/moved', created ?? '')
      stage.clock.advance(1_000)
      await service.runDue()
      status = 200
      await service.updateEndpoint('shop', { filters: { tier: ['gold'] } })
      await service.pauseEndpoint('shop', 'too loud')
      stage.clock.advance(1_000)
      await service.resumeEndpoint('shop', 'calmed down')
      await service.runDue()
      const history = await service.getEndpointHistory('shop')
      expect(
        history.map(({ version, what, fields, reason }) => [version, what, fields, reason]),
      ).toEqual([
        [1, 'registered', [], null],
        [2, 'updated', ['url'], null],
        [3, 'secret rotated', ['secrets'], 'by request'],
        [4, 'updated', ['filters'], null],
        [5, 'paused', ['status'], 'too loud'],
        [6, 'resumed', ['status'], 'calmed down'],
      ])
      const { attempts } = await stage.delivery(service, 'evt_1', 'shop')
      expect(attempts.map((one) => one.endpointVersion)).toEqual([1, 2, 3, 6])
      expect(stage.inbox.received.map(({ path }) => path)).toEqual([
        '/shop',
        ...['/moved', '/moved', '/moved'],
      ])
      const last = await service.getEndpointHistory('shop', { limit: 2 })
      expect(last).toEqual(history.slice(-2))
      expect(await service.getEndpointHistory('shop', { limit: 3, before: last[0] })).toEqual(
        history.slice(1, 4),
      )
      await expect(service.getEndpointHistory('shop', { limit: 0 })).rejects.toMatchObject({
        code: 'OPTION_OUT_OF_RANGE',
      })
    },
  )

  journey("redirects: 'failure' rejects them", async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 302, headers: { location: '/target' } }))
    const service = await stage.open({ redirects: 'failure' })
    await service.registerEndpoint(stage.endpoint('moved'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    expect(await stage.delivery(service, 'evt_1', 'moved')).toMatchObject({
      state: 'rejected',
      reason: 'status_302',
    })
    expect(stage.at('moved')).toHaveLength(1)
  })
})

describe('testEndpoint', () => {
  journey('sends one signed request and counts it nowhere', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const ok = await service.testEndpoint('shop')
    expect(ok).toMatchObject({ success: true, httpStatus: 200, error: null })
    stage.inbox.setAnswer(() => ({ status: 410 }))
    expect(await service.testEndpoint('shop')).toMatchObject({ success: false, httpStatus: 410 })
    expect(stage.at('shop').map((one) => one.signature)).toEqual(['valid', 'valid'])
    expect(await service.getEndpoint('shop')).toMatchObject({ status: 'active', version: 1 })
    expect(await service.getStats()).toMatchObject({ totalDeliveries: 0, attempts: 0 })
    expect((await service.listDeliveries()).deliveries).toEqual([])
  })

  journey('holds nothing back and opens no breaker, whatever it is answered', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    stage.inbox.setAnswer(() => ({ status: 503, headers: { 'retry-after': '3600' } }))
    for (let i = 0; i < 25; i += 1) {
      expect(await service.testEndpoint('shop')).toMatchObject({ httpStatus: 503 })
      stage.clock.advance(1_000)
    }
    const open = { heldUntil: null, breaker: { state: 'closed' }, warning: null }
    expect(await service.getEndpoint('shop')).toMatchObject(open)
    stage.inbox.setAnswer(() => undefined)
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(26)
  })

  journey('close() does not wait for a receiver that never answers it', async (stage) => {
    stage.inbox.setAnswer(() => ({ after: new Promise(() => {}) }))
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const tested = service.testEndpoint('shop')
    await stage.inbox.waitForCount(1)
    await service.close()
    expect(await tested).toMatchObject({ success: false, httpStatus: null })
  })
})
