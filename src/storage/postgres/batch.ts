/**
 * Sealed batches. Who is in a batch, under which id and with which bytes is committed before its
 * first request and never changes again: after a crash, in whichever process, the receiver gets the
 * same id with the same content. One process at a time seals for an endpoint, so that no other
 * takes half of what would have filled a batch.
 */
import { batchId } from '../../model/ids.ts'
import type { BatchMember, Claim, LaneRoom } from '../claims.ts'
import type { Connection } from './connection.ts'
import { type EventRow, readEvents } from './days.ts'
import { bodyMissing } from './errors.ts'
import type { Session } from './session.ts'
import { fromText, textArray } from './text.ts'

type BatchRule = NonNullable<LaneRoom['batch']>

/** How soon to look again when another process seals for this endpoint at this moment. */
const sealedElsewhereMs = 20

const takeTurn = `
  select pg_try_advisory_xact_lock(hashtextextended('kmsg seal ' || $1 || ' ' || $2, 0)) as taken`

/**
 * Deliveries that may go into a batch, the first due first. `alone = 0`: never tried, no replay. From
 * the lane's floor on, as every claim looks (see Floors in claim.ts).
 */
const looseDeliveries = `
  select id, due_at_ms, event_key from kmsg.live
   where endpoint_key = $1 and alone = 0 and owner is null and batch_id is null and due_at_ms >= $3
   order by due_at_ms limit $2 for update`

const countLoose = `
  select count(*) as loose, min(due_at_ms) as first_due_at_ms
    from (select due_at_ms from kmsg.live
           where endpoint_key = $1 and alone = 0 and owner is null and batch_id is null
             and due_at_ms >= $3
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
  readonly event_key: string
}

interface Loose {
  readonly deliveryId: string
  readonly dueAtMs: number
  readonly event: EventRow
  readonly body: Uint8Array
}

interface Lane {
  readonly endpointKey: string
  readonly rule: BatchRule
  readonly floorMs: number
}

/** Seals batches that are full or due, up to the lane's room, and owns them. */
export async function sealBatches(
  session: Session,
  { endpointKey, limit, batch: rule }: LaneRoom & { readonly batch: BatchRule },
  floorMs: number,
  claimNo: number,
  nowMs: number,
): Promise<{ claims: Claim[]; nextSealAtMs: number | null }> {
  const { database } = session
  const lane = { endpointKey, rule, floorMs }
  return await database.write(async (connection) => {
    const claims: Claim[] = []
    const turn = await connection.get<{ taken: boolean }>(
      takeTurn,
      database.schema.name,
      endpointKey,
    )
    if (!turn?.taken) return { claims, nextSealAtMs: nowMs + sealedElsewhereMs }
    let atMs = await nextSealAtMs(connection, lane, nowMs)
    while (claims.length < limit && atMs !== null && atMs <= nowMs) {
      const sealed = await sealBatch(session, connection, lane, claimNo, nowMs)
      if (sealed !== null) claims.push(sealed)
      atMs = await nextSealAtMs(connection, lane, nowMs)
    }
    return { claims, nextSealAtMs: atMs }
  })
}

/** When the next batch can be sealed: now when it is full, else when its oldest member is due. */
async function nextSealAtMs(
  connection: Connection,
  { endpointKey, rule: { size }, floorMs }: Lane,
  nowMs: number,
): Promise<number | null> {
  const row = await connection.get<{ loose: number; first_due_at_ms: number | null }>(
    countLoose,
    endpointKey,
    size,
    floorMs,
  )
  if (!row || row.first_due_at_ms === null) return null
  return row.loose >= size ? Math.min(nowMs, row.first_due_at_ms) : row.first_due_at_ms
}

async function sealBatch(
  session: Session,
  connection: Connection,
  { endpointKey, rule, floorMs }: Lane,
  claimNo: number,
  nowMs: number,
): Promise<Claim | null> {
  const rows = await connection.all<LooseRow>(looseDeliveries, endpointKey, rule.size, floorMs)
  const loose = await withEvents(session, connection, rows)
  const chosen = loose.slice(0, countThatFit(loose, rule.maxBytes))
  const first = chosen[0]
  if (first === undefined) return null
  const id = batchId(session.newKey(nowMs))
  const body = joinBodies(chosen)
  const { tenant_id: tenantId } = first.event
  const members = chosen.map(({ deliveryId, event }) => ({
    deliveryId,
    eventId: fromText(event.id),
    eventType: fromText(event.type),
  }))
  const { id: owner } = session.worker
  const written = await connection.get(
    insertBatch,
    ...[id, endpointKey, tenantId, nowMs, chosen.length, membersToJson(members), body],
    ...[owner, claimNo, first.dueAtMs, textArray(chosen.map(({ deliveryId }) => deliveryId))],
  )
  if (written === undefined) throw session.worker.lost(owner)
  return {
    deliveryId: id,
    endpointKey,
    tenantId: fromText(tenantId),
    token: 1,
    attempts: 0,
    isFresh: true,
    eventId: id,
    eventType: 'batch',
    acceptedAtMs: nowMs,
    body,
    members,
    takenAtMs: nowMs,
  }
}

async function withEvents(
  { database }: Session,
  connection: Connection,
  rows: readonly LooseRow[],
): Promise<Loose[]> {
  const events = await readEvents(
    connection,
    rows.map((row) => row.event_key),
  )
  return rows.map(({ id, due_at_ms: dueAtMs, event_key: key }) => {
    const event = events.get(key)
    if (!event?.body) throw bodyMissing(id, database.location)
    return { deliveryId: id, dueAtMs, event, body: event.body }
  })
}

/** At least one, however large: a member that fits nowhere would wait for ever. */
function countThatFit(rows: readonly Loose[], maxBytes: number): number {
  // The two brackets; each member but the first brings a comma.
  let bytes = 1
  for (const [i, { body }] of rows.entries()) {
    bytes += body.length + 1
    if (bytes > maxBytes && i > 0) return i
  }
  return rows.length
}

/** A JSON array of the stored bodies, byte for byte. */
function joinBodies(rows: readonly Loose[]): Uint8Array {
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
