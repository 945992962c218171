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
      retryConfig: { retryScheduleMs: [1, 2], jitter: false },
      timeoutMs: 5_000,
      batch: { size: 4, timeoutMs: 100 },
      warning: 'look at this',
      heldUntilMs: startMs + 77,
      version: 3,
    })
    await store.saveEndpoint(saved, change('registered'))
    const other = endpoint('two', { batch: true })
    await store.saveEndpoint(other, change('registered'))
    const again = await reopen()
    expect(await again.loadEndpoints()).toEqual(
      [saved, other].sort((a, b) => (a.key < b.key ? -1 : 1)),
    )
  },

  'saving again replaces and appends to the history': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    const second = change('updated', { version: 2, atMs: startMs + 5, fields: ['url'] })
    const changed = endpoint('one', { url: 'https://new.example/', version: 2 })
    await store.saveEndpoint(changed, second)
    await store.saveEndpoint(changed, second)
    expect(await store.loadEndpoints()).toEqual([changed])
    expect(await store.endpointHistory(endpointKey('one'))).toEqual([change('registered'), second])
  },

  'a removed endpoint is gone, its history is not, and its id is free': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await store.removeEndpoint(endpointKey('one'), change('removed', { version: 2 }))
    expect(await store.loadEndpoints()).toEqual([])
    expect((await store.endpointHistory(endpointKey('one'))).map(({ what }) => what)).toEqual([
      'registered',
      'removed',
    ])
    const successor = endpoint('one', { key: endpointKey('later') })
    await store.saveEndpoint(successor, change('registered'))
    expect(await store.loadEndpoints()).toEqual([successor])
  },
}
