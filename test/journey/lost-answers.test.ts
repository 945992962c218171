import { type Storage, sqlite, WebhookError } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import { journey } from './stage.ts'

/** A storage whose answers to one verb are lost: what was asked is done, and nobody knows. */
function losing(inner: Storage, verb: keyof Store): Storage & { isLosing: boolean; store: Store } {
  const losing = {
    kind: inner.kind,
    isLosing: false,
    store: null as unknown as Store,
    async open(host: Parameters<Storage['open']>[0]) {
      losing.store = await inner.open(host)
      return new Proxy(losing.store, {
        get(target, name) {
          const member = target[name as keyof Store]
          if (typeof member !== 'function') return member
          return async (...args: unknown[]) => {
            const result = await Reflect.apply(member as () => unknown, target, args)
            if (name !== verb || !losing.isLosing) return result
            throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected an answer, it was lost.')
          }
        },
      })
    },
  }
  return losing
}

describe('an answer of the store that is lost', () => {
  journey('to a retry: the caller is told, and it is sent all the same', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const storage = losing(sqlite({ path: stage.dataFile }), 'retryDelivery')
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
    const storage = losing(sqlite({ path: stage.dataFile }), 'attemptsOf')
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
    'to a commit: the event is sent once it is known, and the caller can repeat it',
    async (stage) => {
      const storage = losing(sqlite({ path: stage.dataFile }), 'commit')
      const service = await stage.open({ storage })
      await service.registerEndpoint(stage.endpoint('shop'))
      storage.isLosing = true
      const event = stage.event({ id: 'evt_1' })
      const dispatched = service.dispatchEvent(event).catch((error) => error.code)
      for (let i = 0; i < 4; i += 1) await stage.passed(5_000)
      expect(await dispatched).toBe('STORAGE_UNAVAILABLE')
      expect(await service.health()).toMatchObject({ status: 'degraded' })
      storage.isLosing = false
      const again = service.dispatchEvent(event)
      await stage.passed(6_000)
      expect(await again).toMatchObject({ duplicate: true })
      await service.drain()
      expect(stage.at('shop')).toHaveLength(1)
    },
  )

  journey('whatever it was: a minute later what is due is found', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: 400 }))
    const storage = losing(sqlite({ path: stage.dataFile }), 'prune')
    const service = await stage.open({ storage })
    await service.registerEndpoint(stage.endpoint('shop'))
    await service.dispatchEvent(stage.event({ id: 'evt_1' }))
    await service.drain()
    const { id } = await stage.delivery(service, 'evt_1', 'shop')
    // Behind the engine's back: nobody tells the lanes.
    await storage.store.retryDelivery(id, stage.clock.nowMs())
    await service.runDue()
    expect(stage.at('shop')).toHaveLength(1)
    stage.clock.advance(60_000)
    await stage.inbox.waitForCount(2)
    await service.drain()
  })
})
