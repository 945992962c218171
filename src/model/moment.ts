/** Moments as callers give them. What a receiver reads has four digits for the year, as RFC 3339 says. */
import { describeValue, WebhookError } from './errors.ts'

const earliestMs = Date.UTC(-1, 12)
const latestMs = Date.UTC(10_000, 0) - 1

/**
 * Without an offset it would mean another moment on another machine. Seconds may be left out, as Java
 * leaves them out.
 */
const rfc3339 =
  /^\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/i

/** What a sentence says is expected. */
export const momentInWords =
  'a valid Date or an RFC 3339 text with its offset such as "2026-01-31T09:00:00Z", in the years 0000 to 9999'

/** @returns milliseconds of the epoch; NaN for what is no moment */
export function momentMs(moment: unknown): number {
  const ms = moment instanceof Date ? moment.getTime() : parsedMs(moment)
  return ms >= earliestMs && ms <= latestMs ? ms : Number.NaN
}

function parsedMs(moment: unknown): number {
  if (typeof moment !== 'string' || !rfc3339.test(moment)) return Number.NaN
  // `Date` takes the 30th of February for the 2nd of March.
  const day = new Date(`${moment.slice(0, 10)}T00:00:00Z`).getUTCDate()
  return day === Number(moment.slice(8, 10)) ? Date.parse(moment) : Number.NaN
}

/**
 * A bound of a question.
 *
 * @returns null when it is not given
 * @throws WebhookError OPTION_INVALID
 */
export function dateMs(name: string, date: unknown): number | null {
  if (date === undefined) return null
  if (date instanceof Date && !Number.isNaN(date.getTime())) return date.getTime()
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`${name}\` to be a valid Date, got ${describeValue(date)}.`,
  )
}

/**
 * Both bounds, in the order of time.
 *
 * @throws WebhookError OPTION_INVALID, OPTION_OUT_OF_RANGE
 */
export function rangeMs(
  [fromName, from]: readonly [string, unknown],
  [toName, to]: readonly [string, unknown],
): { fromMs: number | null; toMs: number | null } {
  const fromMs = dateMs(fromName, from)
  const toMs = dateMs(toName, to)
  if (fromMs === null || toMs === null || fromMs <= toMs) return { fromMs, toMs }
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${fromName}\` not to be after \`${toName}\`, got ${shown(fromMs)} and ${shown(toMs)}; exchange them.`,
  )
}

function shown(ms: number): string {
  return new Date(ms).toISOString()
}
