import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { summarise } from '../../src/observe/statistics.ts'
import { latencyClass } from '../../src/storage/latency-class.ts'
import type { StatisticsRow } from '../../src/storage/questions.ts'

function row(fields: Partial<StatisticsRow> & { latencyMs: number }): StatisticsRow {
  const { latencyMs, ...given } = fields
  const deliveries = given.deliveries ?? 1
  return {
    hourMs: null,
    eventType: 'message.sent',
    outcome: 'accepted',
    state: 'delivered',
    latencyClass: latencyClass(latencyMs),
    attempts: deliveries,
    deliveries,
    latencySumMs: latencyMs * deliveries,
    ...given,
  }
}

const retried = (latencyMs: number) => row({ latencyMs, outcome: 'faulted', state: 'waiting' })

describe('percentiles of latency', () => {
  it('are right to within 12 %', () => {
    const latencies = fc.array(fc.double({ min: 1, max: 300_000, noNaN: true }), { minLength: 1 })
    fc.assert(
      fc.property(latencies, (given) => {
        const { latencyPercentiles } = summarise(given.map((latencyMs) => row({ latencyMs })))
        const sorted = given.toSorted((a, b) => a - b)
        for (const [name, share] of [
          ['p50', 0.5],
          ['p90', 0.9],
          ['p99', 0.99],
        ] as const) {
          const exact = sorted[Math.ceil(sorted.length * share) - 1] as number
          expect(Math.abs(latencyPercentiles[name] / exact - 1)).toBeLessThan(0.121)
        }
      }),
    )
  })

  it('are those of final attempts, each delivery of a batch by itself', () => {
    const rows = [
      ...[...Array(10)].map(() => retried(30_000)),
      row({ latencyMs: 10, deliveries: 8 }),
      row({ latencyMs: 1_000, state: 'rejected', outcome: 'refused' }),
      row({ latencyMs: 5_000, state: 'exhausted', outcome: 'faulted' }),
    ]
    const { p50, p90, p99 } = summarise(rows).latencyPercentiles
    expect([p50, p90, p99].map((ms) => latencyClass(ms))).toEqual(
      [10, 1_000, 5_000].map((ms) => latencyClass(ms)),
    )
  })

  it('are 0 where nothing has ended', () => {
    expect(summarise([retried(5)])).toMatchObject({
      latencyPercentiles: { p50: 0, p90: 0, p99: 0 },
      averageLatency: 0,
      successRate: 0,
      totalDeliveries: 0,
      attempts: 1,
    })
  })
})

describe('figures', () => {
  it('count what has ended, and time its final attempt', () => {
    const rows = [
      retried(30_000),
      row({ latencyMs: 100 }),
      row({ latencyMs: 20, eventType: 'template.created' }),
      row({ latencyMs: 60, state: 'rejected', outcome: 'refused' }),
    ]
    expect(summarise(rows)).toMatchObject({
      totalDeliveries: 3,
      successfulDeliveries: 2,
      failedDeliveries: 1,
      averageLatency: 60,
      successRate: 66.7,
      attempts: 4,
      byOutcome: { faulted: 1, accepted: 2, refused: 1 },
    })
  })

  it('are there for every type, whatever it is called', () => {
    const { byEventType } = summarise([row({ latencyMs: 1, eventType: '__proto__' })])
    expect(Object.keys(byEventType)).toEqual(['__proto__'])
  })
})
