/**
 * A delivery is made due now: the same one when it still waits, a new round when it has ended. By
 * hand one at a time, by a repair many.
 */

import { behindMs } from '../../model/delivery.ts'
import { deliveryId } from '../../model/ids.ts'
import type { RetryResult } from '../repairs.ts'
import { retryFirst } from './order.ts'
import { closedReason, type Session } from './session.ts'

/** For a member of a sealed batch, the row that is due is the batch's. */
const findLive = `
  select live.endpoint_key, live.due_at_ms, coalesce(carrier.id, live.id) as due_id,
         coalesce(carrier.owner, live.owner) is not null as in_flight
    from live left join live carrier on carrier.id = live.batch_id
   where live.id = ? and live.kind = 'single'`

const dueNow = `
  update live set due_at_ms = min(due_at_ms, ?), repair_id = coalesce(?, repair_id)
   where id = ? and owner is null`

const findDone = `
  select done.event_key, done.endpoint_key, done.round, done.retried_as,
         event.body is not null as has_body
    from done join event on event.key = done.event_key where done.id = ?`

const insertRound = `
  insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts, due_at_ms,
                    round, created_at_ms, repair_id)
  values (?1, 'single', 1, ?2, ?3, 'waiting', 0, 0, ?4, ?5, ?4, ?6)`

const pointToRound = 'update done set retried_as = ? where id = ?'

export function retryDelivery(session: Session, id: string, nowMs: number): RetryResult {
  return session.connection.write(() => retry(session, id, nowMs, null))
}

/**
 * Runs inside the transaction of its caller.
 *
 * @param repairId of the repair that wants it; null by hand
 */
export function retry(
  session: Session,
  id: string,
  nowMs: number,
  repairId: string | null,
): RetryResult {
  const { connection } = session
  const live = connection.get<LiveRow>(findLive, id)
  if (live) {
    if (live.in_flight === 1) return { kind: 'in-flight' }
    if (live.due_at_ms >= behindMs) return { kind: 'behind another of its key' }
    connection.run(dueNow, nowMs, repairId, live.due_id)
    return { kind: 'moved', deliveryId: id, endpointKey: live.endpoint_key, dueAtMs: nowMs }
  }
  const done = connection.get<DoneRow>(findDone, id)
  // Nothing may wait for an endpoint that is gone; the engine has refused that already.
  if (!done || closedReason(session, done.endpoint_key) !== null) return { kind: 'unknown' }
  // Asked twice: the newest round is the one that is meant.
  if (done.retried_as !== null) return retry(session, done.retried_as, nowMs, repairId)
  if (done.has_body === 0) return { kind: 'body-gone' }
  const { event_key: eventKey, endpoint_key: endpointKey } = done
  const round = done.round + 1
  const next = deliveryId(eventKey, endpointKey, round)
  connection.run(insertRound, next, eventKey, endpointKey, nowMs, round, repairId)
  connection.run(pointToRound, next, id)
  retryFirst(session, endpointKey, id, next)
  session.tally.add(1, 0)
  return { kind: 'created', deliveryId: next, endpointKey, dueAtMs: nowMs }
}

interface LiveRow {
  readonly endpoint_key: string
  readonly due_at_ms: number
  readonly due_id: string
  readonly in_flight: number
}

interface DoneRow {
  readonly event_key: string
  readonly endpoint_key: string
  readonly round: number
  readonly retried_as: string | null
  readonly has_body: number
}
