/**
 * When the next attempt is due. Pure: the number of the failed attempt and a die in, a delay out.
 */
import type { Random } from '../model/clock.ts'
import type { EndpointRetryConfig } from '../model/endpoint.ts'

/**
 * The schedule Standard Webhooks recommends: ten attempts within 75 hours. The first attempt is at
 * once and not part of the list.
 */
export const standardScheduleMs: readonly number[] = [
  5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000,
]

/** Retry rules with every choice made. */
export interface RetryPolicy {
  readonly maxAttempts: number
  readonly jitter: boolean
  readonly delays:
    | { readonly kind: 'list'; readonly delaysMs: readonly number[] }
    | {
        readonly kind: 'exponential'
        readonly baseDelayMs: number
        readonly maxDelayMs: number
        readonly backoffMultiplier: number
      }
}

export const defaultRetry = {
  maxRetries: 3,
  baseDelayMs: 1_000,
  maxDelayMs: 300_000,
  backoffMultiplier: 2,
  jitter: true,
} as const

/**
 * The rules of the service, overridden by what the endpoint says. An endpoint that names a delay of
 * its own leaves the service's list; one that only names `maxRetries` shortens it.
 */
export function resolveRetryPolicy(
  service: EndpointRetryConfig,
  endpoint: EndpointRetryConfig = {},
): RetryPolicy {
  const ownDelay = endpoint.baseDelayMs ?? endpoint.retryDelayMs
  const schedule =
    endpoint.retryScheduleMs ?? (ownDelay === undefined ? service.retryScheduleMs : undefined)
  const jitter = endpoint.jitter ?? service.jitter ?? defaultRetry.jitter
  if (schedule !== undefined) {
    const listed = schedule === 'standard' ? standardScheduleMs : schedule
    const sameLevel = endpoint.retryScheduleMs === undefined ? service : endpoint
    const maxRetries = endpoint.maxRetries ?? sameLevel.maxRetries ?? listed.length
    const delaysMs = listed.slice(0, maxRetries)
    return { maxAttempts: delaysMs.length + 1, jitter, delays: { kind: 'list', delaysMs } }
  }
  const maxRetries = endpoint.maxRetries ?? service.maxRetries ?? defaultRetry.maxRetries
  const baseDelayMs =
    ownDelay ?? service.baseDelayMs ?? service.retryDelayMs ?? defaultRetry.baseDelayMs
  return {
    maxAttempts: maxRetries + 1,
    jitter,
    delays: {
      kind: 'exponential',
      baseDelayMs,
      // Who asks for a first delay of an hour and names no cap does not mean five minutes.
      maxDelayMs:
        endpoint.maxDelayMs ?? service.maxDelayMs ?? Math.max(defaultRetry.maxDelayMs, baseDelayMs),
      backoffMultiplier:
        endpoint.backoffMultiplier ?? service.backoffMultiplier ?? defaultRetry.backoffMultiplier,
    },
  }
}

/**
 * Delay before the next attempt. With jitter it lies in the upper half of the scheduled delay, so
 * that endpoints which failed together do not come back together, and none comes back much too soon.
 *
 * @param attempt 1-based number of the attempt that just failed
 * @returns milliseconds, or null when no attempt is left
 */
export function nextDelayMs(policy: RetryPolicy, attempt: number, random: Random): number | null {
  if (attempt >= policy.maxAttempts) return null
  const full = scheduledDelayMs(policy, attempt)
  if (!policy.jitter) return full
  const share = random()
  // What is handed in may be broken; a delivery without a time would never be sent again.
  return Math.round(full / 2 + (full / 2) * (share >= 0 && share <= 1 ? share : 1))
}

/** The delay of the schedule itself, without jitter. */
export function scheduledDelayMs(policy: RetryPolicy, attempt: number): number {
  const delays = policy.delays
  if (delays.kind === 'list') return delays.delaysMs[attempt - 1] ?? 0
  const { baseDelayMs, maxDelayMs, backoffMultiplier } = delays
  // The power can be infinite, and nought times that is no number.
  if (baseDelayMs === 0) return 0
  return Math.min(baseDelayMs * backoffMultiplier ** (attempt - 1), maxDelayMs)
}

/** From the first attempt to the last, without jitter: how long a receiver may be down. */
export function scheduleLengthMs(policy: RetryPolicy): number {
  let sum = 0
  for (let attempt = 1; attempt < policy.maxAttempts; attempt += 1) {
    sum += scheduledDelayMs(policy, attempt)
  }
  return sum
}
