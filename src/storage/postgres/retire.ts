/**
 * Days that are over leave as a whole: what little of one must stay is copied into a new table, which
 * takes the day's place (replace-day.ts), and the old table is dropped. A million rows so cost one scan,
 * and leave no dead row behind. docs/decisions/0014 has the rules.
 */
import type { RetentionCutoffs } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { boundsOf, type Day, type Days } from './days.ts'
import { isBlocking } from './order.ts'
import {
  aboutAll,
  allOrNothing,
  countOf,
  holdDay,
  makeFresh,
  namesOf,
  replaceDay,
} from './replace-day.ts'

// ── ended deliveries and their attempts ──────────────────────────────────────────────────────────

export interface DayOfDeliveries {
  readonly total: number
  readonly over: number
}

export async function examineDeliveries(
  connection: Connection,
  day: Day,
  { settledBeforeMs }: RetentionCutoffs,
): Promise<DayOfDeliveries> {
  const { from, to } = boundsOf('done', day)
  const [found] = await connection.once<DayOfDeliveries>(
    `select count(*) as total,
            count(*) filter (where settled_at_ms < $1::bigint and not ${isBlocking(from, to)}) as over
       from kmsg.done where id >= ${from} and id < ${to}`,
    Math.floor(settledBeforeMs),
  )
  return found ?? { total: 0, over: 0 }
}

/** Their events are not told one by one: the day is marked instead, for the audit. */
export function retireDeliveries(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  return allOrNothing(connection, () => moveDeliveries(connection, day, cutoffs, tag))
}

async function moveDeliveries(
  connection: Connection,
  day: Day,
  { settledBeforeMs }: RetentionCutoffs,
  tag: string,
): Promise<readonly string[] | null> {
  if (!(await holdDay(connection, ['done', 'attempt'], day))) return null
  const { from, to } = boundsOf('done', day)
  const cutoff = Math.max(0, Math.floor(settledBeforeMs))
  const inDay = `done.id >= ${from} and done.id < ${to}`
  // Read once: one that is let go meanwhile is not both counted as gone and kept.
  const blocking = await connection.once<{ id: string }>(
    `select done.id from kmsg.done where ${inDay} and ${isBlocking(from, to)}`,
  )
  const staying = `(settled_at_ms >= ${cutoff} or id = any(${idList(blocking)}))`
  await connection.once(`
    insert into kmsg.pruned as p (endpoint_key, state, deliveries, attempts)
    select endpoint_key, state, count(*),
           coalesce(sum(attempts) filter (where batch_id is null), 0)
      from kmsg.done where ${inDay} and not ${staying}
     group by 1, 2 order by 1, 2
    on conflict (endpoint_key, state)
       do update set deliveries = p.deliveries + excluded.deliveries,
                     attempts = p.attempts + excluded.attempts`)
  await connection.exec(`
    insert into kmsg.pruned_day (from_key, to_key) values ('${day.fromKey}', '${day.toKey}')
        on conflict do nothing`)
  const done = namesOf('done', day, tag)
  const attempt = namesOf('attempt', day, tag)
  await makeFresh(connection, 'done', day, done)
  await makeFresh(connection, 'attempt', day, attempt)
  const deliveries = await countOf(
    connection,
    `with kept as (
       insert into ${done.fresh}
       select done.* from kmsg.done where ${inDay} and ${staying} returning 1)
     select count(*) as n from kept`,
  )
  const attempts = await countOf(
    connection,
    `with staying as materialized (
       select id from kmsg.live where id >= ${from} and id < ${to}
       union select id from ${done.fresh}
     ), kept as (
       insert into ${attempt.fresh}
       select attempt.* from kmsg.attempt join staying on staying.id = delivery_id
        where delivery_id >= ${from} and delivery_id < ${to} returning 1)
     select count(*) as n from kept`,
  )
  const tables = [
    { table: 'done', isKept: deliveries > 0, names: done },
    { table: 'attempt', isKept: attempts > 0, names: attempt },
  ] as const
  return (await replaceDay(connection, day, tables)) ? [done.gone, attempt.gone] : null
}

/** Ids hold nothing that a literal must escape. */
function idList(rows: readonly { readonly id: string }[]): string {
  return `'{${rows.map(({ id }) => id).join(',')}}'::text[]`
}

/**
 * Attempts that are left where all deliveries of the day are gone: those of deliveries that still
 * wait, and late ones, which go with the rest.
 */
export async function retireAttempts(
  connection: Connection,
  day: Day,
  tag: string,
): Promise<readonly string[] | null> {
  const { from, to } = boundsOf('attempt', day)
  const [kept] = await aboutAll(connection, () =>
    connection.once(`
      with staying as materialized (
        select id from kmsg.live where id >= ${from} and id < ${to}
        union select id from kmsg.done where id >= ${from} and id < ${to}
      )
      select from kmsg.attempt join staying on staying.id = delivery_id
       where delivery_id >= ${from} and delivery_id < ${to} limit 1`),
  )
  if (kept !== undefined) return null
  return await allOrNothing(connection, async () => {
    if (!(await holdDay(connection, ['attempt'], day))) return null
    const names = namesOf('attempt', day, tag)
    await makeFresh(connection, 'attempt', day, names)
    const isGone = await replaceDay(connection, day, [{ table: 'attempt', isKept: false, names }])
    return isGone ? [names.gone] : null
  })
}

// ── events and their bodies ──────────────────────────────────────────────────────────────────────

export interface DayOfEvents {
  readonly total: number
  /** Rows that go. */
  readonly gone: number
  /** Bodies that go, of rows that stay or not. */
  readonly bodies: number
}

/** `fate`: what becomes of each of these events. The rules are those of prune-rows.ts, for many. */
function fateOf(days: Days, cutoffs: RetentionCutoffs): string {
  const { from, to } = boundsOf('event', days)
  const deliveries = boundsOf('done', days)
  const at = (ms: number) => Math.max(0, Math.floor(ms))
  return `
    with ended as materialized (
      select event_key, max(settled_at_ms) filter (where state <> 'delivered') as failed_at_ms
        from kmsg.done where id >= ${deliveries.from} and id < ${deliveries.to} group by 1
    ), unsettled as materialized (
      select event_key from kmsg.live where id >= ${deliveries.from} and id < ${deliveries.to}
      union select event_key from kmsg.fan_out where event_key >= ${from} and event_key < ${to}
      -- What holds a key up may be sent again.
      union select substr(delivery_id, 5, 24) from kmsg.order_block
             where delivery_id >= ${deliveries.from} and delivery_id < ${deliveries.to}
    ), judged as (
      select event.key, body is not null as has_body,
             unsettled.event_key is null
               and case when failed_at_ms is null
                        then accepted_at_ms < ${at(cutoffs.deliveredBodiesBeforeMs)}
                        else failed_at_ms < ${at(cutoffs.failedBodiesBeforeMs)} end as is_body_over,
             unsettled.event_key is null and ended.event_key is null
               and accepted_at_ms < ${at(Math.min(cutoffs.eventIdsBeforeMs, cutoffs.settledBeforeMs))}
               as is_row_over
        from kmsg.event left join ended on ended.event_key = event.key
                        left join unsettled on unsettled.event_key = event.key
       where event.key >= ${from} and event.key < ${to}
    ), fate as (
      select key, has_body, is_row_over and (not has_body or is_body_over) as is_gone,
             has_body and is_body_over as is_emptied from judged)`
}

export async function examineEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
): Promise<DayOfEvents> {
  const [found] = await aboutAll(connection, () =>
    connection.once<DayOfEvents>(`${fateOf(day, cutoffs)}
      select count(*) as total, count(*) filter (where is_gone) as gone,
             count(*) filter (where is_emptied) as bodies from fate`),
  )
  return found ?? { total: 0, gone: 0, bodies: 0 }
}

/** Keys of events that something becomes of. */
export async function overEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  limit: number,
): Promise<string[]> {
  const rows = await aboutAll(connection, () =>
    connection.once<{ key: string }>(`${fateOf(day, cutoffs)}
      select key from fate where is_gone or is_emptied limit ${limit}`),
  )
  return rows.map(({ key }) => key)
}

/** Keys of events that go, out of a few in a row: `first` and `last` are of the same day. */
export async function goneEvents(
  connection: Connection,
  { first, last }: { first: string; last: string },
  cutoffs: RetentionCutoffs,
): Promise<{ withBody: string[]; bare: string[] }> {
  // The character after '_': above all deliveries of the last one.
  const rows = await connection.once<{ key: string; has_body: boolean }>(
    `${fateOf({ fromKey: first, toKey: `${last}\`` }, cutoffs)}
     select key, has_body from fate where is_gone`,
  )
  const keysOf = (hasBody: boolean) =>
    rows.filter((row) => row.has_body === hasBody).map(({ key }) => key)
  return { withBody: keysOf(true), bare: keysOf(false) }
}

/**
 * The day goes on without the bodies that are over, and without the events that are: those whose ids
 * were forgotten before. One that has a body or an id stays.
 */
export function retireEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<RetiredEvents | null> {
  return allOrNothing(connection, () => moveEvents(connection, day, cutoffs, tag))
}

export interface RetiredEvents {
  /** Tables that belong to nothing any more. */
  readonly tables: readonly string[]
  /** Rows that went. */
  readonly gone: number
}

async function moveEvents(
  connection: Connection,
  day: Day,
  cutoffs: RetentionCutoffs,
  tag: string,
): Promise<RetiredEvents | null> {
  if (!(await holdDay(connection, ['event'], day))) return null
  const names = namesOf('event', day, tag)
  await makeFresh(connection, 'event', day, names)
  const columns = await connection.once<{ name: string }>(
    `select attname as name from pg_attribute
      where attrelid = 'kmsg.event'::regclass and attnum > 0 and not attisdropped order by attnum`,
  )
  const values = columns.map(({ name }) =>
    name === 'body' ? 'case when not is_emptied then event.body end' : `event.${name}`,
  )
  const [counted] = await connection.once<{ kept: number; gone: number }>(
    `${fateOf(day, cutoffs)}, kept as (
       insert into ${names.fresh}
       select ${values.join(', ')} from kmsg.event join fate on fate.key = event.key
              left join lateral (
                select true as is_known from kmsg.event_key as known
                 where is_gone and known.tenant_id = event.tenant_id and known.id = event.id
                   and known.key = event.key limit 1) as id on true
        where (not is_gone or has_body or is_known)
          and event.key >= '${day.fromKey}' and event.key < '${day.toKey}'
       returning 1)
     select (select count(*) from kept) as kept,
            (select count(*) from fate) - (select count(*) from kept) as gone`,
  )
  const { kept, gone } = counted ?? { kept: 0, gone: 0 }
  if (kept === 0) {
    await connection.exec(`delete from kmsg.pruned_day where from_key = '${day.fromKey}'`)
  }
  const isDone = await replaceDay(connection, day, [{ table: 'event', isKept: kept > 0, names }])
  return isDone ? { tables: [names.gone], gone } : null
}
