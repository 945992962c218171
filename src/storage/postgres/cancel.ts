/** Ends what waits without sending it: the endpoint is gone, or the event was erased. Never touches
 * what is in flight. */
import type { CancelledDelivery } from '../storage.ts'
import type { Connection } from './connection.ts'
import { promote, unblockKeys } from './order.ts'
import type { Session } from './session.ts'
import { fromText, textArray } from './text.ts'

const waitingOfEndpoint = `
  select id from kmsg.live
   where endpoint_key = $1 and owner is null and batch_id is null
   limit $2 for update skip locked`

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
    // It takes nothing any more, so nothing waits for what failed.
    await unblockKeys(session, connection, endpointKey, null, nowMs)
    const rows = await connection.all<{ id: string }>(waitingOfEndpoint, endpointKey, limit)
    const ids = rows.map(({ id }) => id)
    return await cancelRows(session, connection, ids, reason, nowMs)
  })
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
