import { connect } from 'node:net'
import { WebhookDispatcher, WebhookService } from '@k-msg/webhook'
import { expect, it } from 'vitest'
import { checkAddressesAreKept, type OpenChecked } from '../../src/deliver/self-check.ts'
import { memory } from '../../src/storage/sqlite/sqlite.ts'

const bypassed = { code: 'GUARD_BYPASSED' }

/** The real one, with a way of its own from names to addresses. */
const resolvesByItself: OpenChecked = (options) =>
  connect({
    ...options,
    lookup: (_, { all }, callback) => {
      const found = { address: '127.0.0.1', family: 4 }
      if (all) callback(null, [found])
      else callback(null, found.address, found.family)
    },
  })

it('finds that the runtime asks for the addresses', async () => {
  await expect(checkAddressesAreKept()).resolves.toBeUndefined()
})

it('is cheap enough for every start', async () => {
  await checkAddressesAreKept()
  const startMs = performance.now()
  for (let i = 0; i < 100; i += 1) await checkAddressesAreKept()
  expect((performance.now() - startMs) / 100).toBeLessThan(2)
})

it('finds one that looks the name up by itself', async () => {
  await expect(checkAddressesAreKept(resolvesByItself)).rejects.toMatchObject(bypassed)
})

it('finds one that asks about another name', async () => {
  const other: OpenChecked = (options) => connect({ ...options, host: 'another.invalid' } as never)
  await expect(checkAddressesAreKept(other)).rejects.toMatchObject(bypassed)
})

it.each<[string, OpenChecked]>([
  [
    'connects at once',
    () => ({
      on: (event, listener) => event === 'connect' && queueMicrotask(listener),
      destroy: () => {},
    }),
  ],
  [
    'throws',
    () => {
      throw new Error('not me')
    },
  ],
  ['does nothing', () => ({ on: () => {}, destroy: () => {} })],
])('finds one that %s', async (_, open) => {
  await expect(checkAddressesAreKept(open, 20)).rejects.toMatchObject(bypassed)
})

it('keeps a service from starting, before it has opened its store', async () => {
  class Bypassed extends WebhookDispatcher {
    override ready() {
      return checkAddressesAreKept(resolvesByItself)
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
