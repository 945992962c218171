/** Numbers, durations and shares as people read them. */

const units: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
]

/** `83 ms`, `2.5 s`, `12 min`: one unit, at most one decimal. */
export function duration(ms: number): string {
  for (const [unit, size] of units) {
    // From 0.9995 of a unit on, the smaller one would read as 1000 ms.
    if (ms >= size * 0.9995) return `${oneDecimal(ms / size)} ${unit}`
  }
  return ms > 0 && ms < 1 ? '<1 ms' : `${Math.round(ms)} ms`
}

export function count(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 })
}

export function percent(value: number): string {
  return `${oneDecimal(value)} %`
}

/** `1 event`, `2,000 events`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

function oneDecimal(value: number): string {
  const rounded = Math.round(value * 10) / 10
  return rounded >= 100 ? count(rounded) : String(rounded)
}
