import { WebhookDispatcher, WebhookService } from '@k-msg/webhook'
import { expect, it } from 'vitest'
import {
  type CreateClient,
  checkConnectorIsCalled,
  createClient,
} from '../../src/deliver/self-check.ts'
import { memory } from '../../src/storage/sqlite/sqlite.ts'

const bypassed = { code: 'GUARD_BYPASSED' }

it('finds that undici asks the connector', async () => {
  await expect(checkConnectorIsCalled()).resolves.toBeUndefined()
})

it('is cheap enough for every start', async () => {
  await checkConnectorIsCalled()
  const startMs = performance.now()
  for (let i = 0; i < 100; i += 1) await checkConnectorIsCalled()
  expect((performance.now() - startMs) / 100).toBeLessThan(2)
})

it('finds a client that has the connector and leaves it alone', async () => {
  // The real client: it opens a socket of its own, to an address no packet can go to.
  const ignoring: CreateClient = (origin) => createClient(origin, {})
  await expect(checkConnectorIsCalled(ignoring)).rejects.toMatchObject(bypassed)
})

it.each([
  [
    'answers by itself',
    (_: unknown, handler: Record<string, unknown>) =>
      queueMicrotask(() => (handler.onComplete as () => void)()),
  ],
  [
    'throws',
    () => {
      throw new Error('not me')
    },
  ],
  ['does nothing', () => {}],
])('finds a client that %s', async (_, dispatch) => {
  const client = { dispatch, destroy: () => {} }
  await expect(checkConnectorIsCalled(() => client, 20)).rejects.toMatchObject(bypassed)
})

it('keeps a service from starting, before it has opened its store', async () => {
  class Bypassed extends WebhookDispatcher {
    override ready() {
      return checkConnectorIsCalled((origin) => createClient(origin, {}))
    }
  }
  let opened = false
  const storage = memory()
  const service = new WebhookService(
    {
      logger: false,
      storage: {
        kind: storage.kind,
        open: (host) => {
          opened = true
          return storage.open(host)
        },
      },
    },
    { dispatcher: new Bypassed() },
  )
  await expect(service.ready()).rejects.toMatchObject(bypassed)
  const endpoint = { id: 'a', url: 'https://example.com/', events: ['*'] }
  await expect(service.registerEndpoint(endpoint)).rejects.toMatchObject(bypassed)
  expect(opened).toBe(false)
  await service.close()
})
