import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/model/outcome.ts'
import type { RetryPolicy } from '../../src/policy/retry-policy.ts'
import { isRetried, settle } from '../../src/policy/settle.ts'

const nowMs = 1_767_225_600_000
const dayMs = 86_400_000

/** Retries after 10 s and after 60 s, without dice. */
const policy: RetryPolicy = {
  maxAttempts: 3,
  jitter: false,
  delays: { kind: 'list', delaysMs: [10_000, 60_000] },
}
const dice = () => 0.5

const throttled = (retryAfterMs: number | null, status = 429): Outcome => ({
  kind: 'throttled',
  status,
  retryAfterMs,
})
const faulted = (status: number, retryAfterMs: number | null = null): Outcome => ({
  kind: 'faulted',
  status,
  retryAfterMs,
})
const refused = (status: number): Outcome => ({ kind: 'refused', status })

describe('what an outcome means for the delivery', () => {
  it.each<[string, Outcome, string, string]>([
    ['200', { kind: 'accepted', status: 200, redirected: false }, 'delivered', 'accepted'],
    ['204', { kind: 'accepted', status: 204, redirected: false }, 'delivered', 'accepted'],
    ['307', { kind: 'accepted', status: 307, redirected: true }, 'delivered', 'redirect_307'],
    ['408', faulted(408), 'waiting', 'HTTP 408'],
    ['429', throttled(null), 'waiting', 'HTTP 429'],
    ['500', faulted(500), 'waiting', 'HTTP 500'],
    ['503', faulted(503), 'waiting', 'HTTP 503'],
    ['599', faulted(599), 'waiting', 'HTTP 599'],
    ['a timeout', { kind: 'timed-out', phase: 'connect' }, 'waiting', 'timed out (connect)'],
    [
      'a closed port',
      { kind: 'unreachable', code: 'ECONNREFUSED' },
      'waiting',
      'could not be reached (ECONNREFUSED)',
    ],
    ['400', refused(400), 'rejected', 'status_400'],
    ['401', refused(401), 'rejected', 'status_401'],
    ['404', refused(404), 'rejected', 'status_404'],
    ['422', refused(422), 'rejected', 'status_422'],
    ['302 where it is a failure', refused(302), 'rejected', 'status_302'],
    ['410', { kind: 'gone', status: 410 }, 'rejected', 'gone'],
    ['a private address', { kind: 'blocked', address: '10.0.0.1' }, 'rejected', 'address_blocked'],
  ])('%s', (_name, outcome, state, reason) => {
    expect(settle(1, outcome, policy, nowMs, dice)).toMatchObject({ state, reason })
    expect(isRetried(outcome)).toBe(state === 'waiting')
  })

  it('waits the time of the schedule for each attempt, and ends after the last', () => {
    expect(settle(1, faulted(500), policy, nowMs, dice)).toMatchObject({ dueAtMs: nowMs + 10_000 })
    expect(settle(2, faulted(500), policy, nowMs, dice)).toMatchObject({ dueAtMs: nowMs + 60_000 })
    expect(settle(3, faulted(500), policy, nowMs, dice)).toEqual({
      state: 'exhausted',
      reason: 'HTTP 500',
      effect: null,
    })
  })

  it('of an attempt beyond the last, which a changed policy can bring, ends as well', () => {
    expect(settle(9, faulted(500), policy, nowMs, dice)).toMatchObject({ state: 'exhausted' })
  })
})

describe('Retry-After', () => {
  it.each([
    ['shorter than the schedule: the schedule holds', 2_000, 10_000],
    ['longer: it is a floor', 3_600_000, 3_600_000],
    ['zero: at least a second', 0, 10_000],
    ['a week: at most a day', 7 * dayMs, dayMs],
    ['beyond all numbers', Number.MAX_SAFE_INTEGER, dayMs],
  ])('%s', (_name, askedMs, delayMs) => {
    for (const outcome of [throttled(askedMs), faulted(500, askedMs), throttled(askedMs, 503)]) {
      expect(settle(1, outcome, policy, nowMs, dice)).toMatchObject({ dueAtMs: nowMs + delayMs })
    }
  })

  it.each([
    [0, 1_000],
    [999, 1_000],
    [5_000, 5_000],
    [dayMs + 1, dayMs],
  ])('of %i ms holds the whole endpoint for %i ms', (askedMs, heldMs) => {
    expect(settle(1, throttled(askedMs), policy, nowMs, dice).effect).toEqual({
      kind: 'hold',
      untilMs: nowMs + heldMs,
    })
  })

  it('holds the endpoint also when this delivery has used up its attempts', () => {
    expect(settle(3, throttled(5_000), policy, nowMs, dice)).toMatchObject({
      state: 'exhausted',
      effect: { kind: 'hold', untilMs: nowMs + 5_000 },
    })
  })

  it('that is not there holds nothing', () => {
    expect(settle(1, throttled(null), policy, nowMs, dice).effect).toBeNull()
  })
})

describe('what an outcome means for the endpoint', () => {
  it('410 disables it, with a reason a person understands', () => {
    expect(settle(1, { kind: 'gone', status: 410 }, policy, nowMs, dice).effect).toEqual({
      kind: 'disable',
      reason: 'the receiver answered 410 Gone',
    })
  })

  it('a redirect warns, and says what to do', () => {
    const { effect } = settle(
      1,
      { kind: 'accepted', status: 301, redirected: true },
      policy,
      nowMs,
      dice,
    )
    expect(effect).toMatchObject({ kind: 'warn', warning: expect.stringContaining('301') })
    expect(effect).toMatchObject({ warning: expect.stringContaining("redirects: 'failure'") })
  })

  it.each<[Outcome]>([
    [{ kind: 'accepted', status: 200, redirected: false }],
    [faulted(500)],
    [refused(404)],
    [{ kind: 'timed-out', phase: 'headers' }],
    [{ kind: 'unreachable', code: 'ENOTFOUND' }],
    [{ kind: 'blocked', address: '10.0.0.1' }],
  ])('%o does nothing to it', (outcome) => {
    expect(settle(1, outcome, policy, nowMs, dice).effect).toBeNull()
  })
})

describe('whatever happens', () => {
  const outcomes = fc.oneof(
    fc.constantFrom<Outcome>(
      { kind: 'accepted', status: 200, redirected: false },
      { kind: 'accepted', status: 302, redirected: true },
      { kind: 'gone', status: 410 },
      { kind: 'blocked', address: '::1' },
      { kind: 'timed-out', phase: 'headers' },
      { kind: 'unreachable', code: 'ECONNRESET' },
      { kind: 'refused', status: 404 },
    ),
    fc
      .record({
        kind: fc.constantFrom('throttled' as const, 'faulted' as const),
        status: fc.constantFrom(408, 429, 500, 503),
        retryAfterMs: fc.option(fc.maxSafeNat()),
      })
      .map((one): Outcome => one),
  )
  const policies = fc
    .record({
      delaysMs: fc.array(fc.nat({ max: 31_536_000_000 }), { maxLength: 20 }),
      jitter: fc.boolean(),
    })
    .map(
      ({ delaysMs, jitter }): RetryPolicy => ({
        maxAttempts: delaysMs.length + 1,
        jitter,
        delays: { kind: 'list', delaysMs },
      }),
    )
  const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

  it('a retry follows only an outcome that another attempt may change, while attempts are left', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), outcomes, policies, randoms, (n, o, p, r) => {
        const { state } = settle(n, o, p, nowMs, () => r)
        expect(state === 'waiting').toBe(isRetried(o) && n < p.maxAttempts)
      }),
    )
  })

  it('a retry is never before half of its delay, nor before a Retry-After, nor after both', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), outcomes, policies, randoms, (n, o, p, r) => {
        const settlement = settle(n, o, p, nowMs, () => r)
        if (settlement.state !== 'waiting') return
        const waitMs = settlement.dueAtMs - nowMs
        const fullMs = p.delays.kind === 'list' ? (p.delays.delaysMs[n - 1] ?? 0) : 0
        const asked = 'retryAfterMs' in o ? o.retryAfterMs : null
        const floorMs = asked === null ? 0 : Math.min(Math.max(asked, 1_000), dayMs)
        expect(waitMs).toBeGreaterThanOrEqual(Math.max(Math.floor(fullMs / 2), floorMs))
        expect(waitMs).toBeLessThanOrEqual(Math.max(fullMs, floorMs))
        if (!p.jitter) expect(waitMs).toBe(Math.max(fullMs, floorMs))
      }),
    )
  })

  it('every end has a reason', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), outcomes, policies, (n, o, p) => {
        expect(settle(n, o, p, nowMs, dice).reason).not.toBe('')
      }),
    )
  })
})
