import { describe, expect, test } from 'vitest'
import type { EndpointHealth } from '../../src/model/health.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import {
  afterFailure,
  cleared,
  disableAtMs,
  isWorthWriting,
  judge,
  testimonyOf,
  unknownHealth,
  withWarning,
} from '../../src/policy/health.ts'

const hour = 3_600_000
const day = 24 * hour
const start = Date.UTC(2026, 0, 5, 12)
const rule = { disableAfterMs: 5 * day }

/** A run with a failure at each of these times after the start. */
function run(...afterMs: number[]): EndpointHealth {
  return afterMs.reduce(
    (health, ms, i) =>
      afterFailure(health, { atMs: start + ms, enabledAtMs: 0, ended: i === 0 ? 1 : 0 }),
    unknownHealth('one'),
  )
}
const hourly = (hours: number) => run(...Array.from({ length: hours }, (_, i) => i * hour))

describe('what an attempt says about its endpoint', () => {
  const table: [Outcome, string][] = [
    [{ kind: 'accepted', status: 200, redirected: false }, 'answers'],
    [{ kind: 'accepted', status: 302, redirected: true }, 'answers'],
    [{ kind: 'faulted', status: 500, retryAfterMs: null }, 'fails'],
    [{ kind: 'throttled', status: 429, retryAfterMs: 1 }, 'fails'],
    [{ kind: 'refused', status: 404 }, 'fails'],
    [{ kind: 'gone', status: 410 }, 'fails'],
    [{ kind: 'timed-out', phase: 'headers' }, 'fails'],
    [{ kind: 'timed-out', phase: 'connect' }, 'unclear'],
    [{ kind: 'timed-out', phase: 'dns' }, 'nothing'],
    [{ kind: 'timed-out', phase: 'proxy' }, 'nothing'],
    [{ kind: 'unreachable', code: 'ECONNREFUSED' }, 'fails'],
    [{ kind: 'unreachable', code: 'ERR_TLS_CERT_ALTNAME_INVALID' }, 'fails'],
    [{ kind: 'unreachable', code: 'EHOSTUNREACH' }, 'unclear'],
    [{ kind: 'unreachable', code: 'ENETUNREACH' }, 'unclear'],
    [{ kind: 'unreachable', code: 'ENETDOWN' }, 'nothing'],
    [{ kind: 'unreachable', code: 'EMFILE' }, 'nothing'],
    [{ kind: 'unreachable', code: 'ENOTFOUND', at: 'dns' }, 'nothing'],
    [{ kind: 'unreachable', code: 'ECONNREFUSED', at: 'proxy' }, 'nothing'],
    [{ kind: 'blocked', address: '10.0.0.1' }, 'nothing'],
  ]
  for (const [outcome, expected] of table) {
    test(`${JSON.stringify(outcome)}: ${expected}`, () => {
      expect(testimonyOf(outcome)).toBe(expected)
    })
  }
})

describe('a run of failures', () => {
  test('correctness 14: counts hours of the clock, not attempts', () => {
    expect(run(0, 1, 2, 3)).toMatchObject({ failingSinceMs: start, failedHours: 1 })
    expect(run(0, hour, hour + 1, 5 * hour)).toMatchObject({ failedHours: 3 })
  })

  test('begins anew when the endpoint was enabled after it began', () => {
    const again = afterFailure(hourly(200), {
      atMs: start + 300 * hour,
      enabledAtMs: start + 299 * hour,
      ended: 1,
    })
    expect(again).toMatchObject({
      failingSinceMs: start + 300 * hour,
      failedHours: 1,
      failedDeliveries: 1,
      warned: 'no',
    })
  })

  test('a success ends it, and failures of before do not begin another', () => {
    const ended = cleared(hourly(200), start + 200 * hour)
    expect(ended).toMatchObject({ failingSinceMs: null, failedHours: 0, warned: 'no' })
    const note = { atMs: start + 199 * hour, enabledAtMs: 0, ended: 0 }
    expect(afterFailure(ended, note)).toBe(ended)
  })

  test('is written at its start, once an hour and for three deliveries', () => {
    const failure = (health: EndpointHealth, ms: number, ended: number) =>
      afterFailure(health, { atMs: start + ms, enabledAtMs: 0, ended })
    let health = unknownHealth('one')
    let writes = 0
    for (let i = 0; i < 1_000; i += 1) {
      const next = failure(health, i * 1_000, 1)
      if (isWorthWriting(health, next)) writes += 1
      health = next
    }
    // 16 minutes and 40 seconds: the first failure, and two more deliveries.
    expect(writes).toBe(3)
    expect(health.failedDeliveries).toBe(1_000)
  })
})

describe('the verdict', () => {
  const at = (ms: number) => start + ms
  const early = (health: EndpointHealth, ms: number) => withWarning(health, 'early', at(ms))
  const final = (health: EndpointHealth, ms: number) => withWarning(health, 'final', at(ms))
  const table: [string, EndpointHealth, number, ReturnType<typeof judge>][] = [
    ['nothing failed', unknownHealth('one'), 9 * day, null],
    ['one failure', run(0), 0, null],
    ['an hour of it', run(0, hour), hour, 'early'],
    ['three deliveries', { ...run(0), failedDeliveries: 3 }, 1, 'early'],
    ['two deliveries', { ...run(0), failedDeliveries: 2 }, 1, null],
    ['warned already', early(run(0, hour), hour), 2 * hour, null],
    ['a day before the end', early(hourly(97), hour), 4 * day, 'final'],
    ['a second before that', early(hourly(96), hour), 4 * day - 1_000, null],
    ['five days, told a day ago', final(hourly(121), 4 * day), 5 * day, 'disable'],
    ['five days, told just now', final(hourly(121), 5 * day - 1), 5 * day, null],
    ['five days in two hours only', early(run(0, 5 * day), hour), 5 * day, null],
    ['five days in nine hours', early(hourly(9), hour), 6 * day, null],
    ['five days in ten hours', early(hourly(10), hour), 6 * day, 'final'],
    [
      'a month of one delivery that is still retried',
      early({ ...hourly(700), failedDeliveries: 0 }, hour),
      30 * day,
      null,
    ],
  ]
  for (const [name, health, ms, verdict] of table) {
    test(`${name}: ${verdict}`, () => expect(judge(health, rule, at(ms))).toBe(verdict))
  }

  test('never is never', () => {
    const health = final(hourly(1_000), 0)
    expect(judge(health, { disableAfterMs: null }, at(100 * day))).toBe(null)
    expect(disableAtMs(health, { disableAfterMs: null })).toBe(null)
  })

  test('tells when it ends: not before the run is long enough, nor a day after the last warning', () => {
    expect(disableAtMs(run(0), rule)).toBe(at(5 * day))
    expect(disableAtMs(final(hourly(10), 9 * day), rule)).toBe(at(10 * day))
  })

  test('the shortest rule still needs two hours of the clock', () => {
    const short = { disableAfterMs: hour }
    expect(judge(final(run(0, 1), 0), short, at(2 * hour))).toBe(null)
    expect(judge(final(run(0, hour), 0), short, at(2 * hour))).toBe('disable')
  })
})
