import { describe, expect, it } from 'vitest'
import { checkRateLimit, sendIntervalMs, timesAtOnce, usableForMs } from '../../src/policy/rate.ts'

describe('send times of a rate limit', () => {
  it.each([
    [{ limit: 10, perMs: 1_000 }],
    [{ limit: 1, perMs: 1_000 }],
    [{ limit: 3, perMs: 1_000 }],
    [{ limit: 500, perMs: 1_000 }],
    [{ limit: 100, perMs: 60_000 }],
  ])('%j holds in every window, however late each time is used and arrives', (limit) => {
    const intervalMs = sendIntervalMs(limit)
    // One more than allowed: the first as late as it may be, the last in time.
    const shortestMs = limit.limit * intervalMs - usableForMs - 50
    expect(shortestMs).toBeGreaterThanOrEqual(limit.perMs - 1e-6)
  })

  it('are taken for about a second', () => {
    expect(timesAtOnce(sendIntervalMs({ limit: 10, perMs: 1_000 }))).toBe(9)
    expect(timesAtOnce(sendIntervalMs({ limit: 1, perMs: 3_600_000 }))).toBe(1)
  })
})

describe('a rate limit is refused', () => {
  it.each([
    ['10/s', 'OPTION_INVALID'],
    [null, 'OPTION_INVALID'],
    [{}, 'OPTION_OUT_OF_RANGE'],
    [{ limit: 0, perMs: 1_000 }, 'OPTION_OUT_OF_RANGE'],
    [{ limit: 1.5, perMs: 1_000 }, 'OPTION_OUT_OF_RANGE'],
    [{ limit: 10, perMs: 86_400_001 }, 'OPTION_OUT_OF_RANGE'],
    [{ limit: 10, per: 1_000 }, 'OPTION_UNKNOWN'],
  ])('%j: %s', (given, code) => {
    expect(() => checkRateLimit('rateLimit', given)).toThrow(expect.objectContaining({ code }))
  })
})
