import { expect } from 'vitest'
import { unknownHealth } from '../../../src/policy/health.ts'
import type { Stories } from '../conformance.ts'
import { change, endpoint, endpointKey, startMs } from '../fixtures.ts'

const failing = {
  ...unknownHealth(endpointKey('one')),
  failingSinceMs: startMs,
  lastFailedAtMs: startMs + 5,
  failedHours: 1,
  failedDeliveries: 2,
}

export const healthStories: Stories = {
  'health comes back as it was saved, and only of those that fail': async ({ store }) => {
    const one = await store.saveHealth(failing, null)
    expect(one).toEqual({ isWritten: true, health: { ...failing, revision: 1 } })
    await store.saveHealth({ ...unknownHealth(endpointKey('two')), clearedAtMs: startMs }, null)
    expect(await store.loadHealth()).toEqual([one.health])
  },

  'whoever saw an older state writes nothing and is told the newer': async ({ store }) => {
    const first = await store.saveHealth(failing, null)
    const warned = { ...first.health, warned: 'early', warnedAtMs: startMs + 9 } as const
    const said = change('failing', { reason: 'since then', atMs: startMs + 9 })
    const second = await store.saveHealth(warned, said)
    expect(second).toEqual({ isWritten: true, health: { ...warned, revision: 2 } })
    const late = await store.saveHealth({ ...first.health, failedHours: 7 }, change('never'))
    expect(late).toEqual({ isWritten: false, health: second.health })
    expect(await store.endpointHistory(endpointKey('one'), 100, null)).toEqual([said])
  },

  'one version is warned about as often as it fails': async ({ store }) => {
    const first = await store.saveHealth(failing, change('failing', { atMs: startMs }))
    await store.saveHealth(first.health, change('failing', { atMs: startMs + 1 }))
    expect(await store.endpointHistory(endpointKey('one'), 100, null)).toHaveLength(2)
  },

  'health goes with its endpoint': async ({ store }) => {
    await store.saveEndpoint(endpoint('one'), change('registered'))
    await store.saveHealth(failing, null)
    await store.removeEndpoint(endpointKey('one'), change('removed', { version: 2 }))
    expect(await store.loadHealth()).toEqual([])
  },
}
