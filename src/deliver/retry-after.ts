/** `Retry-After` as in RFC 9110 §10.2.3. Nothing is clamped here: policy/settle.ts does that. */

const day = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)'
const month = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)'
const time = '\\d\\d:\\d\\d:\\d\\d'

/** Date.parse alone takes "abc 5" for a day in May 2001. */
const httpDates = [
  new RegExp(`^${day}, \\d\\d ${month} \\d{4} ${time} GMT$`),
  new RegExp(`^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, \\d\\d-${month}-\\d\\d ${time} GMT$`),
  new RegExp(`^${day} ${month} [ \\d]\\d ${time} \\d{4}$`),
]

/**
 * @param values every value the header was given with
 * @returns milliseconds from now, 0 for a past date; of several valid values the largest; null when
 *   none is valid (negative, fractional, other text)
 */
export function retryAfterMs(values: readonly string[], nowMs: number): number | null {
  let longest: number | null = null
  for (const value of values) {
    const ms = parse(value.trim(), nowMs)
    if (ms !== null && (longest === null || ms > longest)) longest = ms
  }
  return longest
}

function parse(value: string, nowMs: number): number | null {
  if (/^\d{1,12}$/.test(value)) return Number(value) * 1000
  if (!httpDates.some((shape) => shape.test(value))) return null
  const dateMs = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`)
  return Number.isNaN(dateMs) ? null : Math.max(0, dateMs - nowMs)
}
