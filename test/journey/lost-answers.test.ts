import { type Storage, WebhookError } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import { between, fileJourney, gate, journey } from './stage.ts'

/** A storage whose answers to one verb are lost: what was asked is done, and nobody knows. */
function losing(inner: Storage, verb: keyof Store): Storage & { isLosing: boolean } {
  const state = { isLosing: false }
  const storage = between(inner, async (asked, ask) => {
    const result = await ask()
    if (asked !== verb || !state.isLosing) return result
    throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected an answer, it was lost.')
  })
  return Object.assign(state, storage)
}

/** A storage of which one verb cannot be asked for a while. */
function away(inner: Storage, verb: keyof Store): Storage & { isAway: boolean } {
  const state = { isAway: false }
  const storage = between(inner, async (asked, ask) => {
    if (asked !== verb || !state.isAway) return await ask()
    throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected an answer, the store is away.')
  })
  return Object.assign(state, storage)
}

describe('runDue() while the store is away', () => {
  const unavailable = { code: 'STORAGE_UNAVAILABLE' }

  journey('says so where nothing can be read, and goes on once it can', async (stage) => {
    const storage = away(stage.storage(), 'claim')
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop', { status: 'paused' }))
    await service.dispatchEvents([stage.event(), stage.event()])
    storage.isAway = true
    await service.resumeEndpoint('shop')
    await expect(service.runDue()).rejects.toMatchObject(unavailable)
    await expect(service.runDue()).rejects.toMatchObject(unavailable)
    storage.isAway = false
    // Nobody moves the clock: no pause would end.
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey('says so where outcomes cannot be written, and sends nothing twice', async (stage) => {
    const storage = away(stage.storage(), 'commit')
    const service = await stage.open({ storage })
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    storage.isAway = true
    hold.open()
    await expect(service.runDue()).rejects.toMatchObject(unavailable)
    await expect(service.runDue()).rejects.toMatchObject(unavailable)
    storage.isAway = false
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
    expect((await stage.delivery(service, 'evt_1', 'shop')).state).toBe('delivered')
  })

  journey('says so where no send time can be taken', async (stage) => {
    const storage = away(stage.storage(), 'takeSendTimes')
    const service = await stage.open({ storage })
    const rateLimit = { limit: 1, perMs: 60_000 }
    await service.registerEndpoint(stage.endpoint('shop', { rateLimit }))
    storage.isAway = true
    await service.dispatchEvent(stage.event())
    await expect(service.runDue()).rejects.toMatchObject(unavailable)
    storage.isAway = false
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
  })
})

describe('an answer of the store that is lost', () => {
  journey('to a retry: the caller is told, and it is sent all the same', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const storage = losing(stage.storage(), 'retryDelivery')
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    storage.isLosing = true
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    await expect(service.retryDelivery(id)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(2)
    storage.isLosing = false
  })

  journey('to the question after a retry: it is sent as well', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const storage = losing(stage.storage(), 'attemptsOf')
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    storage.isLosing = true
    await expect(service.retryDelivery(id)).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
    await service.runDue()
    storage.isLosing = false
    expect(stage.at('shop')).toHaveLength(2)
  })

  journey(
    'peers 2: to a commit: the event is sent once it is known, and the caller can repeat it',
    async (stage) => {
      const storage = losing(stage.storage(), 'commit')
      const service = await stage.open({ storage })
      await service.registerEndpoint(stage.endpoint('shop'))
      // By then the new endpoint is known to all: nothing is matched a second time.
      await service.dispatchEvent(stage.event({ id: 'evt_0' }))
      await service.drain()
      storage.isLosing = true
      const event = stage.event({ id: 'evt_1' })
      const dispatched = service.dispatchEvent(event).catch((error) => error.code)
      expect(await stage.until(dispatched)).toBe('STORAGE_UNAVAILABLE')
      expect(await service.health()).toMatchObject({ status: 'degraded' })
      storage.isLosing = false
      const again = stage.until(service.dispatchEvent(event))
      expect(await again).toMatchObject({ duplicate: true })
      // Another body under the id is another event, not a repetition.
      const other = stage.until(service.dispatchEvent({ ...event, data: 'other' }))
      await expect(other).rejects.toMatchObject({
        code: 'EVENT_ID_CONFLICT',
      })
      await service.drain()
      expect(stage.at('shop').map((one) => one.headers['webhook-id'])).toEqual(['evt_0', 'evt_1'])
    },
  )

  // In a file: nobody else could make known that something is due.
  fileJourney('whatever it was: a minute later what is due is found', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    let store = null as Store | null
    const inner = stage.storage()
    const open: Storage['open'] = async (host) => {
      store = await inner.open(host)
      return store
    }
    const service = await stage.open({ storage: { kind: inner.kind, open } })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    // Behind the engine's back: nobody tells the lanes.
    await store?.retryDelivery(id, stage.clock.nowMs())
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
    stage.clock.advance(60_000)
    await stage.inbox.waitForCount(2)
    await service.drain()
  })
})
