/** Sums that were kept while the attempts were written; reads never count deliveries. */
import type { Backlog, LiveEndpoint, StatisticsQuery, StatisticsRow } from '../questions.ts'
import { heads } from './claim.ts'
import { allTime } from './rollup.ts'
import type { Session } from './session.ts'

const hourMs = 3_600_000

/** `?1` is the endpoint, or '' for the rows that are sums over all. */
const sumsFrom = (rollup: 'rollup' | 'rollup_all') => `
  select iif(?5, hour_ms, null) as hour_ms, event_type, outcome, state, latency_class,
         sum(attempts) as attempts, sum(deliveries) as deliveries,
         sum(latency_sum_ms) as latency_sum_ms
    from ${rollup}
   where endpoint_key = ?1 and hour_ms between ?2 and ?3 and (?4 is null or tenant_id = ?4)
   group by 1, event_type, outcome, state, latency_class
   order by 1, event_type, outcome, state, latency_class`

const sumsOfOne = sumsFrom('rollup_all')
/** None of these is ever pending. */
const sumsOfAll = sumsFrom('rollup')

export function statistics({ connection }: Session, query: StatisticsQuery): StatisticsRow[] {
  const { endpointKey, tenantId, fromMs, toMs, perHour } = query
  const ever = endpointKey === null && fromMs === null && toMs === null && !perHour
  const rows = connection.all<SumRow>(
    endpointKey === null ? sumsOfAll : sumsOfOne,
    endpointKey ?? '',
    ever ? allTime : hourOf(fromMs ?? 0),
    ever ? allTime : toMs === null ? Number.MAX_SAFE_INTEGER : Math.ceil(toMs) - 1,
    tenantId,
    perHour ? 1 : 0,
  )
  return rows.map((row) => ({
    hourMs: row.hour_ms,
    eventType: row.event_type,
    outcome: row.outcome,
    state: row.state,
    latencyClass: row.latency_class,
    attempts: row.attempts,
    deliveries: row.deliveries,
    latencySumMs: row.latency_sum_ms,
  }))
}

const liveOfEndpoints = `
  select endpoint_key as endpointKey, count(*) as deliveries from live
   where kind = 'single' group by endpoint_key`

export function countLive({ connection }: Session): LiveEndpoint[] {
  return connection.all<LiveEndpoint>(liveOfEndpoints)
}
/** Nothing may be sent to them at this time, or no faster. */
const closedLanes = `
  select key from endpoint
   where removed_at_ms is null and (status <> 'active' or rate_limit is not null)
  union
  select endpoint_key from endpoint_flow
   where held_until_ms > ?1 or (breaker <> 'closed' and breaker_until_ms > ?1)`

export function backlog(session: Session, nowMs: number): Backlog {
  const { waiting, delivering } = session.tally
  const rows = session.connection.all<{ key: string }>(closedLanes, nowMs)
  const closed = new Set(rows.map(({ key }) => key))
  let oldestDueAtMs: number | null = null
  for (const { endpointKey, dueAtMs } of heads(session)) {
    if (dueAtMs === null || dueAtMs > nowMs || closed.has(endpointKey)) continue
    if (oldestDueAtMs === null || dueAtMs < oldestDueAtMs) oldestDueAtMs = dueAtMs
  }
  return { waiting, delivering, oldestDueAtMs }
}

function hourOf(ms: number): number {
  return Math.floor(ms / hourMs) * hourMs
}

interface SumRow {
  readonly hour_ms: number | null
  readonly event_type: string
  readonly outcome: string
  readonly state: string
  readonly latency_class: number
  readonly attempts: number
  readonly deliveries: number
  readonly latency_sum_ms: number
}
