import { beforeEach, describe, expect, test } from 'vitest'
import { HealthKeeper } from '../../src/engine/health-keeper.ts'
import type { EndpointHealth } from '../../src/model/health.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import { silentLogger } from '../../src/observe/log.ts'
import type { HealthSaved } from '../../src/storage/endpoints.ts'
import { endpointRecord, settled } from './fakes.ts'

const hour = 3_600_000
const day = 24 * hour
const start = Date.UTC(2026, 0, 5)
const refused: Outcome = { kind: 'unreachable', code: 'ECONNREFUSED' }
const silent: Outcome = { kind: 'timed-out', phase: 'connect' }
const fine: Outcome = { kind: 'accepted', status: 200, redirected: false }

/** What processes share: the store, with the rule that an older revision writes nothing. */
class SharedStore {
  readonly rows = new Map<string, EndpointHealth>()
  saves = 0
  loadHealth(): Promise<EndpointHealth[]> {
    return Promise.resolve([...this.rows.values()].filter((one) => one.failingSinceMs !== null))
  }
  async saveHealth(health: EndpointHealth): Promise<HealthSaved> {
    this.saves += 1
    const stored = this.rows.get(health.endpointKey)
    if (stored !== undefined && stored.revision !== health.revision) {
      return { isWritten: false, health: stored }
    }
    const saved = { ...health, revision: health.revision + 1 }
    this.rows.set(health.endpointKey, saved)
    return { isWritten: true, health: saved }
  }
}

let store: SharedStore
let told: string[]

function keeper(name = ''): HealthKeeper {
  return new HealthKeeper({
    store,
    rule: { disableAfterMs: 5 * day },
    logger: silentLogger,
    endpoint: (key) => endpointRecord(key),
    warn: async ({ key }, { warned }) => {
      told.push(`${name}${key} ${warned}`)
    },
    recovered: async ({ key }) => {
      told.push(`${name}${key} recovered`)
    },
    disable: async ({ key }) => {
      told.push(`${name}${key} disable`)
    },
    during: () => {},
  })
}

async function attempt(
  to: HealthKeeper,
  key: string,
  outcome: Outcome,
  afterMs: number,
  ended = 1,
) {
  const atMs = start + afterMs
  to.attempted(endpointRecord(key), { outcome, startedAtMs: atMs, settledAtMs: atMs, ended })
  await settled()
}

beforeEach(() => {
  store = new SharedStore()
  told = []
})

describe('our own network', () => {
  test('silence counts for nothing while nobody else can be reached', async () => {
    const one = keeper()
    for (let i = 0; i < 200; i += 1) {
      await attempt(one, 'a', silent, i * hour)
      await attempt(one, 'b', silent, i * hour)
    }
    expect([told, store.saves]).toEqual([[], 0])
  })

  test('silence counts where another endpoint answers, also with an error', async () => {
    const one = keeper()
    for (let i = 0; i < 200; i += 1) {
      await attempt(one, 'b', { kind: 'faulted', status: 500, retryAfterMs: null }, i * hour)
      await attempt(one, 'a', silent, i * hour)
    }
    expect(told.filter((one) => one.startsWith('a')).slice(0, 3)).toEqual([
      'a early',
      'a final',
      'a disable',
    ])
  })

  test('an answer of its own, or an old one, proves nothing', async () => {
    const one = keeper()
    for (let i = 0; i < 200; i += 1) {
      await attempt(one, 'b', fine, i * hour - 61_000)
      await attempt(one, 'a', silent, i * hour)
    }
    expect(told).toEqual([])
  })
})

describe('several processes', () => {
  test('failures add up, and each warning is given once', async () => {
    const both = [keeper('one '), keeper('two ')]
    for (let i = 0; i < 97; i += 1) await attempt(both[i % 2]!, 'a', refused, i * hour)
    expect(told.map((one) => one.slice(4))).toEqual(['a early', 'a final'])
    expect(store.rows.get('a')).toMatchObject({ failingSinceMs: start, failedHours: 97 })
  })

  test('two that see the same at the same moment count it once', async () => {
    const [one, two] = [keeper('one '), keeper('two ')]
    for (let i = 0; i < 2; i += 1) {
      for (const each of [one, two]) {
        const report = {
          outcome: refused,
          startedAtMs: start,
          settledAtMs: start + i * hour,
          ended: 0,
        }
        each.attempted(endpointRecord('a'), report)
      }
      await settled()
    }
    expect(told).toHaveLength(1)
    expect(store.rows.get('a')?.failedHours).toBe(2)
  })

  test('a success here ends the run that was seen there', async () => {
    const [one, two] = [keeper('one '), keeper('two ')]
    for (let i = 0; i < 3; i += 1) await attempt(one, 'a', refused, i * hour)
    await two.sync()
    await attempt(two, 'a', fine, 3 * hour)
    expect(told).toEqual(['one a early', 'two a recovered'])
    await one.sync()
    await attempt(one, 'a', refused, 4 * hour)
    expect(store.rows.get('a')).toMatchObject({ failingSinceMs: start + 4 * hour, warned: 'no' })
  })
})

test('an endpoint that works costs no write, a dead one an hourly one', async () => {
  const one = keeper()
  for (let i = 0; i < 1_000; i += 1) await attempt(one, 'a', fine, i)
  expect(store.saves).toBe(0)
  for (let i = 0; i < 1_000; i += 1) await attempt(one, 'b', refused, i * 10_000, 0)
  // 2 hours and 47 minutes: three hours of the clock, and the early warning.
  expect(store.saves).toBeLessThanOrEqual(4)
})
