/**
 * Sealed batches. Who is in a batch, under which id and with which bytes is committed before its
 * first request and never changes again: after a crash, in whichever process, the receiver gets the
 * same id with the same content. One process at a time seals for an endpoint, so that no other
 * takes half of what would have filled a batch.
 */
import { batchId } from '../../model/ids.ts'
import type { BatchMember, Claim, LaneRoom } from '../storage.ts'
import type { Connection } from './connection.ts'
import { eventOf } from './days.ts'
import type { Session } from './session.ts'
import { fromText, textArray } from './text.ts'

type BatchRule = NonNullable<LaneRoom['batch']>

/** How soon to look again when another process seals for this endpoint at this moment. */
const sealedElsewhereMs = 20

const takeTurn = `
  select pg_try_advisory_xact_lock(hashtextextended('kmsg seal ' || $1 || ' ' || $2, 0)) as taken`

/** Deliveries that may go into a batch, the first due first. `alone = 0`: never tried, no replay. */
const looseDeliveries = `
  select live.id, live.due_at_ms, event.id as event_id, event.type as event_type,
         event.tenant_id, event.body
    from kmsg.live cross join lateral (${eventOf('live.event_key')}) as event
   where live.endpoint_key = $1 and alone = 0 and owner is null and batch_id is null
   order by due_at_ms limit $2 for update of live`

const countLoose = `
  select count(*) as loose, min(due_at_ms) as first_due_at_ms
    from (select due_at_ms from kmsg.live
           where endpoint_key = $1 and alone = 0 and owner is null and batch_id is null
           order by due_at_ms limit $2) as loose`

/** The batch itself is born owned by the claim that sealed it. */
const insertBatch = `
  with me as materialized (select id from kmsg.worker where id = $8 for key share
  ), sealed as (
    insert into kmsg.batch (id, endpoint_key, tenant_id, sealed_at_ms, member_count, members, body)
    select $1, $2, $3, $4, $5, $6::json, $7 from me
  ), carrier as (
    insert into kmsg.live (id, kind, alone, endpoint_key, state, owner, claim_no, token, attempts,
                           due_at_ms, round, created_at_ms)
    select $1, 'batch', 1, $2, 'delivering', me.id, $9, 1, 0, $10, 1, $4 from me
  ), members as (
    update kmsg.live set batch_id = $1 where id = any($11::text[]) and exists (select from me)
  )
  select id from me`

interface LooseRow {
  readonly id: string
  readonly due_at_ms: number
  readonly event_id: string
  readonly event_type: string
  readonly tenant_id: string
  readonly body: Uint8Array
}

/** Seals batches that are full or due, up to the lane's room, and owns them. */
export async function sealBatches(
  session: Session,
  { endpointKey, limit, batch: rule }: LaneRoom & { readonly batch: BatchRule },
  claimNo: number,
  nowMs: number,
): Promise<{ claims: Claim[]; nextSealAtMs: number | null }> {
  const { database } = session
  return await database.write(async (connection) => {
    const claims: Claim[] = []
    const turn = await connection.get<{ taken: boolean }>(
      takeTurn,
      database.schema.name,
      endpointKey,
    )
    if (!turn?.taken) return { claims, nextSealAtMs: nowMs + sealedElsewhereMs }
    let atMs = await nextSealAtMs(connection, endpointKey, rule, nowMs)
    while (claims.length < limit && atMs !== null && atMs <= nowMs) {
      const sealed = await sealBatch(session, connection, endpointKey, rule, claimNo, nowMs)
      if (sealed !== null) claims.push(sealed)
      atMs = await nextSealAtMs(connection, endpointKey, rule, nowMs)
    }
    return { claims, nextSealAtMs: atMs }
  })
}

/** When the next batch can be sealed: now when it is full, else when its oldest member is due. */
async function nextSealAtMs(
  connection: Connection,
  endpointKey: string,
  { size }: BatchRule,
  nowMs: number,
): Promise<number | null> {
  const row = await connection.get<{ loose: number; first_due_at_ms: number | null }>(
    countLoose,
    endpointKey,
    size,
  )
  if (!row || row.first_due_at_ms === null) return null
  return row.loose >= size ? Math.min(nowMs, row.first_due_at_ms) : row.first_due_at_ms
}

async function sealBatch(
  session: Session,
  connection: Connection,
  endpointKey: string,
  rule: BatchRule,
  claimNo: number,
  nowMs: number,
): Promise<Claim | null> {
  const rows = await connection.all<LooseRow>(looseDeliveries, endpointKey, rule.size)
  const chosen = rows.slice(0, countThatFit(rows, rule.maxBytes))
  const first = chosen[0]
  if (first === undefined) return null
  const id = batchId(session.newKey(nowMs))
  const body = joinBodies(chosen)
  const members = chosen.map((row) => ({
    deliveryId: row.id,
    eventId: fromText(row.event_id),
    eventType: fromText(row.event_type),
  }))
  const { id: owner } = session.worker
  const written = await connection.get(
    insertBatch,
    ...[id, endpointKey, first.tenant_id, nowMs, chosen.length, membersToJson(members), body],
    ...[owner, claimNo, first.due_at_ms, textArray(chosen.map((row) => row.id))],
  )
  if (written === undefined) throw session.worker.lost(owner)
  return {
    deliveryId: id,
    endpointKey,
    tenantId: fromText(first.tenant_id),
    token: 1,
    attempts: 0,
    isFresh: true,
    eventId: id,
    eventType: 'batch',
    acceptedAtMs: nowMs,
    body,
    members,
  }
}

/** At least one, however large: a member that fits nowhere would wait for ever. */
function countThatFit(rows: readonly LooseRow[], maxBytes: number): number {
  // The two brackets; each member but the first brings a comma.
  let bytes = 1
  for (const [i, { body }] of rows.entries()) {
    bytes += body.length + 1
    if (bytes > maxBytes && i > 0) return i
  }
  return rows.length
}

/** A JSON array of the stored bodies, byte for byte. */
function joinBodies(rows: readonly LooseRow[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const [i, { body }] of rows.entries()) parts.push(Buffer.from(i === 0 ? '[' : ','), body)
  parts.push(Buffer.from(']'))
  return new Uint8Array(Buffer.concat(parts))
}

function membersToJson(members: readonly BatchMember[]): string {
  return JSON.stringify(members.map((m) => [m.deliveryId, m.eventId, m.eventType]))
}

export function membersFromJson(json: string): BatchMember[] {
  const rows = JSON.parse(json) as [string, string, string][]
  return rows.map(([deliveryId, eventId, eventType]) => ({ deliveryId, eventId, eventType }))
}
