/**
 * Ends what waits without sending it: the endpoint is gone, the event was erased, or somebody wants
 * it. What is in flight is at most marked.
 */
import type { Cancellation } from '../commit-records.ts'
import type { CancelledDelivery, CancelledRest, CancelResult } from '../repairs.ts'
import type { Connection } from './connection.ts'
import { dissolveMarked, endOfGone } from './dissolve.ts'
import { promote, unblockKeys } from './order.ts'
import { closedReason, type Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

const waitingOfEndpoint = `
  select id from kmsg.live
   where endpoint_key = $1 and owner is null and batch_id is null
   limit $2 for update skip locked`

const findClosed = `select ${closedReason} as closed from kmsg.endpoint where key = $1`

/** A batch brings its members. */
const cancel = `
  with carrier as (
    delete from kmsg.live
     where id = any($1::text[]) and owner is null and batch_id is null
    returning *
  ), closed as (
    update kmsg.batch set settled_at_ms = $3::bigint, body = null
      from carrier where batch.id = carrier.id and carrier.kind = 'batch'
    returning batch.id, batch.members
  ), member as (
    delete from kmsg.live using closed cross join json_array_elements(closed.members) each
     where live.id = each.value ->> 0
    returning live.*
  ), ended as (
    select id, event_key, endpoint_key, round, attempts, token, null as batch_id, created_at_ms,
           order_key
      from carrier where kind = 'single'
    union all
    select member.id, member.event_key, member.endpoint_key, member.round, carrier.attempts,
           carrier.token, carrier.id, member.created_at_ms, null
      from member join carrier on carrier.id = member.batch_id
  ), written as (
  insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                         batch_id, created_at_ms, settled_at_ms)
  select id, event_key, endpoint_key, 'cancelled', $2, round, attempts, token, batch_id,
         created_at_ms, $3::bigint
    from ended
  )
  select id, endpoint_key, order_key from ended`

/** @returns ids of the deliveries that ended; a batch counts all its members */
export async function cancelDeliveries(
  session: Session,
  endpointKey: string,
  reason: string,
  nowMs: number,
  limit: number,
): Promise<string[]> {
  return await session.database.write(async (connection) => {
    // When it takes nothing any more, nothing waits for what failed.
    const endpoint = await connection.get<{ closed: string | null }>(findClosed, endpointKey)
    if (endpoint?.closed) await unblockKeys(session, connection, endpointKey, null, nowMs)
    const rows = await connection.all<{ id: string }>(waitingOfEndpoint, endpointKey, limit)
    const ids = rows.map(({ id }) => id)
    return await cancelRows(session, connection, ids, reason, nowMs)
  })
}

/** An endpoint cannot begin to take something while this runs. */
const holdClosed = `${findClosed} for share`
/** Waits for whoever is taking or settling one of them. */
const lockRest = `
  select id, owner, cancel_heard from kmsg.live
   where endpoint_key = $1 and batch_id is null order by id for update`
/** A batch that is owned brings its members, which nobody owns. */
const markOwned = `
  update kmsg.live set cancel_reason = $2
   where (id = any($1::text[]) or batch_id = any($1::text[])) and cancel_reason is null`

/** Reads all that waits, of every endpoint: no index holds what is owned. For use now and then. */
export async function cancelRest(
  session: Session,
  endpointKey: string,
  reason: string,
  nowMs: number,
): Promise<CancelledRest> {
  const { id: ownId } = session.worker
  const rest = await session.database.write(async (connection) => {
    const endpoint = await connection.get<{ closed: string | null }>(holdClosed, endpointKey)
    if (!endpoint?.closed) return { ended: [], marked: [], mayBegin: 0 }
    const rows = await connection.all<RestRow>(lockRest, endpointKey)
    const waiting = rows.filter(({ owner }) => owner === null).map(({ id }) => id)
    const ended = await cancelRows(session, connection, waiting, reason, nowMs)
    const owned = rows.filter(({ owner }) => owner !== null)
    const ids = owned.map(({ id }) => id)
    if (ids.length > 0) await connection.run(markOwned, textArray(ids), toText(reason))
    const own = owned.filter(({ owner }) => owner === ownId)
    const others = owned.filter(({ owner, cancel_heard: isHeard }) => owner !== ownId && !isHeard)
    return {
      ended,
      marked: own.map(({ id }) => ({ id, endpointKey })),
      mayBegin: others.length,
    }
  })
  if (rest.mayBegin > 0) session.hints.marked()
  return rest
}

interface RestRow {
  readonly id: string
  readonly owner: number | null
  readonly cancel_heard: boolean | null
}

/**
 * Marked while it was owned, and owned by nobody any more. When its attempt was, if there was one, a
 * takeover does not know: not before it was due.
 */
const endMarked = `
  with gone as (
    delete from kmsg.live
     where cancel_reason is not null and owner is null and batch_id is null
    returning *
  ), ${endOfGone}
  select id, endpoint_key, order_key, cancel_reason, due_at_ms from gone`

/**
 * @param nowMs null when they may have ended at any time since they were due
 * @returns what has ended
 */
export async function endCancelled(
  session: Pick<Session, 'database'>,
  connection: Connection,
  nowMs: number | null,
): Promise<Cancellation[]> {
  await dissolveMarked(connection, nowMs)
  const rows = await connection.all<MarkedRow>(endMarked, nowMs)
  const keys = rows.flatMap(({ endpoint_key: endpointKey, order_key: key }) =>
    key === null ? [] : [{ endpointKey, key: fromText(key) }],
  )
  await promote(session, connection, keys, nowMs ?? Math.max(...rows.map((row) => row.due_at_ms)))
  return rows.map(({ id, cancel_reason: reason }) => ({ id, reason: fromText(reason) }))
}

interface MarkedRow {
  readonly id: string
  readonly endpoint_key: string
  readonly order_key: string | null
  readonly cancel_reason: string
  readonly due_at_ms: number
}

/** Locked in the order of their keys, so that what they are does not change before they end. */
const lockSome = `
  select id, owner is null as waits, batch_id is not null as in_batch from kmsg.live
   where id = any($1::text[]) and kind = 'single' order by id for update`
const mark = 'update kmsg.live set cancel_reason = $2 where id = any($1::text[])'
const endedSome = 'select id from kmsg.done where id = any($1::text[])'

export async function cancelSome(
  session: Session,
  ids: readonly string[],
  reason: string,
  nowMs: number,
): Promise<CancelResult[]> {
  const results = await session.database.write(async (connection) => {
    const live = await connection.all<LiveRow>(lockSome, textArray(ids))
    const owned = live.filter((row) => !row.in_batch && !row.waits).map(({ id }) => id)
    const waiting = live.filter((row) => !row.in_batch && row.waits).map(({ id }) => id)
    if (owned.length > 0) await connection.run(mark, textArray(owned), toText(reason))
    await cancelRows(session, connection, waiting, reason, nowMs)
    const ended = await connection.all<{ id: string }>(endedSome, textArray(ids))
    const results = new Map<string, CancelResult>([
      ...ended.map(({ id }) => [id, 'ended'] as const),
      ...live.flatMap(({ id, in_batch: inBatch }) => (inBatch ? [[id, 'in-batch'] as const] : [])),
      ...owned.map((id) => [id, 'marked'] as const),
      ...waiting.map((id) => [id, 'cancelled'] as const),
    ])
    return ids.map((id) => results.get(id) ?? 'unknown')
  })
  // Another process may have it in memory.
  if (results.includes('marked')) session.hints.marked()
  return results
}

interface LiveRow {
  readonly id: string
  readonly waits: boolean
  readonly in_batch: boolean
}

const expired = `
  select id, endpoint_key from kmsg.live
   where expires_at_ms <= $1 and owner is null
   order by expires_at_ms limit $2 for update skip locked`

/** Members of batches have no end of their own. */
export async function expireDeliveries(
  session: Session,
  nowMs: number,
  limit: number,
): Promise<CancelledDelivery[]> {
  return await session.database.write(async (connection) => {
    const rows = await connection.all<{ id: string; endpoint_key: string }>(expired, nowMs, limit)
    const ids = rows.map(({ id }) => id)
    await cancelRows(session, connection, ids, 'expired', nowMs)
    return rows.map(({ id, endpoint_key: endpointKey }) => ({ id, endpointKey }))
  })
}

interface EndedRow {
  readonly id: string
  readonly endpoint_key: string
  readonly order_key: string | null
}

/** @returns ids of the deliveries that ended */
export async function cancelRows(
  session: Session,
  connection: Connection,
  ids: readonly string[],
  reason: string,
  nowMs: number,
): Promise<string[]> {
  if (ids.length === 0) return []
  const rows = await connection.all<EndedRow>(cancel, textArray(ids), reason, nowMs)
  const keys = rows.flatMap(({ endpoint_key: endpointKey, order_key: key }) =>
    key === null ? [] : [{ endpointKey, key: fromText(key) }],
  )
  await promote(session, connection, keys, nowMs)
  return rows.map(({ id }) => id)
}
