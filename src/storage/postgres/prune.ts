/**
 * Retention: deletes what has outlived its time, in slices of bounded cost, one process at a time.
 * Three walks along the order of ids, which is the order of time: ended deliveries with their
 * attempts, settled batches, events with their ids; then the slots that nothing is left in, and repairs that
 * have ended. What must outlive its time (a body that is still to be sent, the row of an event that has deliveries) is
 * passed over. What goes is counted, so that the audit still adds up.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { RetentionCutoffs } from '../storage.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { pruneSlots, slotOf } from './slot.ts'
import { textArray } from './text.ts'

/** Where the walk is: the last id looked at. */
export interface PrunePosition {
  readonly walk: 'deliveries' | 'batches' | 'events' | 'slots' | 'repairs'
  readonly after: string
}

export interface PruneSlice {
  readonly deleted: number
  /** Null when the last walk is through. */
  readonly next: PrunePosition | null
}

export const pruneStart: PrunePosition = { walk: 'deliveries', after: '' }

/** Other processes may think that younger slots are written, and not write them again. */
const keepSlotsMs = 3_600_000

const takeTurn = `
  select pg_try_advisory_xact_lock(hashtextextended('kmsg retention ' || $1, 0)) as taken`

const oldDeliveries = `
  select id, settled_at_ms from kmsg.done where id > $1 and id < $2 order by id limit $3`

/** The attempts of a batch are counted once, with the batch. */
const deleteDeliveries = `
  with gone as (
    delete from kmsg.done where id = any($1::text[])
    returning id, event_key, endpoint_key, state, round, attempts, batch_id
  ), attempts as (
    delete from kmsg.attempt where delivery_id = any($1::text[])
  ), counted as (
    insert into kmsg.pruned as p (endpoint_key, state, deliveries, attempts)
    select endpoint_key, state, count(*),
           coalesce(sum(attempts) filter (where batch_id is null), 0)
      from gone group by 1, 2
    on conflict (endpoint_key, state)
       do update set deliveries = p.deliveries + excluded.deliveries,
                     attempts = p.attempts + excluded.attempts
  ), events as (
    update kmsg.event set pruned = pruned + n
      from (select event_key, count(*) as n from gone where round = 1 group by 1) as less
     where event.key = less.event_key
  )
  select count(*) as deleted from gone`

const oldBatches = `
  select id, settled_at_ms,
         exists (select from json_array_elements(members) each
                   join kmsg.done on done.id = each.value ->> 0 and done.batch_id = batch.id)
           as has_member
    from kmsg.batch where id > $1 and id < $2 order by id limit $3`

const deleteBatches = `
  with gone as (
    delete from kmsg.batch where id = any($1::text[]) returning id, endpoint_key
  ), attempts as (
    delete from kmsg.attempt where delivery_id = any($1::text[]) returning delivery_id, late
  ), counted as (
    insert into kmsg.pruned as p (endpoint_key, state, deliveries, attempts)
    select endpoint_key, 'batch', 0,
           (select count(*) from attempts
             where not late and delivery_id in (select id from gone g
                                                 where g.endpoint_key = gone.endpoint_key))
      from gone group by endpoint_key
    on conflict (endpoint_key, state) do update set attempts = p.attempts + excluded.attempts
  )
  select count(*) as deleted from gone`

const oldEvents = `
  select key, accepted_at_ms, body is not null as has_body,
         exists (select from kmsg.event_key
                  where event_key.tenant_id = event.tenant_id and event_key.id = event.id
                    and event_key.key = event.key) as has_id,
         exists (select from kmsg.live
                  where live.id >= 'dlv_' || event.key || '_' and live.id < 'dlv_' || event.key || '\`')
           or exists (select from kmsg.fan_out where event_key = event.key) as unsettled,
         ended.n as ended, ended.failed_at_ms
    from kmsg.event cross join lateral (
      select count(*) as n, max(settled_at_ms) filter (where state <> 'delivered') as failed_at_ms
        from kmsg.done
       where done.id >= 'dlv_' || event.key || '_' and done.id < 'dlv_' || event.key || '\`') as ended
   where key > $1 and key < $2 order by key limit $3`

const forgetIds = `
  delete from kmsg.event_key using kmsg.event
   where event.key = any($1::text[]) and event_key.tenant_id = event.tenant_id
     and event_key.id = event.id and event_key.key = event.key`
const dropBodies = 'update kmsg.event set body = null where key = any($1::text[])'
const deleteEvents = 'delete from kmsg.event where key = any($1::text[])'
/** Late attempts have no delivery to go with. */
const deleteAttemptsOfEvents = `
  delete from kmsg.attempt using unnest($1::text[]) as given (key)
   where delivery_id >= 'dlv_' || given.key || '_' and delivery_id < 'dlv_' || given.key || '\`'`

const deleteRepairs = `
  delete from kmsg.repair
   where id in (select id from kmsg.repair where ended_at_ms < $1 order by id limit $2)`

/** @returns null when another process is at it */
export async function pruneSlice(
  session: Session,
  cutoffs: RetentionCutoffs,
  limit: number,
  position: PrunePosition,
): Promise<PruneSlice | null> {
  const { database } = session
  return await database.write(async (connection) => {
    const turn = await connection.get<{ taken: boolean }>(takeTurn, database.schema.name)
    if (!turn?.taken) return null
    switch (position.walk) {
      case 'deliveries':
        return await pruneDeliveries(connection, cutoffs, limit, position.after)
      case 'batches':
        return await pruneBatches(connection, cutoffs, limit, position.after)
      case 'events':
        return await pruneEvents(connection, cutoffs, limit, position.after)
      case 'slots': {
        const keepFrom = slotOf(`dlv_${eventKeyFloor(session.nowMs() - keepSlotsMs)}`)
        const last = await pruneSlots(connection, limit, position.after, keepFrom)
        return { deleted: 0, next: follow('slots', last, 'repairs') }
      }
      case 'repairs': {
        // They are few, and no other row needs theirs.
        const deleted = await connection.run(deleteRepairs, cutoffs.settledBeforeMs, limit)
        return { deleted, next: null }
      }
      default:
        return position.walk satisfies never
    }
  })
}

async function pruneDeliveries(
  connection: Connection,
  { settledBeforeMs }: RetentionCutoffs,
  limit: number,
  after: string,
): Promise<PruneSlice> {
  const below = `dlv_${eventKeyFloor(settledBeforeMs)}`
  const rows = await connection.all<{ id: string; settled_at_ms: number }>(
    oldDeliveries,
    after,
    below,
    limit,
  )
  const old = rows.filter((row) => row.settled_at_ms < settledBeforeMs).map(({ id }) => id)
  const deleted = await countDeleted(connection, deleteDeliveries, old)
  return { deleted, next: follow('deliveries', rows[limit - 1]?.id, 'batches') }
}

async function pruneBatches(
  connection: Connection,
  { settledBeforeMs }: RetentionCutoffs,
  limit: number,
  after: string,
): Promise<PruneSlice> {
  const below = `bat_${eventKeyFloor(settledBeforeMs)}`
  const rows = await connection.all<BatchRow>(oldBatches, after, below, limit)
  const old = rows
    .filter(
      ({ settled_at_ms: at, has_member: kept }) => at !== null && at < settledBeforeMs && !kept,
    )
    .map(({ id }) => id)
  const deleted = await countDeleted(connection, deleteBatches, old)
  return { deleted, next: follow('batches', rows[limit - 1]?.id, 'events') }
}

async function countDeleted(
  connection: Connection,
  sql: string,
  ids: readonly string[],
): Promise<number> {
  if (ids.length === 0) return 0
  return (await connection.get<{ deleted: number }>(sql, textArray(ids)))?.deleted ?? 0
}

async function pruneEvents(
  connection: Connection,
  cutoffs: RetentionCutoffs,
  limit: number,
  after: string,
): Promise<PruneSlice> {
  const below = eventKeyFloor(Math.max(...Object.values(cutoffs)))
  const rows = await connection.all<EventRow>(oldEvents, after, below, limit)
  const keysOf = (chosen: (row: EventRow) => boolean) =>
    textArray(rows.filter(chosen).map(({ key }) => key))
  const ids = keysOf((row) => row.has_id && isIdOver(row, cutoffs))
  const gone = keysOf((row) => isRowOver(row, cutoffs))
  const emptied = keysOf(
    (row) => row.has_body && isBodyOver(row, cutoffs) && !isRowOver(row, cutoffs),
  )
  let deleted = await connection.run(forgetIds, ids)
  deleted += await connection.run(dropBodies, emptied)
  await connection.run(deleteAttemptsOfEvents, gone)
  deleted += await connection.run(deleteEvents, gone)
  return { deleted, next: follow('events', rows[limit - 1]?.key, 'slots') }
}

function isIdOver({ accepted_at_ms: atMs }: EventRow, cutoffs: RetentionCutoffs): boolean {
  return atMs < cutoffs.eventIdsBeforeMs
}

function isBodyOver(row: EventRow, cutoffs: RetentionCutoffs): boolean {
  if (row.unsettled) return false
  return row.failed_at_ms === null
    ? row.accepted_at_ms < cutoffs.deliveredBodiesBeforeMs
    : row.failed_at_ms < cutoffs.failedBodiesBeforeMs
}

function isRowOver(row: EventRow, cutoffs: RetentionCutoffs): boolean {
  return (
    isIdOver(row, cutoffs) &&
    row.accepted_at_ms < cutoffs.settledBeforeMs &&
    !row.unsettled &&
    row.ended === 0 &&
    (!row.has_body || isBodyOver(row, cutoffs))
  )
}

function follow(
  walk: PrunePosition['walk'],
  lastOfFullSlice: string | null | undefined,
  then: PrunePosition['walk'] | null,
): PrunePosition | null {
  if (lastOfFullSlice) return { walk, after: lastOfFullSlice }
  return then === null ? null : { walk: then, after: '' }
}

interface BatchRow {
  readonly id: string
  readonly settled_at_ms: number | null
  readonly has_member: boolean
}

interface EventRow {
  readonly key: string
  readonly accepted_at_ms: number
  readonly has_body: boolean
  readonly has_id: boolean
  readonly unsettled: boolean
  readonly ended: number
  readonly failed_at_ms: number | null
}
