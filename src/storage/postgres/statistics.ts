/** Sums that were kept while the attempts were written; reads never count deliveries. */
import type { Backlog, LiveEndpoint, StatisticsQuery, StatisticsRow } from '../questions.ts'
import { heads } from './claim.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { fromText, toText } from './text.ts'

const hourMs = 3_600_000

/** The rows of all time have an hour of their own. */
const allTime = -1

/** `$1` is the endpoint, or '' for the rows that are sums over all. Every writer has rows of its own. */
const sums = `
  select case when $5 then hour_ms end as hour_ms, event_type, outcome, state, latency_class,
         sum(attempts)::bigint as attempts, sum(deliveries)::bigint as deliveries,
         sum(latency_sum_ms) as latency_sum_ms
    from kmsg.rollup
   where endpoint_key = $1 and hour_ms between $2 and $3
     and ($4::text is null or tenant_id = $4)
   group by 1, event_type, outcome, state, latency_class
   order by 1, event_type, outcome, state, latency_class`

/** Up to so many are counted, which takes some 20 ms; ten million took 4 s. */
const countedAtMost = 100_000

const countFew = `
  select count(*) as singles, count(owner) as owned
    from (select owner from kmsg.live where kind = 'single' limit ${countedAtMost + 1}) as counted`

/** As autovacuum last saw it, at most some minutes ago. */
const estimateLive = `
  select reltuples::bigint as singles, (reltuples * (1 - coalesce(null_frac, 1)))::bigint as owned
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
         left join pg_stats on schemaname = nspname and tablename = relname and attname = 'owner'
   where nspname = $1 and relname = 'live'`

/** Of batches that are being sent; their ids are a range. */
const countMembers = `
  select coalesce(sum(member_count), 0) as members
    from kmsg.live join kmsg.batch on batch.id = live.id
   where live.id >= 'bat_' and live.id < 'bat\`' and owner is not null`

interface LiveCount {
  readonly singles: number
  readonly owned: number
}

async function countDeliveries(connection: Connection, schemaName: string): Promise<LiveCount> {
  const counted = (await connection.get<LiveCount>(countFew)) ?? { singles: 0, owned: 0 }
  if (counted.singles <= countedAtMost) return counted
  const estimated = await connection.get<LiveCount>(estimateLive, schemaName)
  return estimated === undefined || estimated.singles < counted.singles ? counted : estimated
}

export async function statistics(
  { database }: Session,
  query: StatisticsQuery,
): Promise<StatisticsRow[]> {
  const { endpointKey, tenantId, fromMs, toMs, perHour } = query
  const ever = endpointKey === null && fromMs === null && toMs === null && !perHour
  const rows = await database.read((connection) =>
    connection.all<SumRow>(
      sums,
      endpointKey ?? '',
      ever ? allTime : hourOf(fromMs ?? 0),
      ever ? allTime : toMs === null ? Number.MAX_SAFE_INTEGER : Math.ceil(toMs) - 1,
      tenantId && toText(tenantId),
      perHour,
    ),
  )
  return rows.map((row) => ({
    hourMs: row.hour_ms,
    eventType: fromText(row.event_type),
    outcome: row.outcome,
    state: row.state,
    latencyClass: row.latency_class,
    attempts: row.attempts,
    deliveries: row.deliveries,
    latencySumMs: row.latency_sum_ms,
  }))
}

const liveOfEndpoints = `
  select endpoint_key, count(*) as deliveries from kmsg.live
   where kind = 'single' group by endpoint_key`

export async function countLive({ database }: Session): Promise<LiveEndpoint[]> {
  const rows = await database.read((connection) =>
    connection.all<{ endpoint_key: string; deliveries: number }>(liveOfEndpoints),
  )
  return rows.map((row) => ({ endpointKey: row.endpoint_key, deliveries: row.deliveries }))
}
/** However many processes there are, nobody may send to them at this time, or no faster. */
const closedLanes = `
  select key from kmsg.endpoint
   where removed_at_ms is null and (status <> 'active' or rate_limit is not null)
  union
  select endpoint_key from kmsg.endpoint_flow
   where held_until_ms > $1::bigint or (breaker <> 'closed' and breaker_until_ms > $1::bigint)`

/** Counted on demand, unlike in SQLite: no process knows what the others have. */
export async function backlog({ database }: Session, nowMs: number): Promise<Backlog> {
  return await database.read(async (connection) => {
    const { singles, owned } = await countDeliveries(connection, database.schema.name)
    const batches = await connection.get<{ members: number }>(countMembers)
    const rows = await connection.all<{ key: string }>(closedLanes, nowMs)
    const closed = new Set(rows.map(({ key }) => key))
    let oldestDueAtMs: number | null = null
    for (const { endpointKey, dueAtMs } of await heads(connection)) {
      if (dueAtMs === null || dueAtMs > nowMs || closed.has(endpointKey)) continue
      if (oldestDueAtMs === null || dueAtMs < oldestDueAtMs) oldestDueAtMs = dueAtMs
    }
    const delivering = owned + (batches?.members ?? 0)
    return { waiting: Math.max(0, singles - delivering), delivering, oldestDueAtMs }
  })
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
