/**
 * Erasure: bodies, what receivers answered, and the fingerprint of the content are gone; the skeleton
 * (ids, types, times, states) stays. What is in flight is marked and reported: its body is being read
 * at this moment, and its answer will be written yet. The bytes leave the files with the next vacuum and the log.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { CancelledDelivery } from '../repairs.ts'
import type { EraseSelection } from '../upkeep.ts'
import { cancelRows } from './cancel.ts'
import type { Connection } from './connection.ts'
import { dissolveBatches, eraseAnswersOfBatches } from './dissolve.ts'
import { eraseIntake } from './erase-intake.ts'
import { lockKeys, promote } from './order.ts'
import type { Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

export interface EraseSlice {
  readonly erased: number
  readonly inFlight: number
  readonly marked: readonly CancelledDelivery[]
  readonly mayBegin: number
  readonly freed: readonly string[]
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

/** First of all: nobody makes a delivery of them meanwhile, and who has just made one is waited for. */
const lockBodies = `
  select key from kmsg.event where key = any($1::text[]) and body is not null
   order by key for no key update`

/** Who has locked them makes deliveries of those that still have their bodies, and of no others. */
export async function lockBodiesOf(
  connection: Connection,
  eventKeys: readonly string[],
): Promise<void> {
  await connection.planned(lockBodies, textArray(eventKeys))
}

/** Locked, so that nobody claims them meanwhile; also the batches that carry them. */
const lockLive = `
  select id from kmsg.live
   where id in (
     select coalesce(live.batch_id, live.id)
       from unnest($1::text[]) as given (key) join kmsg.live on ${inRange('live.id')})
   order by id for update`

const liveOfEvents = `
  select live.id, live.batch_id, live.endpoint_key, given.key,
         coalesce(carrier.owner, live.owner) is not null as in_flight,
         coalesce(carrier.owner, live.owner) = $2 as is_own,
         coalesce(carrier.cancel_heard, live.cancel_heard, false) as is_heard
    from unnest($1::text[]) as given (key)
    join kmsg.live on ${inRange('live.id')}
    left join kmsg.live as carrier on carrier.id = live.batch_id`

const mark = `
  update kmsg.live set cancel_reason = $2 where id = any($1::text[]) and cancel_reason is null`

const batchesOfEvents = `
  select distinct batch_id as id
    from unnest($1::text[]) as given (key) join kmsg.done on ${inRange('done.id')}
   where batch_id is not null`

/** Deliveries that will never be made: the event's sum is kept right by counting them as gone. */
const dropFanOuts = `
  with fans as (
    delete from kmsg.fan_out where event_key = any($1::text[])
    returning event_key, total - position as n)
  update kmsg.event set pruned = pruned + n from fans where event_key = event.key`

const eraseBodies = `
  update kmsg.event set body = null, erased_at_ms = $2 where key = any($1::text[])`

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

const blocksOfEvents = `
  select endpoint_key, order_key, delivery_id
    from unnest($1::text[]) as given (key) join kmsg.order_block on ${inRange('delivery_id')}`
const unblock = 'delete from kmsg.order_block where delivery_id = any($1::text[])'

const reason = 'erased'

/** The last key of all. */
const lastKey = '~'

export async function eraseSlice(
  session: Session,
  selection: EraseSelection,
  nowMs: number,
  limit: number,
  after: string,
): Promise<EraseSlice> {
  const slice = await session.database.write(async (connection) => {
    const brought = await eraseBrought(connection, selection, nowMs, limit, after)
    const { keys, next } = await selectEvents(connection, selection, limit, after)
    const flying = await endLive(session, connection, keys, nowMs)
    const inFlight = new Set(flying.map(({ key }) => key))
    const erasable = keys.filter((key) => !inFlight.has(key))
    if (erasable.length > 0) await eraseEvents(connection, textArray(erasable), nowMs)
    const freed = await releaseKeys(session, connection, textArray(erasable), nowMs)
    return { erased: brought + erasable.length, inFlight: inFlight.size, flying, freed, next }
  })
  const { flying, ...rest } = slice
  if (rest.freed.length > 0) session.hints.due(rest.freed)
  const mayBegin = flying.filter((row) => !row.is_own && !row.is_heard).length
  if (mayBegin > 0) session.hints.marked()
  const marked = flying.filter((row) => row.is_own).map(asOwned)
  return { ...rest, marked, mayBegin }
}

/** With the events of the same ids, or else with the first. */
async function eraseBrought(
  connection: Connection,
  selection: EraseSelection,
  nowMs: number,
  limit: number,
  after: string,
): Promise<number> {
  if (selection.kind !== 'ids') {
    return after === '' ? await eraseIntake(connection, selection, null, nowMs) : 0
  }
  const ids = selection.ids.slice(Number(after), Number(after) + limit)
  return await eraseIntake(connection, selection, ids, nowMs)
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

/** Ends what waits, and marks what is in flight. @returns that */
async function endLive(
  session: Session,
  connection: Connection,
  keys: readonly string[],
  nowMs: number,
): Promise<LiveRow[]> {
  if (keys.length === 0) return []
  await lockBodiesOf(connection, keys)
  await connection.all(lockLive, textArray(keys))
  const { id: ownId } = session.worker
  const rows = await connection.all<LiveRow>(liveOfEvents, textArray(keys), ownId)
  const waiting = rows.filter((row) => !row.in_flight)
  const batches = new Set(waiting.flatMap(({ batch_id: id }) => id ?? []))
  if (batches.size > 0) await dissolveBatches(connection, [...batches], nowMs)
  const ids = waiting.map(({ id }) => id)
  await cancelRows(session, connection, ids, reason, nowMs)
  await connection.run(dropFanOuts, textArray(keys))
  const flying = rows.filter((row) => row.in_flight)
  const owned = flying.flatMap(({ id, batch_id: batchId }) =>
    batchId === null ? id : [id, batchId],
  )
  if (owned.length > 0) await connection.run(mark, textArray([...new Set(owned)]), reason)
  return flying
}

/** What is owned of a member is its batch. */
function asOwned({ id, batch_id: batchId, endpoint_key: endpointKey }: LiveRow): CancelledDelivery {
  return { id: batchId ?? id, endpointKey }
}

async function eraseEvents(connection: Connection, keys: string, nowMs: number): Promise<void> {
  const batches = await connection.all<{ id: string }>(batchesOfEvents, keys)
  await eraseAnswersOfBatches(
    connection,
    batches.map(({ id }) => id),
  )
  await connection.run(eraseBodies, keys, nowMs)
  await connection.run(eraseHashes, keys)
  await connection.run(eraseAnswers, keys)
}

/**
 * What they hold up can never be freed by sending them again; and its key is personal data, too.
 *
 * @returns the endpoints that have something due
 */
async function releaseKeys(
  session: Session,
  connection: Connection,
  eventKeys: string,
  nowMs: number,
): Promise<string[]> {
  const rows = await connection.all<BlockRow>(blocksOfEvents, eventKeys)
  if (rows.length === 0) return []
  const keys = rows.map((row) => ({
    endpointKey: row.endpoint_key,
    key: fromText(row.order_key),
  }))
  // Before the rows, as whoever ends the first of a key does.
  await lockKeys(session, connection, keys)
  await connection.run(unblock, textArray(rows.map((row) => row.delivery_id)))
  await promote(session, connection, keys, nowMs)
  return [...new Set(rows.map((row) => row.endpoint_key))]
}

interface BlockRow {
  readonly endpoint_key: string
  readonly order_key: string
  readonly delivery_id: string
}

interface SelectedRow {
  readonly key: string
  readonly erased_at_ms: number | null
}

interface LiveRow {
  readonly id: string
  readonly batch_id: string | null
  readonly key: string
  readonly endpoint_key: string
  readonly in_flight: boolean
  readonly is_own: boolean | null
  readonly is_heard: boolean
}
