/** RetryManager: the retry rules as a part of their own, by the names of the public API. */
import type { Random } from '../model/clock.ts'
import type { EndpointRetryConfig } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import { checkOptions } from '../model/given.ts'
import type { Outcome } from '../model/outcome.ts'
import {
  nextDelayMs,
  type RetryPolicy,
  resolveRetryPolicy,
  scheduleLengthMs,
  standardScheduleMs,
} from './retry-policy.ts'
import { isRetried } from './settle.ts'

export interface RetryConfig {
  /** Retries after the first attempt. Default 3. */
  maxRetries?: number | undefined
  /** Default 1000. */
  baseDelayMs?: number | undefined
  /** Default 300000 (5 minutes), or the first delay where that is longer. */
  maxDelayMs?: number | undefined
  /** Default 2. */
  backoffMultiplier?: number | undefined
  /** Default true: each delay lies at random in the upper half of the scheduled one. */
  jitter?: boolean | undefined
  /** Explicit delays instead of the exponential ones; `'standard'` takes 75 hours. */
  retryScheduleMs?: readonly number[] | 'standard' | undefined
}

export class RetryManager {
  readonly #config: RetryConfig

  /** @throws WebhookError OPTION_…, SCHEDULE_EMPTY */
  constructor(config: RetryConfig = {}) {
    checkOptions(config, retryFields, 'RetryManager')
    checkRetryConfig(config)
    this.#config = { ...config }
  }

  /** The rules for one endpoint: its own where it has any, else this manager's. */
  policyFor(endpoint?: EndpointRetryConfig): RetryPolicy {
    return resolveRetryPolicy(this.#config, endpoint)
  }

  /**
   * Would another attempt follow?
   *
   * @param attempt 1-based number of the attempt that ended so
   * @throws WebhookError OPTION_OUT_OF_RANGE
   */
  shouldRetry(attempt: number, outcome: Outcome): boolean {
    checkAttempt(attempt)
    return isRetried(outcome) && attempt < this.policyFor().maxAttempts
  }

  /**
   * @param attempt 1-based number of the attempt that just failed
   * @returns milliseconds until the next one, or null when no attempt is left
   * @throws WebhookError OPTION_OUT_OF_RANGE
   */
  nextDelayMs(attempt: number, random: Random = Math.random): number | null {
    checkAttempt(attempt)
    return nextDelayMs(this.policyFor(), attempt, random)
  }

  /** From the first attempt to the last, in ms: how long a receiver may be down. */
  get scheduleLengthMs(): number {
    return scheduleLengthMs(this.policyFor())
  }
}

function checkAttempt(attempt: number): void {
  if (Number.isInteger(attempt) && attempt >= 1) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected the number of an attempt, from 1, got ${describeValue(attempt)}; the first attempt is 1.`,
  )
}

/** Every attempt is a row that is kept for 30 days, and is in every read of its delivery. */
const maxRetries = 200

const ranges: readonly [keyof EndpointRetryConfig, number, number, boolean][] = [
  ['maxRetries', 0, maxRetries, true],
  ['retryDelayMs', 0, 31_536_000_000, false],
  ['baseDelayMs', 0, 31_536_000_000, false],
  ['maxDelayMs', 0, 31_536_000_000, false],
  ['backoffMultiplier', 1, 1_000, false],
]

/** Of an endpoint's `retryConfig`, and of a RetryManager. */
export const retryFields = [
  'maxRetries',
  'retryDelayMs',
  'baseDelayMs',
  'maxDelayMs',
  'backoffMultiplier',
  'jitter',
  'retryScheduleMs',
] as const satisfies readonly (keyof EndpointRetryConfig)[]

/** @throws WebhookError OPTION_OUT_OF_RANGE, OPTION_INVALID, SCHEDULE_EMPTY */
export function checkRetryConfig(config: EndpointRetryConfig, where = ''): void {
  for (const [name, min, max, integer] of ranges) {
    const value = config[name]
    if (value === undefined) continue
    const fits =
      typeof value === 'number' &&
      value >= min &&
      value <= max &&
      (!integer || Number.isInteger(value))
    if (!fits) {
      throw new WebhookError(
        'OPTION_OUT_OF_RANGE',
        `Expected \`${where}${name}\` to be ${integer ? 'an integer' : 'a number'} from ${min} to ${max}, got ${describeValue(value)}.`,
      )
    }
  }
  if (config.jitter !== undefined && typeof config.jitter !== 'boolean') {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`${where}jitter\` to be true or false, got ${describeValue(config.jitter)}.`,
    )
  }
  checkSchedule(config.retryScheduleMs, `${where}retryScheduleMs`)
  refuseContradictions(config, where)
}

/** What a list of delays stands instead of. */
const madeDelays = ['retryDelayMs', 'baseDelayMs', 'backoffMultiplier', 'maxDelayMs'] as const

function refuseContradictions(config: EndpointRetryConfig, where: string): void {
  const { retryDelayMs, baseDelayMs, maxRetries, retryScheduleMs } = config
  if (retryDelayMs !== undefined && baseDelayMs !== undefined && retryDelayMs !== baseDelayMs) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`${where}retryDelayMs\` and \`${where}baseDelayMs\`, which are the same, to agree, got ${retryDelayMs} and ${baseDelayMs}; leave out one of the two.`,
    )
  }
  if (retryScheduleMs === undefined) return
  const idle = madeDelays.find((name) => config[name] !== undefined)
  if (idle !== undefined) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected either \`${where}retryScheduleMs\`, which lists the delays, or \`${where}${idle}\`, which makes them, got both; leave out one of the two.`,
    )
  }
  if (maxRetries === undefined) return
  // Fewer are the beginning of the list; for more there is no delay.
  const listed = retryScheduleMs === 'standard' ? standardScheduleMs : retryScheduleMs
  if (maxRetries <= listed.length) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${where}maxRetries\` to be at most ${listed.length}, the number of delays in \`${where}retryScheduleMs\`, got ${maxRetries}; leave it out to use them all.`,
  )
}

function checkSchedule(schedule: EndpointRetryConfig['retryScheduleMs'], name: string): void {
  if (schedule === undefined || schedule === 'standard') return
  const valid =
    Array.isArray(schedule) &&
    schedule.length <= maxRetries &&
    schedule.every((delay) => typeof delay === 'number' && delay >= 0 && delay <= 31_536_000_000)
  if (!valid) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`${name}\` to be 'standard' or a list of at most ${maxRetries} delays from 0 to 31536000000 ms, got ${describeValue(schedule)}.`,
    )
  }
  if (schedule.length === 0) {
    throw new WebhookError(
      'SCHEDULE_EMPTY',
      `Expected \`${name}\` to name at least one delay, got an empty list; use \`maxRetries: 0\` for a single attempt.`,
    )
  }
}
