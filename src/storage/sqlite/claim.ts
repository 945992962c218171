/**
 * Takes due deliveries for lanes that have room, lane by lane: each is a seek in an index that holds
 * only what can be claimed, so a million deliveries of a paused endpoint cost the others nothing.
 * (One index over all due times, skipping paused lanes, took seconds at that size.)
 */

import { behindMs } from '../../model/delivery.ts'
import { WebhookError } from '../../model/errors.ts'
import type { LaneHead, LaneRoom } from '../claims.ts'
import { nextSealAtMs, readBatch, type SealedBatch, sealBatch } from './batch.ts'
import type { Session } from './session.ts'
import type { ClaimResultOnWire } from './wire.ts'

/**
 * Both kinds of a lane, each a range of the index in the order of due times: three of what was never
 * tried, then one of what was, as lanes send them.
 */
const claimAny = `
  update live
     set state = 'delivering', owner = ?1, claim_no = ?2, token = token + 1
   where id in (
     select id from (
       select id, due_at_ms, row_number() over (order by due_at_ms) as place
         from (select id, due_at_ms from live indexed by live_due
                where endpoint_key = ?3 and alone = 0
                  and owner is null and batch_id is null and due_at_ms <= ?4
                order by due_at_ms limit ?5)
       union all
       select id, due_at_ms, row_number() over (order by due_at_ms) * 3 as place
         from (select id, due_at_ms from live indexed by live_due
                where endpoint_key = ?3 and alone = 1
                  and owner is null and batch_id is null and due_at_ms <= ?4
                order by due_at_ms limit ?5))
      order by place, due_at_ms limit ?5)
  returning id, kind, attempts = 0 and round = 1 and repair_id is null as fresh, token, attempts,
            event_key, due_at_ms, expires_at_ms, order_key is not null as ordered`

/** What a batching lane sends as it is: sealed batches, retries, replays. */
const claimAlone = `
  update live
     set state = 'delivering', owner = ?1, claim_no = ?2, token = token + 1
   where id in (select id from live indexed by live_due
                 where endpoint_key = ?3 and alone = 1
                   and owner is null and batch_id is null and due_at_ms <= ?4
                 order by due_at_ms limit ?5)
  returning id, kind, attempts = 0 and round = 1 and repair_id is null as fresh, token, attempts,
            event_key, due_at_ms, expires_at_ms, order_key is not null as ordered`

const findEvent = `
  select tenant_id, id, type, accepted_at_ms, body from event where key = ?`

const firstDue = `
  select due_at_ms from live indexed by live_due
   where endpoint_key = ? and alone = ? and owner is null and batch_id is null
     and due_at_ms < ${behindMs}
   order by due_at_ms limit 1`

interface ClaimedRow {
  readonly id: string
  readonly kind: 'single' | 'batch'
  readonly fresh: 0 | 1
  readonly token: number
  readonly attempts: number
  readonly event_key: string
  readonly due_at_ms: number
  readonly expires_at_ms: number | null
  readonly ordered: number
}

interface EventRow {
  readonly tenant_id: string
  readonly id: string
  readonly type: string
  readonly accepted_at_ms: number
  readonly body: Uint8Array | null
}

type FlatClaims = ClaimResultOnWire['claims']

export function claim(
  session: Session,
  rooms: readonly LaneRoom[],
  nowMs: number,
  claimNo: number,
): ClaimResultOnWire {
  return session.connection.write(() => {
    const claims: FlatClaims = []
    const heads: LaneHead[] = []
    for (const room of rooms) {
      claimForLane(session, room, nowMs, claimNo, claims)
      heads.push({
        endpointKey: room.endpointKey,
        dueAtMs: nextDueAtMs(session, room, nowMs),
      })
    }
    return { claims, heads }
  })
}

function claimForLane(
  session: Session,
  { endpointKey, limit, batch }: LaneRoom,
  nowMs: number,
  claimNo: number,
  claims: FlatClaims,
): void {
  const rows = session.connection.all<ClaimedRow>(
    batch === null ? claimAny : claimAlone,
    session.owner,
    claimNo,
    endpointKey,
    nowMs,
    limit,
  )
  // An update returns its rows in the order of their ids.
  rows.sort((a, b) => a.due_at_ms - b.due_at_ms)
  for (const row of rows) {
    if (row.kind === 'batch') pushBatch(session, row, endpointKey, claims)
    else pushSingle(session, row, endpointKey, claims)
  }
  if (batch === null) return
  for (let taken = rows.length; taken < limit; taken += 1) {
    const sealed = sealBatch(session, endpointKey, batch, claimNo, nowMs)
    if (sealed === null) return
    flatten(sealed, { token: 1, attempts: 0, fresh: 1 }, endpointKey, claims)
  }
}

function pushSingle(
  { connection, tally, location }: Session,
  row: ClaimedRow,
  endpointKey: string,
  claims: FlatClaims,
): void {
  const event = connection.get<EventRow>(findEvent, row.event_key)
  if (!event?.body) throw bodyMissing(row.id, location)
  tally.add(-1, 1)
  claims.push(row.id, endpointKey, event.tenant_id, row.token, row.attempts, row.fresh)
  claims.push(event.id, event.type, event.accepted_at_ms, event.body, null)
  claims.push(row.expires_at_ms, row.ordered)
}

function pushBatch(
  session: Session,
  row: ClaimedRow,
  endpointKey: string,
  claims: FlatClaims,
): void {
  const sealed = readBatch(session, row.id)
  if (sealed === null) throw bodyMissing(row.id, session.location)
  session.tally.add(-sealed.members.length, sealed.members.length)
  flatten(sealed, row, endpointKey, claims)
}

function flatten(
  { id, tenantId, sealedAtMs, body, members }: SealedBatch,
  { token, attempts, fresh }: Pick<ClaimedRow, 'token' | 'attempts' | 'fresh'>,
  endpointKey: string,
  claims: FlatClaims,
): void {
  claims.push(id, endpointKey, tenantId, token, attempts, fresh)
  claims.push(id, 'batch', sealedAtMs, body, members, null, 0)
}

/** Retention and erasure never take a body from a live delivery, so the file must be damaged. */
function bodyMissing(id: string, location: string): WebhookError {
  return new WebhookError(
    'STORAGE_CORRUPT',
    `Expected ${location} to hold the body of ${id}, which is still to be sent, and it does not; run \`kmsg-webhook doctor\`.`,
  )
}

function nextDueAtMs(session: Session, room: LaneRoom, nowMs: number): number | null {
  const { endpointKey, batch } = room
  const due = (alone: number) =>
    session.connection.get<{ due_at_ms: number }>(firstDue, endpointKey, alone)?.due_at_ms ?? null
  const loose = batch ? nextSealAtMs(session, endpointKey, batch, nowMs) : due(0)
  return earlier(loose, due(1))
}

function earlier(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b
  return Math.min(a, b)
}

/** Steps from lane to lane through the index: the cost is the number of lanes, not of rows. */
const laneHeads = `
  with recursive lane (endpoint_key) as (
    select min(endpoint_key) from live indexed by live_due
     where owner is null and batch_id is null
    union all
    select (select min(endpoint_key) from live indexed by live_due
             where owner is null and batch_id is null and endpoint_key > lane.endpoint_key)
      from lane where lane.endpoint_key is not null)
  select endpoint_key,
         (select min(due_at_ms) from live indexed by live_due
           where endpoint_key = lane.endpoint_key and alone = 0
             and owner is null and batch_id is null) as loose_at_ms,
         (select min(due_at_ms) from live indexed by live_due
           where endpoint_key = lane.endpoint_key and alone = 1 and due_at_ms < ${behindMs}
             and owner is null and batch_id is null) as alone_at_ms
    from lane where endpoint_key is not null`

export function heads({ connection }: Session): LaneHead[] {
  const rows = connection.all<{
    endpoint_key: string
    loose_at_ms: number | null
    alone_at_ms: number | null
  }>(laneHeads)
  return rows.map((row) => ({
    endpointKey: row.endpoint_key,
    dueAtMs: earlier(row.loose_at_ms, row.alone_at_ms),
  }))
}
