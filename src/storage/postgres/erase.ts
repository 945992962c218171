/**
 * Erasure: bodies, what receivers answered, and the fingerprint of the content are gone; the skeleton
 * (ids, types, times, states) stays. What is in flight is left alone and reported, because its body
 * is being read at this moment. The bytes leave the files with the next vacuum and the log.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { EraseSelection } from '../upkeep.ts'
import { cancelRows } from './cancel.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { textArray, toText } from './text.ts'

export interface EraseSlice {
  readonly erased: number
  readonly inFlight: number
  /** Go on after this event key (or number of ids); null when the selection is through. */
  readonly next: string | null
}

const eventsById = `
  select event.key, event.erased_at_ms
    from unnest($2::text[]) as given (id)
    join kmsg.event_key on event_key.tenant_id = $1 and event_key.id = given.id
    cross join lateral (
      select key, erased_at_ms from kmsg.event where event.key = event_key.key limit 1) as event`

const eventsInOrder = `
  select key, tenant_id, erased_at_ms, accepted_at_ms
    from kmsg.event where key > $1 and key < $2 order by key limit $3`

/** Rows of one event are a range of ids. */
const inRange = (id: string) =>
  `${id} >= 'dlv_' || given.key || '_' and ${id} < 'dlv_' || given.key || '\`'`

/** Locked, so that nobody claims them meanwhile; also the batches that carry them. */
const lockLive = `
  select id from kmsg.live
   where id in (
     select coalesce(live.batch_id, live.id)
       from unnest($1::text[]) as given (key) join kmsg.live on ${inRange('live.id')})
   order by id for update`

const liveOfEvents = `
  select live.id, live.batch_id, given.key,
         coalesce(carrier.owner, live.owner) is not null as in_flight
    from unnest($1::text[]) as given (key)
    join kmsg.live on ${inRange('live.id')}
    left join kmsg.live as carrier on carrier.id = live.batch_id`

/**
 * Sealed batches whose bytes hold an erased event: their other members wait again on their own and
 * are sealed anew. They begin with no attempt, since those made were the batch's.
 */
const dissolveBatches = `
  with carrier as (delete from kmsg.live where id = any($1::text[])),
       closed as (update kmsg.batch set settled_at_ms = $2, body = null where id = any($1::text[]))
  update kmsg.live set batch_id = null where batch_id = any($1::text[])`

const batchesOfEvents = `
  select distinct batch_id as id
    from unnest($1::text[]) as given (key) join kmsg.done on ${inRange('done.id')}
   where batch_id is not null`

/** Deliveries that will never be made: the event's sum is kept right by counting them as gone. */
const eraseBodies = `
  with fans as (
    delete from kmsg.fan_out where event_key = any($1::text[])
    returning event_key, total - position as n)
  update kmsg.event
     set body = null, erased_at_ms = $2,
         pruned = pruned + coalesce((select n from fans where event_key = event.key), 0)
   where key = any($1::text[])`

const eraseHashes = `
  update kmsg.event_key set content_hash = ''::bytea
    from kmsg.event
   where event.key = any($1::text[]) and event_key.tenant_id = event.tenant_id
     and event_key.id = event.id and event_key.key = event.key`

const eraseAnswers = `
  with ended as (
    update kmsg.done set last_error = null, last_response_body = null
      from unnest($1::text[]) as given (key)
     where ${inRange('id')} and (last_error is not null or last_response_body is not null)
  )
  update kmsg.attempt set error = null, response_body = null
    from unnest($1::text[]) as given (key) where ${inRange('delivery_id')}`
const eraseAnswersOfBatches = `
  update kmsg.attempt set error = null, response_body = null where delivery_id = any($1::text[])`

/** The last key of all. */
const lastKey = '~'

export async function eraseSlice(
  session: Session,
  selection: EraseSelection,
  nowMs: number,
  limit: number,
  after: string,
): Promise<EraseSlice> {
  return await session.database.write(async (connection) => {
    const { keys, next } = await selectEvents(connection, selection, limit, after)
    const erasable = await endLive(session, connection, keys, nowMs)
    if (erasable.length > 0) await eraseEvents(connection, textArray(erasable), nowMs)
    return { erased: erasable.length, inFlight: keys.length - erasable.length, next }
  })
}

async function selectEvents(
  connection: Connection,
  selection: EraseSelection,
  limit: number,
  after: string,
): Promise<{ keys: string[]; next: string | null }> {
  if (selection.kind === 'ids') {
    const start = Number(after)
    const ids = selection.ids.slice(start, start + limit)
    const rows = await connection.all<SelectedRow>(
      eventsById,
      toText(selection.tenantId),
      textArray(ids),
    )
    const end = start + ids.length
    const keys = rows.filter(({ erased_at_ms: at }) => at === null).map(({ key }) => key)
    return {
      keys: [...new Set(keys)],
      next: end < selection.ids.length ? String(end) : null,
    }
  }
  const beforeMs = selection.kind === 'before' ? selection.beforeMs : Number.POSITIVE_INFINITY
  const below = selection.kind === 'before' ? eventKeyFloor(beforeMs) : lastKey
  const tenantId = selection.tenantId === null ? null : toText(selection.tenantId)
  const rows = await connection.all<SelectedRow & { tenant_id: string; accepted_at_ms: number }>(
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
          (tenantId === null || row.tenant_id === tenantId),
      )
      .map(({ key }) => key),
    next: rows[limit - 1]?.key ?? null,
  }
}

/** Ends what waits. @returns the events of which nothing is in flight; only theirs was changed */
async function endLive(
  session: Session,
  connection: Connection,
  keys: readonly string[],
  nowMs: number,
): Promise<string[]> {
  if (keys.length === 0) return []
  await connection.all(lockLive, textArray(keys))
  const rows = await connection.all<LiveRow>(liveOfEvents, textArray(keys))
  const flying = new Set(rows.filter((row) => row.in_flight).map(({ key }) => key))
  const waiting = rows.filter(({ key }) => !flying.has(key))
  const batches = new Set(waiting.flatMap(({ batch_id: id }) => id ?? []))
  if (batches.size > 0) {
    await connection.run(dissolveBatches, textArray([...batches]), nowMs)
    await connection.run(eraseAnswersOfBatches, textArray([...batches]))
  }
  const ids = waiting.map(({ id }) => id)
  await cancelRows(session, connection, ids, 'erased', nowMs)
  return keys.filter((key) => !flying.has(key))
}

async function eraseEvents(connection: Connection, keys: string, nowMs: number): Promise<void> {
  const batches = await connection.all<{ id: string }>(batchesOfEvents, keys)
  await connection.run(eraseAnswersOfBatches, textArray(batches.map(({ id }) => id)))
  await connection.run(eraseBodies, keys, nowMs)
  await connection.run(eraseHashes, keys)
  await connection.run(eraseAnswers, keys)
}

interface SelectedRow {
  readonly key: string
  readonly erased_at_ms: number | null
}

interface LiveRow {
  readonly id: string
  readonly batch_id: string | null
  readonly key: string
  readonly in_flight: boolean
}
