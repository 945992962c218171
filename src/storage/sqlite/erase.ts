/**
 * Erasure: bodies, what receivers answered, and the fingerprint of the content are gone, also from
 * the free pages of the file; the skeleton (ids, types, times, states) stays. What is in flight is
 * marked and reported: its body is being read at this moment, and its answer will be written yet.
 */
import { deliveryIdRange, eventKeyFloor } from '../../model/ids.ts'
import type { CancelledDelivery } from '../repairs.ts'
import type { EraseSelection } from '../upkeep.ts'
import { cancelSingle } from './cancel.ts'
import { dissolveBatch, eraseAnswersOfBatch } from './dissolve.ts'
import { unblockKeys } from './order.ts'
import type { Session } from './session.ts'

export interface EraseSlice {
  readonly erased: number
  readonly inFlight: number
  readonly marked: readonly CancelledDelivery[]
  readonly freed: readonly string[]
  /** Go on after this event key (or number of ids); null when the selection is through. */
  readonly next: string | null
}

/** From the list to the tables: the planner would read all ids of the tenant. */
const eventsById = `
  select event.key, event.erased_at_ms
    from json_each(?2) each
   cross join event_key on event_key.tenant_id = ?1 and event_key.id = each.value
   cross join event on event.key = event_key.key`

const eventsInOrder = `
  select key, tenant_id, erased_at_ms, accepted_at_ms
    from event where key > ? and key < ? order by key limit ?`

const liveOfEvent = `
  select live.id, live.endpoint_key, live.batch_id,
         coalesce(carrier.owner, live.owner) is not null as in_flight
    from live left join live carrier on carrier.id = live.batch_id
   where live.id >= ? and live.id < ?`

const batchesOfEvent = `
  select distinct batch_id from done where id >= ? and id < ? and batch_id is not null`

const eraseEvent = 'update event set body = null, erased_at_ms = ? where key = ?'
const eraseHash = `update event_key set content_hash = x'' where key = ?1
   and (tenant_id, id) = (select tenant_id, id from event where key = ?1)`
const eraseAnswers = `
  update attempt set error = null, response_body = null
   where delivery_id >= ? and delivery_id < ?`
const eraseLastAnswers = `
  update done set last_error = null, last_response_body = null where id >= ? and id < ?`

/** Deliveries that will never be made: the event's sum is kept right by counting them as gone. */
const dropFanOut = `
  update event
     set pruned = pruned + (select total - position from fan_out where event_key = ?1)
   where key = ?1 and exists (select 1 from fan_out where event_key = ?1)`

/** Read once for all events of a slice: they are few, and are not found by their delivery. */
const blocksOfEvents = `
  select endpoint_key, delivery_id from order_block
   where substr(delivery_id, 5, 24) in (select value from json_each(?))`

const mark = 'update live set cancel_reason = ? where id = ? and cancel_reason is null'
const reason = 'erased'

/** The last key of all. */
const lastKey = '~'

export function eraseSlice(
  session: Session,
  selection: EraseSelection,
  nowMs: number,
  limit: number,
  after: string,
): EraseSlice {
  const { connection } = session
  const slice = connection.erasing(() =>
    connection.write(() => eraseSome(session, selection, nowMs, limit, after)),
  )
  // The log still has older versions of the pages. Behind a long read it keeps them until it is
  // begun anew: commits cannot wait for that.
  if (slice.next === null) {
    connection.waiting(200, () => connection.get('pragma wal_checkpoint(truncate)'))
  }
  return slice
}

function eraseSome(
  session: Session,
  selection: EraseSelection,
  nowMs: number,
  limit: number,
  after: string,
): EraseSlice {
  const { keys, next } = selectEvents(session, selection, limit, after)
  const erased: string[] = []
  const marked: CancelledDelivery[] = []
  for (const key of keys) {
    const flying = endLive(session, key, nowMs)
    marked.push(...flying)
    if (flying.length > 0) continue
    eraseOne(session, key, nowMs)
    erased.push(key)
  }
  const freed = releaseKeys(session, erased, nowMs)
  return { erased: erased.length, inFlight: keys.length - erased.length, marked, freed, next }
}

/**
 * What they hold up can never be freed by sending them again; and its key is personal data, too.
 *
 * @returns the endpoints
 */
function releaseKeys(session: Session, eventKeys: readonly string[], nowMs: number): string[] {
  const rows = session.connection.all<BlockRow>(blocksOfEvents, JSON.stringify(eventKeys))
  for (const { endpoint_key: endpointKey, delivery_id: id } of rows) {
    unblockKeys(session, endpointKey, id, nowMs)
  }
  return rows.map((row) => row.endpoint_key)
}

function selectEvents(
  { connection }: Session,
  selection: EraseSelection,
  limit: number,
  after: string,
): { keys: string[]; next: string | null } {
  if (selection.kind === 'ids') {
    const start = Number(after)
    const ids = selection.ids.slice(start, start + limit)
    const rows = connection.all<SelectedRow>(eventsById, selection.tenantId, JSON.stringify(ids))
    const end = start + ids.length
    return {
      keys: rows.filter(({ erased_at_ms: at }) => at === null).map(({ key }) => key),
      next: end < selection.ids.length ? String(end) : null,
    }
  }
  const beforeMs = selection.kind === 'before' ? selection.beforeMs : Number.POSITIVE_INFINITY
  const below = selection.kind === 'before' ? eventKeyFloor(beforeMs) : lastKey
  const rows = connection.all<SelectedRow & { tenant_id: string; accepted_at_ms: number }>(
    eventsInOrder,
    after,
    below,
    limit,
  )
  return {
    keys: rows
      .filter(
        (row) =>
          row.erased_at_ms === null &&
          row.accepted_at_ms < beforeMs &&
          (selection.tenantId === null || row.tenant_id === selection.tenantId),
      )
      .map(({ key }) => key),
    next: rows[limit - 1]?.key ?? null,
  }
}

/** Ends what waits of an event, and marks what is in flight. @returns that */
function endLive(session: Session, key: string, nowMs: number): CancelledDelivery[] {
  const { connection } = session
  const { from, to } = deliveryIdRange(key)
  const flying: CancelledDelivery[] = []
  for (const row of connection.all<LiveRow>(liveOfEvent, from, to)) {
    const { id, batch_id: batchId, endpoint_key: endpointKey } = row
    if (row.in_flight === 1) {
      flying.push({ id: batchId ?? id, endpointKey })
      connection.run(mark, reason, id)
      if (batchId !== null) connection.run(mark, reason, batchId)
      continue
    }
    if (batchId !== null) dissolveBatch(session, batchId, nowMs)
    cancelSingle(session, id, reason, nowMs)
  }
  connection.run(dropFanOut, key)
  connection.run('delete from fan_out where event_key = ?', key)
  return flying
}

function eraseOne({ connection }: Session, key: string, nowMs: number): void {
  const { from, to } = deliveryIdRange(key)
  for (const row of connection.all<{ batch_id: string }>(batchesOfEvent, from, to)) {
    eraseAnswersOfBatch(connection, row.batch_id)
  }
  connection.run(eraseEvent, nowMs, key)
  connection.run(eraseHash, key)
  connection.run(eraseAnswers, from, to)
  connection.run(eraseLastAnswers, from, to)
}

interface BlockRow {
  readonly endpoint_key: string
  readonly delivery_id: string
}

interface SelectedRow {
  readonly key: string
  readonly erased_at_ms: number | null
}

interface LiveRow {
  readonly id: string
  readonly endpoint_key: string
  readonly batch_id: string | null
  readonly in_flight: number
}
