/**
 * A rate limit as send times. A window that is counted lets two bursts through at its edge; evenly
 * spaced times do not, whichever process uses which.
 */
import { describeValue, WebhookError } from '../model/errors.ts'
import type { RateLimit } from '../model/flow.ts'
import { refuseUnknown } from '../model/given.ts'

/** A send time may be used so much later and is lost after that. */
export const usableForMs = 50
/** A request that needs a new connection arrives so much later than one that does not. */
const onTheWayMs = 50

const fields = ['limit', 'perMs'] as const
const maxLimit = 100_000
const dayMs = 86_400_000

/** @throws WebhookError OPTION_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE */
export function checkRateLimit(name: string, given: unknown): void {
  if (given === undefined) return
  if (typeof given !== 'object' || given === null) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`${name}\` to be an object such as { limit: 10, perMs: 1000 }, got ${describeValue(given)}.`,
    )
  }
  refuseUnknown(given, fields, `a field of \`${name}\``)
  const { limit, perMs } = given as { limit?: unknown; perMs?: unknown }
  requireInteger(`${name}.limit`, limit, maxLimit)
  requireInteger(`${name}.perMs`, perMs, dayMs)
}

function requireInteger(name: string, value: unknown, max: number): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${name}\` to be an integer from 1 to ${max}, got ${describeValue(value)}.`,
  )
}

/**
 * The times of `limit` requests fill a little more than `perMs`: so one that is late brings no more
 * than `limit` into any `perMs` either, as the receiver counts them.
 */
export function sendIntervalMs({ limit, perMs }: RateLimit): number {
  return (perMs + usableForMs + onTheWayMs) / limit
}

/** Times that one process takes at once: about a second's, so that little is lost when it stops. */
export function timesAtOnce(intervalMs: number): number {
  return Math.max(1, Math.floor(1_000 / intervalMs))
}

/**
 * Taken no longer ahead than this: what a process has when it ends is lost, and a time that is a minute
 * away would be, again and again, where processes restart. Long enough for the store to answer.
 */
export const takenAheadMs = 1_000
