/** The statistics of the service as a table: a line per endpoint, and one for all of them. */
import type { EndpointStats, WebhookService } from '../index.ts'
import type { Colours } from './colour.ts'
import { count, duration, percent } from './figures.ts'
import { type Column, columnsThatFit, headerLine, rowLine } from './table.ts'
import { displayWidth } from './text-width.ts'
import type { Words } from './words.ts'

interface StatisticsRow {
  readonly name: string
  readonly stats: EndpointStats
}

export async function statisticsRows(
  service: WebhookService,
  endpointIds: readonly string[],
  words: Words,
): Promise<StatisticsRow[]> {
  const rows = await Promise.all(
    endpointIds.map(async (id) => ({ name: id, stats: await service.getEndpointStats(id) })),
  )
  return [...rows, { name: words.all, stats: await service.getStats() }]
}

export function statisticsLines(
  rows: readonly StatisticsRow[],
  words: Words,
  colours: Colours,
  width: number,
): string[] {
  const columns = columnsThatFit(statisticsColumns(words, colours), width)
  return [colours.strong(headerLine(columns)), ...rows.map((row) => rowLine(columns, row))]
}

function statisticsColumns(words: Words, colours: Colours): Column<StatisticsRow>[] {
  const number = (
    title: string,
    text: (stats: EndpointStats) => string,
    dispensable = 0,
  ): Column<StatisticsRow> => ({
    title,
    width: Math.max(displayWidth(title), 7),
    align: 'right',
    dispensable,
    text: ({ stats }) => text(stats),
  })
  return [
    {
      title: words.endpoint,
      width: Math.max(displayWidth(words.endpoint), 8),
      text: ({ name }) => name,
    },
    number(words.delivered, (stats) => count(stats.successfulDeliveries)),
    {
      ...number(words.failed, (stats) => count(stats.failedDeliveries)),
      paint: (cell, { stats }) => (stats.failedDeliveries > 0 ? colours.bad(cell) : cell),
    },
    number(
      words.success,
      settled(({ successRate }) => percent(successRate)),
      1,
    ),
    number(words.attempts, (stats) => count(stats.attempts), 2),
    number(
      words.average,
      settled(({ averageLatency }) => duration(averageLatency)),
      3,
    ),
    number(
      'p50',
      settled(({ latencyPercentiles }) => duration(latencyPercentiles.p50)),
      4,
    ),
    number(
      'p99',
      settled(({ latencyPercentiles }) => duration(latencyPercentiles.p99)),
      4,
    ),
  ]
}

/** Before anything has ended there is no rate and no latency, which is not the same as 0. */
function settled(text: (stats: EndpointStats) => string): (stats: EndpointStats) => string {
  return (stats) => (stats.totalDeliveries === 0 ? '–' : text(stats))
}
