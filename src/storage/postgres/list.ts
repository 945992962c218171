/**
 * Pages of deliveries, newest event first. A page is read in slices of bounded cost: a filter that
 * matches next to nothing among a million rows then holds no connection for longer than one slice.
 */
import type { DeliveryState } from '../../model/delivery.ts'
import { eventKeyFloor } from '../../model/ids.ts'
import type { DeliveryFound, DeliveryQuery } from '../questions.ts'
import { type DeliveryRow, deliveryOf } from '../rows.ts'
import type { Connection } from './connection.ts'
import { doneColumns, doneJoins, liveColumns, liveJoins } from './read.ts'
import { newestSlot, slotEnd } from './slot.ts'
import { fromText, toText } from './text.ts'

/** Rows looked at per slice and table at most: some milliseconds. */
export const rowsPerSlice = 1_000
/** A slice that has to pass over many rows ends with the second it is in after so long. */
const msPerSlice = 5

export interface ListSlice {
  readonly deliveries: readonly DeliveryFound[]
  /** Go on below this id; null when nothing is left. */
  readonly next: string | null
}

/** The id after every delivery's. */
const lastId = 'dlv`'

const liveSlice = `
  select ${liveColumns} from (
    select * from kmsg.live where kind = 'single' and id < $1 and id >= $2 order by id desc limit $3
  ) as live ${liveJoins} order by live.id desc`

const liveOfEndpoint = `
  select ${liveColumns} from (
    select * from kmsg.live
     where kind = 'single' and id < $1 and id >= $2 and endpoint_key = $4 order by id desc limit $3
  ) as live ${liveJoins} order by live.id desc`

const doneSlice = `
  select ${doneColumns} from (
    select * from kmsg.done where id < $1 and id >= $2 order by id desc limit $3
  ) as done ${doneJoins} order by done.id desc`

const doneOfEndpoint = `
  select ${doneColumns} from (
    select * from kmsg.done
     where id < $1 and id >= $2 and endpoint_key = $4 order by id desc limit $3
  ) as done ${doneJoins} order by done.id desc`

const failedSlice = `
  select ${doneColumns} from (
    select * from kmsg.done
     where state in ('exhausted', 'rejected') and retried_as is null
       and id < $1 and id >= $2 order by id desc limit $3
  ) as done ${doneJoins} order by done.id desc`

/** @param rows to look at in each table */
export async function listSlice(
  connection: Connection,
  query: DeliveryQuery,
  rows: number,
): Promise<ListSlice> {
  const from = query.fromMs === null ? 'dlv_' : `dlv_${eventKeyFloor(query.fromMs)}`
  const to = query.toMs === null ? lastId : `dlv_${eventKeyFloor(query.toMs)}`
  const below = query.before !== null && query.before < to ? query.before : to
  const { endpointKey } = query
  return endpointKey === null || onlyFailed(query)
    ? await readRange(connection, query, { below, from }, rows)
    : await readSlots(connection, query, endpointKey, { below, from }, rows)
}

interface Range {
  readonly below: string
  readonly from: string
}

/** One endpoint's: only seconds in which it has some, but among all that others have in them. */
async function readSlots(
  connection: Connection,
  query: DeliveryQuery,
  endpointKey: string,
  { below, from }: Range,
  rows: number,
): Promise<ListSlice> {
  const endMs = performance.now() + msPerSlice
  const deliveries: DeliveryFound[] = []
  let next: string = below
  do {
    const slot = await newestSlot(connection, endpointKey, { below: next, from })
    if (slot === null) return { deliveries, next: null }
    const end = slotEnd(slot)
    const range = { below: end < next ? end : next, from: from > slot ? from : slot }
    const page = await readRange(connection, query, range, rows)
    deliveries.push(...page.deliveries)
    next = page.next ?? slot
  } while (deliveries.length < rows && performance.now() < endMs)
  return { deliveries, next }
}

async function readRange(
  connection: Connection,
  query: DeliveryQuery,
  range: Range,
  rows: number,
): Promise<ListSlice> {
  const slices = [
    ...(wants(query, liveStates) ? [await readLive(connection, query, range, rows)] : []),
    ...(wants(query, endStates) ? [await readDone(connection, query, range, rows)] : []),
  ]
  // A slice that is full ends somewhere; what the other table has below that point comes next time.
  let next: string | null = null
  for (const { end } of slices) if (end !== null && (next === null || end > next)) next = end
  const floor = next
  const matching = slices
    .flatMap((slice) => slice.rows)
    .filter((row) => (floor === null || row.id >= floor) && matches(row, query))
    .sort((a, b) => (a.id < b.id ? 1 : -1))
  return { deliveries: matching.map((row) => deliveryOf(row, fromText)), next }
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

async function readLive(
  connection: Connection,
  { endpointKey }: DeliveryQuery,
  { below, from }: Range,
  limit: number,
): Promise<Slice> {
  const rows =
    endpointKey === null
      ? await connection.all<DeliveryRow>(liveSlice, below, from, limit)
      : await connection.all<DeliveryRow>(liveOfEndpoint, below, from, limit, endpointKey)
  return fullOrEnded(rows, limit)
}

async function readDone(
  connection: Connection,
  query: DeliveryQuery,
  { below, from }: Range,
  limit: number,
): Promise<Slice> {
  const { endpointKey } = query
  if (onlyFailed(query) || endpointKey === null) {
    const sql = onlyFailed(query) ? failedSlice : doneSlice
    return fullOrEnded(await connection.all<DeliveryRow>(sql, below, from, limit), limit)
  }
  const rows = await connection.all<DeliveryRow>(doneOfEndpoint, below, from, limit, endpointKey)
  return fullOrEnded(rows, limit)
}

/** They have an index of their own, which is small. */
function onlyFailed({ skipRetried, states }: DeliveryQuery): boolean {
  return (skipRetried && states?.every((state) => failedStates.includes(state))) ?? false
}

function fullOrEnded(rows: readonly DeliveryRow[], limit: number): Slice {
  return { rows, end: rows.length === limit ? (rows[limit - 1]?.id ?? null) : null }
}

function matches(row: DeliveryRow, query: DeliveryQuery): boolean {
  return (
    (query.tenantId === null || row.tenant_id === toText(query.tenantId)) &&
    (query.endpointKey === null || row.endpoint_key === query.endpointKey) &&
    (query.eventType === null || row.event_type === toText(query.eventType)) &&
    (query.states === null || query.states.includes(row.state)) &&
    !(query.skipRetried && row.retried_as !== null)
  )
}
