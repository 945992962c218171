/**
 * Retention row by row: for what lies in no day, for small days, and for the little that a day keeps
 * after most of it has gone. What goes is counted, so that the audit still adds up.
 */
import { parseDeliveryId } from '../../model/ids.ts'
import type { RetentionCutoffs } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { textArray } from './text.ts'

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
     where event.key = less.event_key and event.key = any($2::text[])
  )
  select count(*) as deleted from gone`

export async function deleteDeliveryRows(
  connection: Connection,
  ids: readonly string[],
): Promise<number> {
  if (ids.length === 0) return 0
  const eventKeys = new Set(ids.map((id) => parseDeliveryId(id)?.eventKey ?? ''))
  const row = await connection.get<{ deleted: number }>(
    deleteDeliveries,
    ...[textArray(ids), textArray([...eventKeys])],
  )
  return row?.deleted ?? 0
}

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

interface BatchRow {
  readonly id: string
  readonly settled_at_ms: number | null
  readonly has_member: boolean
}

/** Settled ones none of whose members is left. */
export async function pruneBatches(
  connection: Connection,
  { settledBeforeMs }: RetentionCutoffs,
  { after, below, limit }: { after: string; below: string; limit: number },
): Promise<{ deleted: number; last: string | undefined }> {
  const rows = await connection.all<BatchRow>(oldBatches, after, below, limit)
  const old = rows
    .filter(
      ({ settled_at_ms: at, has_member: kept }) => at !== null && at < settledBeforeMs && !kept,
    )
    .map(({ id }) => id)
  const last = rows[limit - 1]?.id
  if (old.length === 0) return { deleted: 0, last }
  const row = await connection.get<{ deleted: number }>(deleteBatches, textArray(old))
  return { deleted: row?.deleted ?? 0, last }
}

/** From here on nobody retries a delivery of theirs. Without the body nobody can. */
const lockEvents = `
  select key from kmsg.event where key = any($1::text[]) and body is not null
   order by key for no key update`

const judgeEvents = `
  select key, accepted_at_ms, body is not null as has_body,
         exists (select from kmsg.live
                  where live.id >= 'dlv_' || event.key || '_' and live.id < 'dlv_' || event.key || '\`')
           or exists (select from kmsg.fan_out where event_key = event.key)
           or exists (select from kmsg.order_block
                       where delivery_id >= 'dlv_' || event.key || '_'
                         and delivery_id < 'dlv_' || event.key || '\`') as unsettled,
         ended.n as ended, ended.failed_at_ms
    from kmsg.event cross join lateral (
      select count(*) as n, max(settled_at_ms) filter (where state <> 'delivered') as failed_at_ms
        from kmsg.done
       where done.id >= 'dlv_' || event.key || '_' and done.id < 'dlv_' || event.key || '\`') as ended
   where key = any($1::text[])`

const forgetIdsOf = `
  delete from kmsg.event_key using kmsg.event
   where event.key = any($1::text[]) and event_key.tenant_id = event.tenant_id
     and event_key.id = event.id and event_key.key = event.key`
const dropBodies = 'update kmsg.event set body = null where key = any($1::text[])'
const deleteEvents = 'delete from kmsg.event where key = any($1::text[])'
/** Late attempts have no delivery to go with. */
const deleteAttemptsOfEvents = `
  delete from kmsg.attempt using unnest($1::text[]) as given (key)
   where delivery_id >= 'dlv_' || given.key || '_' and delivery_id < 'dlv_' || given.key || '\`'`

interface EventRow {
  readonly key: string
  readonly accepted_at_ms: number
  readonly has_body: boolean
  /** Something of it is to be sent yet, or holds a key up and may be sent again. */
  readonly unsettled: boolean
  readonly ended: number
  readonly failed_at_ms: number | null
}

/** @returns ids, bodies and rows deleted */
export async function pruneEventRows(
  connection: Connection,
  cutoffs: RetentionCutoffs,
  keys: readonly string[],
): Promise<number> {
  if (keys.length === 0) return 0
  await connection.all(lockEvents, textArray(keys))
  const rows = await connection.all<EventRow>(judgeEvents, textArray(keys))
  const keysOf = (chosen: (row: EventRow) => boolean) => rows.filter(chosen).map(({ key }) => key)
  const gone = keysOf((row) => isRowOver(row, cutoffs))
  const emptied = textArray(
    keysOf((row) => row.has_body && isBodyOver(row, cutoffs) && !isRowOver(row, cutoffs)),
  )
  let deleted = await connection.run(dropBodies, emptied)
  deleted += await forgetIds(connection, gone)
  await connection.run(deleteAttemptsOfEvents, textArray(gone))
  deleted += await connection.run(deleteEvents, textArray(gone))
  return deleted
}

/**
 * Of events that are locked, or have neither body nor delivery: nothing is ever made of those again.
 *
 * @returns ids forgotten
 */
export async function forgetIds(connection: Connection, keys: readonly string[]): Promise<number> {
  return await connection.run(forgetIdsOf, textArray(keys))
}

function isBodyOver(row: EventRow, cutoffs: RetentionCutoffs): boolean {
  if (row.unsettled) return false
  return row.failed_at_ms === null
    ? row.accepted_at_ms < cutoffs.deliveredBodiesBeforeMs
    : row.failed_at_ms < cutoffs.failedBodiesBeforeMs
}

function isRowOver(row: EventRow, cutoffs: RetentionCutoffs): boolean {
  return (
    row.accepted_at_ms < Math.min(cutoffs.eventIdsBeforeMs, cutoffs.settledBeforeMs) &&
    !row.unsettled &&
    row.ended === 0 &&
    (!row.has_body || isBodyOver(row, cutoffs))
  )
}
