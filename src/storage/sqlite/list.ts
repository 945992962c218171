/**
 * Pages of deliveries, newest event first. A page is read in slices of bounded cost: a filter that
 * matches next to nothing among a million rows then holds up no commit for longer than one slice.
 */
import type { DeliveryState } from '../../model/delivery.ts'
import { eventKeyFloor } from '../../model/ids.ts'
import type { DeliveryFound, DeliveryQuery } from '../storage.ts'
import {
  type DeliveryRow,
  doneColumns,
  doneJoins,
  liveColumns,
  liveJoins,
  toDelivery,
} from './read.ts'
import type { Session } from './session.ts'

/** Rows looked at per slice and table at most: some milliseconds. */
export const rowsPerSlice = 1_000

export interface ListSlice {
  readonly deliveries: readonly DeliveryFound[]
  /** Go on below this id; null when nothing is left. */
  readonly next: string | null
}

/** The id after every delivery's. */
const lastId = 'dlv`'

const liveSlice = `
  select ${liveColumns} from (
    select * from live where kind = 'single' and id < ?1 and id >= ?2 order by id desc limit ?3
  ) as live ${liveJoins} order by live.id desc`

/** One endpoint's, out of so many rows: they have no index for it, because every accept would pay. */
const liveOfEndpointSlice = `
  select ${liveColumns} from (
    select * from live where kind = 'single' and id < ?1 and id >= ?2 order by id desc limit ?3
  ) as live ${liveJoins} where live.endpoint_key = ?4 order by live.id desc limit ?5`

const lastOfLiveSlice = `
  select id from live where kind = 'single' and id < ?1 and id >= ?2
   order by id desc limit 1 offset ?3 - 1`

/** Rows passed over are much cheaper than rows read. */
const rowsPassedPerSlice = 20_000

const doneSlice = `
  select ${doneColumns} from (
    select * from done where id < ?1 and id >= ?2 order by id desc limit ?3
  ) as done ${doneJoins} order by done.id desc`

const doneSliceOfEndpoint = `
  select ${doneColumns} from (
    select * from done indexed by done_of_endpoint
     where endpoint_key = ?4 and id < ?1 and id >= ?2 order by id desc limit ?3
  ) as done ${doneJoins} order by done.id desc`

const failedSlice = `
  select ${doneColumns} from (
    select * from done indexed by done_failed
     where state in ('exhausted', 'rejected') and retried_as is null
       and id < ?1 and id >= ?2 order by id desc limit ?3
  ) as done ${doneJoins} order by done.id desc`

/** @param rows to look at in each table */
export function listSlice(session: Session, query: DeliveryQuery, rows: number): ListSlice {
  const from = query.fromMs === null ? 'dlv_' : `dlv_${eventKeyFloor(query.fromMs)}`
  const to = query.toMs === null ? lastId : `dlv_${eventKeyFloor(query.toMs)}`
  const below = query.before !== null && query.before < to ? query.before : to
  const slices = [
    ...(wants(query, liveStates) ? [readLive(session, query, below, from, rows)] : []),
    ...(wants(query, endStates) ? [readDone(session, query, below, from, rows)] : []),
  ]
  // A slice that is full ends somewhere; what the other table has below that point comes next time.
  let next: string | null = null
  for (const { end } of slices) if (end !== null && (next === null || end > next)) next = end
  const floor = next
  const matching = slices
    .flatMap((slice) => slice.rows)
    .filter((row) => (floor === null || row.id >= floor) && matches(row, query))
    .sort((a, b) => (a.id < b.id ? 1 : -1))
  return { deliveries: matching.map(toDelivery), next }
}

const liveStates: readonly DeliveryState[] = ['waiting', 'delivering']
const endStates: readonly DeliveryState[] = ['delivered', 'exhausted', 'rejected', 'cancelled']
const failedStates: readonly DeliveryState[] = ['exhausted', 'rejected']

function wants({ states }: DeliveryQuery, some: readonly DeliveryState[]): boolean {
  return states === null || states.some((state) => some.includes(state))
}

interface Slice {
  readonly rows: readonly DeliveryRow[]
  /** The lowest id looked at; null when there is nothing below. */
  readonly end: string | null
}

function readLive(
  { connection }: Session,
  { endpointKey }: DeliveryQuery,
  below: string,
  from: string,
  limit: number,
): Slice {
  if (endpointKey === null) {
    return fullOrEnded(connection.all<DeliveryRow>(liveSlice, below, from, limit), limit)
  }
  const range = [below, from, rowsPassedPerSlice] as const
  const rows = connection.all<DeliveryRow>(liveOfEndpointSlice, ...range, endpointKey, limit)
  if (rows.length === limit) return fullOrEnded(rows, limit)
  return { rows, end: connection.get<{ id: string }>(lastOfLiveSlice, ...range)?.id ?? null }
}

function readDone(
  { connection }: Session,
  { endpointKey, states, skipRetried }: DeliveryQuery,
  below: string,
  from: string,
  limit: number,
): Slice {
  const onlyFailed = skipRetried && states?.every((state) => failedStates.includes(state))
  const sql = onlyFailed ? failedSlice : endpointKey === null ? doneSlice : doneSliceOfEndpoint
  const ofEndpoint = sql === doneSliceOfEndpoint ? [endpointKey] : []
  return fullOrEnded(connection.all<DeliveryRow>(sql, below, from, limit, ...ofEndpoint), limit)
}

function fullOrEnded(rows: readonly DeliveryRow[], limit: number): Slice {
  return { rows, end: rows.length === limit ? (rows[limit - 1]?.id ?? null) : null }
}

function matches(row: DeliveryRow, query: DeliveryQuery): boolean {
  return (
    (query.tenantId === null || row.tenant_id === query.tenantId) &&
    (query.endpointKey === null || row.endpoint_key === query.endpointKey) &&
    (query.eventType === null || row.event_type === query.eventType) &&
    (query.states === null || query.states.includes(row.state)) &&
    !(query.skipRetried && row.retried_as !== null)
  )
}
