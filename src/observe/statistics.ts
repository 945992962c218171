/** From stored sums to the figures people read. */
import { latencyOfClass } from '../storage/latency-class.ts'
import type { StatisticsRow } from '../storage/questions.ts'

/** Figures of deliveries that have ended with an attempt; `total = successful + failed`. */
export interface DeliveryFigures {
  totalDeliveries: number
  successfulDeliveries: number
  failedDeliveries: number
  /** Of each delivery's final attempt, in ms. */
  averageLatency: number
  /** In percent, 0 to 100, one decimal. 0 when nothing has ended yet. */
  successRate: number
}

export interface EndpointStats extends DeliveryFigures {
  /** Of each delivery's final attempt, in ms, right to within 12 %; of less than 1 ms it is 1.12. */
  latencyPercentiles: { p50: number; p90: number; p99: number }
  /** All attempts, also those that a retry followed. A batch is one. */
  attempts: number
  /** Members of batches count under their own types. */
  byEventType: Record<string, DeliveryFigures>
  /** Attempts by what they met: `accepted`, `faulted`, `timed-out`, … */
  byOutcome: Record<string, number>
}

/** One hour of an endpoint's life. */
export interface HourlyFigures extends DeliveryFigures {
  hour: Date
}

export function summarise(rows: readonly StatisticsRow[]): EndpointStats {
  const byType = [...groupBy(rows, (row) => row.eventType)]
  const byOutcome: Record<string, number> = {}
  let attempts = 0
  for (const row of rows) {
    attempts += row.attempts
    byOutcome[row.outcome] = (byOutcome[row.outcome] ?? 0) + row.attempts
  }
  return {
    ...figures(rows),
    latencyPercentiles: percentiles(rows),
    attempts,
    // Not by assignment: a type may be called `__proto__`.
    byEventType: Object.fromEntries(byType.map(([type, ofType]) => [type, figures(ofType)])),
    byOutcome,
  }
}

export function perHour(rows: readonly StatisticsRow[]): HourlyFigures[] {
  return [...groupBy(rows, (row) => row.hourMs ?? 0)]
    .sort(([a], [b]) => a - b)
    .map(([hourMs, ofHour]) => ({ hour: new Date(hourMs), ...figures(ofHour) }))
}

function figures(rows: readonly StatisticsRow[]): DeliveryFigures {
  let successful = 0
  let failed = 0
  let latencySumMs = 0
  for (const row of rows) {
    if (!isFinal(row)) continue
    if (row.state === 'delivered') successful += row.deliveries
    else failed += row.deliveries
    latencySumMs += row.latencySumMs
  }
  const total = successful + failed
  return {
    totalDeliveries: total,
    successfulDeliveries: successful,
    failedDeliveries: failed,
    averageLatency: total === 0 ? 0 : Math.round(latencySumMs / total),
    successRate: total === 0 ? 0 : Math.round((successful / total) * 1_000) / 10,
  }
}

function isFinal(row: StatisticsRow): boolean {
  return row.state === 'delivered' || row.state === 'exhausted' || row.state === 'rejected'
}

function percentiles(rows: readonly StatisticsRow[]): EndpointStats['latencyPercentiles'] {
  const counts: number[] = []
  let total = 0
  for (const row of rows) {
    if (!isFinal(row)) continue
    counts[row.latencyClass] = (counts[row.latencyClass] ?? 0) + row.deliveries
    total += row.deliveries
  }
  const at = (share: number): number => {
    let seen = 0
    for (let index = 0; index < counts.length; index += 1) {
      seen += counts[index] ?? 0
      if (seen >= total * share && seen > 0) return Math.round(latencyOfClass(index) * 100) / 100
    }
    return 0
  }
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
}

function groupBy<Key>(
  rows: readonly StatisticsRow[],
  keyOf: (row: StatisticsRow) => Key,
): Map<Key, StatisticsRow[]> {
  const groups = new Map<Key, StatisticsRow[]>()
  for (const row of rows) {
    const key = keyOf(row)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [row])
    else group.push(row)
  }
  return groups
}
