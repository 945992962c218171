/**
 * A delivery is made due now by hand: the same one when it still waits, a new round when it has ended.
 * Repairs do it to many at once, see repair.ts.
 */

import { behindMs } from '../../model/delivery.ts'
import { deliveryId } from '../../model/ids.ts'
import type { RetryResult } from '../repairs.ts'
import type { Connection } from './connection.ts'
import { retryFirst } from './order.ts'
import { closedReason, type Session } from './session.ts'

/** For a member of a sealed batch, the row that is due is the batch's. */
const findLive = `
  select endpoint_key, due_at_ms, coalesce(batch_id, id) as due_id
    from kmsg.live where id = $1 and kind = 'single'`

const dueNow = `
  update kmsg.live set due_at_ms = least(due_at_ms, $1::bigint) where id = $2 and owner is null`

/** The event is held too: retention must not take the body that was just seen. */
const findDone = `
  select done.event_key, done.endpoint_key, done.round, done.retried_as,
         event.body is not null as has_body, ${closedReason} as closed
    from kmsg.done
    join kmsg.event on event.key = done.event_key
    left join kmsg.endpoint on endpoint.key = done.endpoint_key
   where done.id = $1 for update of done for share of event`

const insertRound = `
  insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                         due_at_ms, round, created_at_ms)
  values ($1, 'single', 1, $2, $3, 'waiting', 0, 0, $4::bigint, $5, $4::bigint)`

const pointToRound = 'update kmsg.done set retried_as = $1 where id = $2'

export async function retryDelivery(
  { database, hints }: Session,
  id: string,
  nowMs: number,
): Promise<RetryResult> {
  const result = await database.write((connection) => retry(connection, id, nowMs))
  if ('endpointKey' in result) hints.due([result.endpointKey])
  return result
}

async function retry(connection: Connection, id: string, nowMs: number): Promise<RetryResult> {
  const live = await connection.get<LiveRow>(findLive, id)
  if (live) {
    if (live.due_at_ms >= behindMs) return { kind: 'behind another of its key' }
    if ((await connection.run(dueNow, nowMs, live.due_id)) === 0) return { kind: 'in-flight' }
    return { kind: 'moved', deliveryId: id, endpointKey: live.endpoint_key, dueAtMs: nowMs }
  }
  const done = await connection.get<DoneRow>(findDone, id)
  // Nothing may wait for an endpoint that is gone; the engine has refused that already.
  if (!done || done.closed !== null) return { kind: 'unknown' }
  // Asked twice: the newest round is the one that is meant.
  if (done.retried_as !== null) return await retry(connection, done.retried_as, nowMs)
  if (!done.has_body) return { kind: 'body-gone' }
  const { event_key: eventKey, endpoint_key: endpointKey } = done
  const round = done.round + 1
  const next = deliveryId(eventKey, endpointKey, round)
  await connection.run(insertRound, next, eventKey, endpointKey, nowMs, round)
  await connection.run(pointToRound, next, id)
  await retryFirst(connection, endpointKey, [id])
  return { kind: 'created', deliveryId: next, endpointKey, dueAtMs: nowMs }
}

interface LiveRow {
  readonly endpoint_key: string
  readonly due_at_ms: number
  readonly due_id: string
}

interface DoneRow {
  readonly event_key: string
  readonly endpoint_key: string
  readonly round: number
  readonly retried_as: string | null
  readonly has_body: boolean
  readonly closed: string | null
}
