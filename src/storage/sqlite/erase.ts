/**
 * Erasure: bodies, what receivers answered, and the fingerprint of the content are gone, also from
 * the free pages of the file; the skeleton (ids, types, times, states) stays. What is in flight is
 * left alone and reported, because its body is being read at this moment.
 */
import { deliveryIdRange, eventKeyFloor } from '../../model/ids.ts'
import type { EraseSelection } from '../upkeep.ts'
import { membersFromJson } from './batch.ts'
import { cancelSingle } from './cancel.ts'
import type { Session } from './session.ts'

export interface EraseSlice {
  readonly erased: number
  readonly inFlight: number
  /** Go on after this event key (or number of ids); null when the selection is through. */
  readonly next: string | null
}

const eventsById = `
  select event.key, event.erased_at_ms
    from json_each(?2) each
    join event_key on event_key.tenant_id = ?1 and event_key.id = each.value
    join event on event.key = event_key.key`

const eventsInOrder = `
  select key, tenant_id, erased_at_ms, accepted_at_ms
    from event where key > ? and key < ? order by key limit ?`

const liveOfEvent = `
  select live.id, live.batch_id,
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
const eraseAnswersOfBatch = `
  update attempt set error = null, response_body = null where delivery_id = ?`

/** Deliveries that will never be made: the event's sum is kept right by counting them as gone. */
const dropFanOut = `
  update event
     set pruned = pruned + (select total - position from fan_out where event_key = ?1)
   where key = ?1 and exists (select 1 from fan_out where event_key = ?1)`

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
  let erased = 0
  let inFlight = 0
  for (const key of keys) {
    const isInFlight = !eraseOne(session, key, nowMs)
    if (isInFlight) inFlight += 1
    else erased += 1
  }
  return { erased, inFlight, next }
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

/** @returns false when a delivery of it is in flight; nothing of it is changed then */
function eraseOne(session: Session, key: string, nowMs: number): boolean {
  const { connection } = session
  const { from, to } = deliveryIdRange(key)
  const live = connection.all<LiveRow>(liveOfEvent, from, to)
  if (live.some((row) => row.in_flight === 1)) return false
  for (const row of live) {
    if (row.batch_id !== null) dissolveBatch(session, row.batch_id, nowMs)
    cancelSingle(session, row.id, 'erased', nowMs)
  }
  for (const row of connection.all<{ batch_id: string }>(batchesOfEvent, from, to)) {
    connection.run(eraseAnswersOfBatch, row.batch_id)
  }
  connection.run(dropFanOut, key)
  connection.run('delete from fan_out where event_key = ?', key)
  connection.run(eraseEvent, nowMs, key)
  connection.run(eraseHash, key)
  connection.run(eraseAnswers, from, to)
  connection.run(eraseLastAnswers, from, to)
  return true
}

/**
 * A sealed batch whose bytes hold an erased event: its other members wait again on their own and
 * are sealed anew. They begin with no attempt, since those made were the batch's.
 */
function dissolveBatch({ connection }: Session, id: string, nowMs: number): void {
  const row = connection.get<{ members: string }>('select members from batch where id = ?', id)
  for (const { deliveryId } of membersFromJson(row?.members ?? '[]')) {
    connection.run('update live set batch_id = null where id = ?', deliveryId)
  }
  connection.run('delete from live where id = ?', id)
  connection.run('update batch set settled_at_ms = ?, body = null where id = ?', nowMs, id)
  connection.run(eraseAnswersOfBatch, id)
}

interface SelectedRow {
  readonly key: string
  readonly erased_at_ms: number | null
}

interface LiveRow {
  readonly id: string
  readonly batch_id: string | null
  readonly in_flight: number
}
