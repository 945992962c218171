import { describe, expect, it } from 'vitest'
import { type Breaker, closedBreaker } from '../../src/model/flow.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import {
  afterFailure,
  afterSuccess,
  closed,
  type FailureRun,
  firstStep,
  halfOpened,
  mayProbe,
  mustOpen,
  noFailures,
  opened,
  reopened,
  type SlowStart,
  unprobed,
  verdictOf,
} from '../../src/policy/breaker.ts'

describe('what an outcome says of the endpoint', () => {
  const rows: [Outcome, ReturnType<typeof verdictOf>][] = [
    [{ kind: 'accepted', status: 200, redirected: false }, 'up'],
    [{ kind: 'accepted', status: 302, redirected: true }, 'up'],
    [{ kind: 'refused', status: 400 }, 'up'],
    [{ kind: 'gone', status: 410 }, 'up'],
    [{ kind: 'faulted', status: 500, retryAfterMs: null }, 'down'],
    [{ kind: 'faulted', status: 408, retryAfterMs: null }, 'down'],
    [{ kind: 'throttled', status: 429, retryAfterMs: null }, 'neither'],
    [{ kind: 'throttled', status: 503, retryAfterMs: 1_000 }, 'neither'],
    [{ kind: 'timed-out', phase: 'connect' }, 'down'],
    [{ kind: 'timed-out', phase: 'headers' }, 'down'],
    [{ kind: 'timed-out', phase: 'dns' }, 'neither'],
    [{ kind: 'timed-out', phase: 'proxy' }, 'neither'],
    [{ kind: 'unreachable', code: 'ECONNREFUSED' }, 'down'],
    [{ kind: 'unreachable', code: 'ENOTFOUND', at: 'dns' }, 'neither'],
    [{ kind: 'unreachable', code: 'ECONNREFUSED', at: 'proxy' }, 'neither'],
    [{ kind: 'blocked', address: '10.0.0.1' }, 'neither'],
  ]
  it.each(rows)('%j: %s', (outcome, verdict) => {
    expect(verdictOf(outcome)).toBe(verdict)
  })
})

describe('failures in a row', () => {
  const run = (count: number, firstMs: number): FailureRun => {
    let failures = noFailures
    for (let i = 0; i < count; i += 1) failures = afterFailure(failures, firstMs + i)
    return failures
  }
  const rows: [count: number, tookMs: number, boolean][] = [
    [19, 60_000, false],
    [20, 9_999, false],
    [20, 10_000, true],
    [500, 9_999, false],
    [500, 10_000, true],
  ]
  it.each(rows)('%i that took %i ms: opens %s', (count, tookMs, expected) => {
    expect(mustOpen(run(count, 5_000), 5_000 + tookMs)).toBe(expected)
  })
})

describe('a breaker', () => {
  const nowMs = 1_000_000
  const open = (openings: number): Breaker => ({
    state: 'half-open',
    epoch: 7,
    untilMs: 1,
    openings,
  })

  it.each([
    [0, 30_000],
    [1, 60_000],
    [2, 120_000],
    [3, 240_000],
    [4, 300_000],
    [5, 300_000],
    [5_000, 300_000],
  ])('that has opened %i times opens for %i ms', (openings, lengthMs) => {
    expect(opened(open(openings), nowMs)).toEqual({
      state: 'open',
      epoch: 8,
      untilMs: nowMs + lengthMs,
      openings: openings + 1,
    })
  })

  it('opens for as long again when its probe says nothing', () => {
    const first = opened(closedBreaker, nowMs)
    const second = reopened(halfOpened(first, nowMs, 5_000), nowMs)
    expect(second.untilMs - nowMs).toBe(30_000)
    expect(reopened(halfOpened(opened(second, nowMs), nowMs, 5_000), nowMs).openings).toBe(2)
  })

  it('may be probed when its time is over, and again when the prober is not heard of', () => {
    const first = opened(closedBreaker, nowMs)
    expect(mayProbe(first, nowMs + 29_999)).toBe(false)
    expect(mayProbe(first, nowMs + 30_000)).toBe(true)
    const probed = halfOpened(first, nowMs + 30_000, 10_000)
    expect(probed).toMatchObject({ state: 'half-open', epoch: 2, openings: 1 })
    expect(mayProbe(probed, nowMs + 44_999)).toBe(false)
    expect(mayProbe(probed, nowMs + 45_000)).toBe(true)
    expect(mayProbe(unprobed(probed, nowMs), nowMs)).toBe(true)
    expect(mayProbe(closedBreaker, nowMs)).toBe(false)
  })

  it('forgets its openings when it closes', () => {
    expect(closed(open(4))).toEqual({ state: 'closed', epoch: 8, untilMs: 0, openings: 0 })
  })
})

describe('slow start', () => {
  it.each([
    [1, []],
    [2, [1]],
    [10, [1, 2, 4, 8]],
    [16, [1, 2, 4, 8]],
  ])('up to %i goes %j', (concurrency, limits) => {
    const seen: number[] = []
    let step: SlowStart | null = concurrency > 1 ? firstStep : null
    for (let successes = 0; step !== null && successes < 100; successes += 1) {
      if (seen.at(-1) !== step.limit) seen.push(step.limit)
      step = afterSuccess(step, concurrency)
    }
    expect(seen).toEqual(limits)
  })
})
