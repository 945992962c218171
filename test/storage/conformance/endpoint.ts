import { expect } from 'vitest'
import type { Stories } from '../conformance.ts'
import { change, endpoint, endpointKey, startMs } from '../fixtures.ts'

export const endpointStories: Stories = {
  'an endpoint comes back as it was saved': async ({ store, reopen }) => {
    const saved = endpoint('one', {
      tenantId: 't',
      events: ['*', 'message.sent'],
      name: '이름',
      description: 'of mine',
      status: 'paused',
      statusReason: 'by request',
      secrets: [
        { secret: 'new-secret-of-16', createdAtMs: startMs + 5, expiresAtMs: null },
        { secret: 'old-secret-of-16', createdAtMs: startMs, expiresAtMs: startMs + 9 },
      ],
      filters: { providerId: ['a', 'b'], tier: [1, true] },
      bodyFilter: { and: [{ path: 'amount', gt: 5 }, { not: { path: ['a.b'], eq: '한' } }] },
      retryConfig: { retryScheduleMs: [1, 2], jitter: false },
      timeoutMs: 5_000,
      batch: { size: 4, timeoutMs: 100 },
      ordering: null,
      warning: 'look at this',
      rateLimit: { limit: 10, perMs: 1_000 },
      version: 3,
    })
    await store.saveEndpoint(saved, change('registered'))
    const ordering = { key: 'userId', onExhausted: 'block' } as const
    await store.saveEndpoint(endpoint('three', { ordering }), change('registered'))
    const other = endpoint('two', { batch: true })
    await store.saveEndpoint(other, change('registered'))
    const again = await reopen()
    expect(await again.loadEndpoints()).toEqual(
      [saved, other, endpoint('three', { ordering })].sort((a, b) => (a.key < b.key ? -1 : 1)),
    )
  },

  'encrypted fields come back as they were, and are counted by their key': async ({ store }) => {
    const sealed = { ...endpoint('one'), secrets: 'k2:AAAA', headers: 'k2:BBBB' }
    const clear = endpoint('two', { signatureSchemes: ['standard', 'timestamped-body'] })
    const third = { ...endpoint('three'), secrets: 'k1:AAAA', headers: 'k1:BBBB' }
    for (const one of [sealed, clear, third]) await store.saveEndpoint(one, change('registered'))
    const removed = { ...endpoint('four'), secrets: 'k0:AAAA', headers: 'k0:BBBB' }
    await store.saveEndpoint(removed, change('registered'))
    await store.removeEndpoint(removed.key, change('removed', { version: 2 }))
    const byId = new Map((await store.loadEndpoints()).map((one) => [one.id, one]))
    expect([byId.get('one'), byId.get('two')]).toEqual([sealed, clear])
    expect((await store.audit()).encryption).toEqual({ '': 1, k1: 1, k2: 1 })
  },

  'saving again replaces and appends to the history': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const second = change('updated', { version: 2, atMs: startMs + 5, fields: ['url'] })
    const changed = endpoint('one', { url: 'https://new.example/', version: 2 })
    await store.saveEndpoint(changed, second)
    await store.saveEndpoint(changed, second)
    expect(await store.loadEndpoints()).toEqual([changed])
    expect(await store.endpointHistory(endpointKey('one'), 100, null)).toEqual([
      change('registered'),
      second,
    ])
  },

  'history is read from its end, a page at a time, and keeps the last thousand': async ({
    store,
  }) => {
    const one = endpointKey('one')
    for (let version = 1; version <= 1_005; version += 1) {
      const atMs = startMs + version
      await store.saveEndpoint(
        endpoint('one', { version }),
        change('updated', { version, atMs, fields: ['name'] }),
      )
    }
    await store.saveEndpoint(endpoint('two'), change('registered'))
    const versions = (changes: readonly { version: number }[]) => changes.map((c) => c.version)
    const last = await store.endpointHistory(one, 3, null)
    expect(versions(last)).toEqual([1_003, 1_004, 1_005])
    const before = await store.endpointHistory(one, 2, last[0] ?? null)
    expect(versions(before)).toEqual([1_001, 1_002])
    const all = await store.endpointHistory(one, 2_000, null)
    expect([all.length, all[0]?.version]).toEqual([1_000, 6])
    expect(await store.endpointHistory(one, 9, all[0] ?? null)).toEqual([])
    expect(await store.endpointHistory(endpointKey('two'), 9, null)).toHaveLength(1)
  },

  'a removed endpoint is gone, its history is not, and its id is free': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await store.removeEndpoint(endpointKey('one'), change('removed', { version: 2 }))
    expect(await store.loadEndpoints()).toEqual([])
    expect(
      (await store.endpointHistory(endpointKey('one'), 100, null)).map(({ what }) => what),
    ).toEqual(['registered', 'removed'])
    const successor = endpoint('one', { key: endpointKey('later') })
    await store.saveEndpoint(successor, change('registered'))
    expect(await store.loadEndpoints()).toEqual([successor])
  },
}
