/**
 * Ends what waits without sending it: the endpoint is gone, the event was erased, or somebody wants
 * it. What is in flight is at most marked. Runs inside the transaction of its caller, except for the
 * verbs `cancelDeliveries` and `cancelSome`.
 */
import type { CancelledDelivery, CancelledRest, CancelResult } from '../repairs.ts'
import { membersFromJson } from './batch.ts'
import { dissolveBatch } from './dissolve.ts'
import { removeLive, unblockKeys } from './order.ts'
import { closedReason, type Session } from './session.ts'

const unownedOfEndpoint = `
  select id, kind from live indexed by live_due
   where endpoint_key = ? and owner is null and batch_id is null limit ?`

const endSingle = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                    created_at_ms, settled_at_ms)
  select id, event_key, endpoint_key, 'cancelled', ?, round, attempts, token, created_at_ms, ?
    from live where id = ? and owner is null and batch_id is null`

const endMembers = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token, batch_id,
                    created_at_ms, settled_at_ms)
  select m.id, m.event_key, m.endpoint_key, 'cancelled', ?, m.round, b.attempts, b.token, b.id,
         m.created_at_ms, ?
    from live b join batch on batch.id = b.id join json_each(batch.members) each
         join live m on m.id = each.value ->> 0
   where b.id = ? and b.owner is null`

const findMembers = 'select members from batch where id = ?'
const deleteLive = 'delete from live where id = ?'
const findLive = "select batch_id from live where id = ? and kind = 'single'"
const mark = 'update live set cancel_reason = ? where id = ?'
const findReason = 'select cancel_reason as reason from live where id = ?'
const closeBatch = 'update batch set settled_at_ms = ?, body = null where id = ?'

/** @returns ids of the deliveries that ended; a batch counts all its members */
export function cancelDeliveries(
  session: Session,
  endpointKey: string,
  reason: string,
  nowMs: number,
  limit: number,
): string[] {
  const { connection } = session
  return connection.write(() => {
    const ended: string[] = []
    // When it takes nothing any more, nothing waits for what failed.
    if (closedReason(session, endpointKey) !== null) unblockKeys(session, endpointKey, null, nowMs)
    const rows = connection.all<{ id: string; kind: string }>(unownedOfEndpoint, endpointKey, limit)
    for (const { id, kind } of rows) {
      if (ended.length >= limit) break
      if (kind === 'batch') ended.push(...cancelBatch(session, id, reason, nowMs))
      else if (cancelSingle(session, id, reason, nowMs)) ended.push(id)
    }
    return ended
  })
}

const ownedOfEndpoint = `
  select id from live where endpoint_key = ? and owner is not null and batch_id is null`
/** A batch that is owned brings its members, which nobody owns. */
const markOwned = `
  update live set cancel_reason = ?1 where (id = ?2 or batch_id = ?2) and cancel_reason is null`

const all = 1_000_000_000

/** Reads all that waits, of every endpoint: no index holds what is owned. For use now and then. */
export function cancelRest(
  session: Session,
  endpointKey: string,
  reason: string,
  nowMs: number,
): CancelledRest {
  const { connection } = session
  if (closedReason(session, endpointKey) === null) return { ended: [], marked: [], mayBegin: 0 }
  const ended = cancelDeliveries(session, endpointKey, reason, nowMs, all)
  const owned = connection.write(() => {
    const rows = connection.all<{ id: string }>(ownedOfEndpoint, endpointKey)
    for (const { id } of rows) connection.run(markOwned, reason, id)
    return rows
  })
  return { ended, marked: owned.map(({ id }) => ({ id, endpointKey })), mayBegin: 0 }
}

export function cancelSome(
  session: Session,
  ids: readonly string[],
  reason: string,
  nowMs: number,
): CancelResult[] {
  return session.connection.write(() => ids.map((id) => cancelOne(session, id, reason, nowMs)))
}

function cancelOne(session: Session, id: string, reason: string, nowMs: number): CancelResult {
  const { connection } = session
  const live = connection.get<{ batch_id: string | null }>(findLive, id)
  if (live === undefined) {
    return connection.get('select 1 from done where id = ?', id) ? 'ended' : 'unknown'
  }
  if (live.batch_id !== null) return 'in-batch'
  if (cancelSingle(session, id, reason, nowMs)) return 'cancelled'
  connection.run(mark, reason, id)
  return 'marked'
}

const expired = `
  select id, endpoint_key from live indexed by live_expiry
   where expires_at_ms <= ? and owner is null order by expires_at_ms limit ?`

/** Members of batches have no end of their own. */
export function expireDeliveries(
  session: Session,
  nowMs: number,
  limit: number,
): CancelledDelivery[] {
  const { connection } = session
  return connection.write(() =>
    connection
      .all<{ id: string; endpoint_key: string }>(expired, nowMs, limit)
      .filter(({ id }) => cancelSingle(session, id, 'expired', nowMs))
      .map(({ id, endpoint_key: endpointKey }) => ({ id, endpointKey })),
  )
}

/** @returns false when it does not wait on its own */
export function cancelSingle(session: Session, id: string, reason: string, nowMs: number): boolean {
  if (session.connection.run(endSingle, reason, nowMs, id) === 0) return false
  removeLive(session, id, nowMs, false)
  session.tally.add(-1, 0)
  return true
}

/** @returns the members, all ended; none when the batch is in flight */
export function cancelBatch(session: Session, id: string, reason: string, nowMs: number): string[] {
  const { connection, tally } = session
  if (connection.run(endMembers, reason, nowMs, id) === 0) return []
  const members = connection.get<{ members: string }>(findMembers, id)?.members ?? '[]'
  const ids = membersFromJson(members).map(({ deliveryId }) => deliveryId)
  for (const member of ids) connection.run(deleteLive, member)
  connection.run(deleteLive, id)
  connection.erasing(() => connection.run(closeBatch, nowMs, id))
  tally.add(-ids.length, 0)
  return ids
}

/** A batch that was marked while it was in flight waits again: it is taken apart, what is marked ends. */
export function dissolveMarked(session: Session, id: string, nowMs: number): void {
  const { connection } = session
  for (const member of connection.erasing(() => dissolveBatch(session, id, nowMs))) {
    const row = connection.get<{ reason: string | null }>(findReason, member)
    if (row?.reason) cancelSingle(session, member, row.reason, nowMs)
  }
}
