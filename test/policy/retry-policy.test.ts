import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RetryManager } from '../../src/policy/retry-manager.ts'
import {
  nextDelayMs,
  resolveRetryPolicy,
  scheduledDelayMs,
  scheduleLengthMs,
  standardScheduleMs,
} from '../../src/policy/retry-policy.ts'

const all = (policy: ReturnType<typeof resolveRetryPolicy>) =>
  Array.from({ length: policy.maxAttempts - 1 }, (_, i) => scheduledDelayMs(policy, i + 1))

describe('the schedule', () => {
  it.each<[string, Parameters<typeof resolveRetryPolicy>[0], number[]]>([
    ['the defaults of the seed', {}, [1_000, 2_000, 4_000]],
    ['maxRetries: 0 is one attempt', { maxRetries: 0 }, []],
    [
      'a growing delay is capped',
      { maxRetries: 6, maxDelayMs: 5_000 },
      [1_000, 2_000, 4_000, 5_000, 5_000, 5_000],
    ],
    [
      'a first delay above the default cap is meant',
      { retryDelayMs: 3_600_000 },
      [3_600_000, 3_600_000, 3_600_000],
    ],
    [
      'a cap that is named holds',
      { retryDelayMs: 3_600_000, maxDelayMs: 60_000 },
      [60_000, 60_000, 60_000],
    ],
    ['factor 1 is a fixed delay', { backoffMultiplier: 1, maxRetries: 2 }, [1_000, 1_000]],
    ['a list is taken as it is', { retryScheduleMs: [5, 50, 500] }, [5, 50, 500]],
    ['a list replaces the exponential options', { retryScheduleMs: [5], retryDelayMs: 9 }, [5]],
    ['maxRetries shortens a list', { retryScheduleMs: [5, 50, 500], maxRetries: 2 }, [5, 50]],
    ['maxRetries cannot lengthen a list', { retryScheduleMs: [5], maxRetries: 9 }, [5]],
    ['the standard one', { retryScheduleMs: 'standard' }, [...standardScheduleMs]],
  ])('%s', (_name, config, expected) => {
    expect(all(resolveRetryPolicy(config))).toEqual(expected)
  })

  it.each<
    [
      string,
      Parameters<typeof resolveRetryPolicy>[0],
      Parameters<typeof resolveRetryPolicy>[1],
      number[],
    ]
  >([
    ['an endpoint says nothing: the service decides', { maxRetries: 1 }, {}, [1_000]],
    [
      'an endpoint names its delay: it leaves the list',
      { retryScheduleMs: [7, 8] },
      { retryDelayMs: 100, maxRetries: 2 },
      [100, 200],
    ],
    [
      'an endpoint names a number only: it shortens the list',
      { retryScheduleMs: [7, 8, 9] },
      { maxRetries: 1 },
      [7],
    ],
    ['an endpoint has its own list', { maxRetries: 1 }, { retryScheduleMs: [7, 8, 9] }, [7, 8, 9]],
    [
      'baseDelayMs is another name of retryDelayMs',
      {},
      { baseDelayMs: 10, maxRetries: 2 },
      [10, 20],
    ],
    ['an endpoint asks for no retries', { retryScheduleMs: 'standard' }, { maxRetries: 0 }, []],
  ])('%s', (_name, service, endpoint, expected) => {
    expect(all(resolveRetryPolicy(service, endpoint))).toEqual(expected)
  })

  it('"standard" is ten attempts within 76 hours', () => {
    const policy = resolveRetryPolicy({ retryScheduleMs: 'standard' })
    expect(policy.maxAttempts).toBe(10)
    expect(scheduleLengthMs(policy)).toBe(272_105_000)
    expect(
      new RetryManager({ retryScheduleMs: 'standard' }).scheduleLengthMs / 3_600_000,
    ).toBeCloseTo(75.6, 1)
  })
})

describe('jitter', () => {
  it('lies in the upper half of the delay', () => {
    const policy = resolveRetryPolicy({ retryScheduleMs: [10_000] })
    expect(nextDelayMs(policy, 1, () => 0)).toBe(5_000)
    expect(nextDelayMs(policy, 1, () => 0.5)).toBe(7_500)
    expect(nextDelayMs(policy, 1, () => 0.999_999)).toBe(10_000)
  })

  it('is the whole delay where the source of chance is broken', () => {
    const policy = resolveRetryPolicy({ retryScheduleMs: [10_000] })
    for (const broken of [Number.NaN, -1, 7, undefined as unknown as number]) {
      expect(nextDelayMs(policy, 1, () => broken)).toBe(10_000)
    }
  })

  it('is on unless it is switched off', () => {
    expect(resolveRetryPolicy({}).jitter).toBe(true)
    expect(resolveRetryPolicy({ jitter: false }).jitter).toBe(false)
    expect(resolveRetryPolicy({ jitter: false }, { jitter: true }).jitter).toBe(true)
  })

  it('spreads what failed together', () => {
    const policy = resolveRetryPolicy({ retryScheduleMs: [10_000] })
    let step = 0
    const delays = Array.from({ length: 100 }, () =>
      nextDelayMs(policy, 1, () => {
        step += 1
        return (step * 0.618_034) % 1
      }),
    )
    expect(new Set(delays).size).toBeGreaterThan(90)
  })
})

describe('whatever is configured', () => {
  const configs = fc.record(
    {
      maxRetries: fc.nat({ max: 200 }),
      baseDelayMs: fc.oneof(
        fc.constant(0),
        fc.double({ min: 0, max: 31_536_000_000, noNaN: true }),
      ),
      maxDelayMs: fc.double({ min: 0, max: 31_536_000_000, noNaN: true }),
      backoffMultiplier: fc.double({ min: 1, max: 1_000, noNaN: true }),
      jitter: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

  it('every delay is a number from 0 to the cap, and there are never more than maxRetries', () => {
    fc.assert(
      fc.property(
        configs,
        randoms,
        fc.integer({ min: 1, max: 1_200 }),
        (config, random, attempt) => {
          const policy = new RetryManager(config).policyFor()
          const delayMs = nextDelayMs(policy, attempt, () => random)
          if (attempt > (config.maxRetries ?? 3)) {
            expect(delayMs).toBeNull()
            return
          }
          const capMs = config.maxDelayMs ?? Math.max(300_000, config.baseDelayMs ?? 0)
          expect(delayMs).toBeGreaterThanOrEqual(0)
          expect(delayMs).toBeLessThanOrEqual(Math.ceil(capMs))
        },
      ),
      { numRuns: 500 },
    )
  })

  it('no delay is nought times infinity', () => {
    const policy = resolveRetryPolicy({
      baseDelayMs: 0,
      backoffMultiplier: 1_000,
      maxRetries: 200,
    })
    expect(nextDelayMs(policy, 200, () => 0.5)).toBe(0)
  })
})

describe('RetryManager alone', () => {
  it.each([0, -1, 1.5, Number.NaN, 'x'])('has no attempt %j', (attempt) => {
    const manager = new RetryManager()
    const fault = { kind: 'faulted', status: 500, retryAfterMs: null } as const
    const refused = expect.objectContaining({ code: 'OPTION_OUT_OF_RANGE' })
    expect(() => manager.nextDelayMs(attempt as number)).toThrow(refused)
    expect(() => manager.shouldRetry(attempt as number, fault)).toThrow(refused)
  })

  it.each(['retryDelayMs', 'baseDelayMs', 'backoffMultiplier', 'maxDelayMs'])(
    'takes a list of delays or %s, which would have no effect beside it',
    (name) => {
      const both = { retryScheduleMs: 'standard', [name]: 5 } as const
      expect(() => new RetryManager(both)).toThrow(
        expect.objectContaining({ code: 'OPTION_INVALID' }),
      )
    },
  )

  it('says whether another attempt follows', () => {
    const manager = new RetryManager({ maxRetries: 2 })
    const fault = { kind: 'faulted', status: 500, retryAfterMs: null } as const
    expect([1, 2, 3].map((attempt) => manager.shouldRetry(attempt, fault))).toEqual([
      true,
      true,
      false,
    ])
    expect(manager.shouldRetry(1, { kind: 'refused', status: 404 })).toBe(false)
    expect([1, 2, 3].map((attempt) => manager.nextDelayMs(attempt, () => 0))).toEqual([
      500,
      1_000,
      null,
    ])
  })

  it.each([
    [{ maxRetries: -1 }, 'OPTION_OUT_OF_RANGE'],
    [{ maxRetries: 1.5 }, 'OPTION_OUT_OF_RANGE'],
    [{ maxRetries: Number.NaN }, 'OPTION_OUT_OF_RANGE'],
    [{ baseDelayMs: Number.NaN }, 'OPTION_OUT_OF_RANGE'],
    [{ maxDelayMs: Number.NaN }, 'OPTION_OUT_OF_RANGE'],
    [{ backoffMultiplier: Number.NaN }, 'OPTION_OUT_OF_RANGE'],
    [{ baseDelayMs: -5 }, 'OPTION_OUT_OF_RANGE'],
    [{ baseDelayMs: Number.POSITIVE_INFINITY }, 'OPTION_OUT_OF_RANGE'],
    [{ maxDelayMs: '5s' }, 'OPTION_OUT_OF_RANGE'],
    [{ backoffMultiplier: 0.5 }, 'OPTION_OUT_OF_RANGE'],
    [{ jitter: 'yes' }, 'OPTION_INVALID'],
    [{ retryScheduleMs: [] }, 'SCHEDULE_EMPTY'],
    [{ retryScheduleMs: [1, -1] }, 'OPTION_OUT_OF_RANGE'],
    [{ retryScheduleMs: 'hourly' }, 'OPTION_OUT_OF_RANGE'],
    [{ retryScheduleMs: [Number.NaN] }, 'OPTION_OUT_OF_RANGE'],
  ])('refuses %o', (config, code) => {
    expect(() => new RetryManager(config as never)).toThrow(expect.objectContaining({ code }))
  })
})
