/**
 * Sealed batches. Who is in a batch, under which id and with which bytes is committed before its
 * first request and never changes again: after a crash the receiver gets the same id with the same
 * content. Runs inside the transaction of a claim.
 */
import { batchId } from '../../model/ids.ts'
import type { BatchMember, LaneRoom } from '../claims.ts'
import type { Session } from './session.ts'

type BatchRule = NonNullable<LaneRoom['batch']>

export interface SealedBatch {
  readonly id: string
  readonly tenantId: string
  readonly body: Uint8Array
  readonly members: readonly BatchMember[]
  readonly sealedAtMs: number
}

/** Deliveries that may go into a batch, the first due first. `alone = 0`: never tried, no replay. */
const looseDeliveries = `
  select live.id, live.due_at_ms, event.id as event_id, event.type as event_type,
         event.tenant_id, event.body
    from live indexed by live_due join event on event.key = live.event_key
   where live.endpoint_key = ? and alone = 0 and owner is null and batch_id is null
   order by due_at_ms limit ?`

const countLoose = `
  select count(*) as loose, min(due_at_ms) as first_due_at_ms
    from (select due_at_ms from live indexed by live_due
           where endpoint_key = ? and alone = 0 and owner is null and batch_id is null
           order by due_at_ms limit ?)`

const insertBatch = `
  insert into batch (id, endpoint_key, tenant_id, sealed_at_ms, member_count, members, body)
  values (?, ?, ?, ?, ?, ?, ?)`

/** The batch itself: born owned by the claim that sealed it. */
const insertCarrier = `
  insert into live (id, kind, alone, endpoint_key, state, owner, claim_no, token, attempts,
                    due_at_ms, round, created_at_ms)
  values (?, 'batch', 1, ?, 'delivering', ?, ?, 1, 0, ?, 1, ?)`

const joinBatch = 'update live set batch_id = ? where id = ?'

const findBatch = 'select tenant_id, sealed_at_ms, members, body from batch where id = ?'

interface LooseRow {
  readonly id: string
  readonly due_at_ms: number
  readonly event_id: string
  readonly event_type: string
  readonly tenant_id: string
  readonly body: Uint8Array
}

/** When the next batch can be sealed: now when it is full, else when its oldest member is due. */
export function nextSealAtMs(
  { connection }: Session,
  endpointKey: string,
  { size }: BatchRule,
  nowMs: number,
): number | null {
  const row = connection.get<{ loose: number; first_due_at_ms: number | null }>(
    countLoose,
    endpointKey,
    size,
  )
  if (!row || row.first_due_at_ms === null) return null
  return row.loose >= size ? Math.min(nowMs, row.first_due_at_ms) : row.first_due_at_ms
}

/** Seals one batch that is full or due and owns it, or returns null. */
export function sealBatch(
  session: Session,
  endpointKey: string,
  rule: BatchRule,
  claimNo: number,
  nowMs: number,
): SealedBatch | null {
  const { connection } = session
  const sealAtMs = nextSealAtMs(session, endpointKey, rule, nowMs)
  if (sealAtMs === null || sealAtMs > nowMs) return null
  const rows = connection.all<LooseRow>(looseDeliveries, endpointKey, rule.size)
  const chosen = rows.slice(0, countThatFit(rows, rule.maxBytes))
  const first = chosen[0]
  if (first === undefined) return null
  const batch: SealedBatch = {
    id: batchId(session.newKey(nowMs)),
    tenantId: first.tenant_id,
    body: joinBodies(chosen),
    members: chosen.map((row) => ({
      deliveryId: row.id,
      eventId: row.event_id,
      eventType: row.event_type,
    })),
    sealedAtMs: nowMs,
  }
  const { id, body } = batch
  const members = membersToJson(batch.members)
  connection.run(insertBatch, id, endpointKey, batch.tenantId, nowMs, chosen.length, members, body)
  connection.run(insertCarrier, id, endpointKey, session.owner, claimNo, first.due_at_ms, nowMs)
  for (const row of chosen) connection.run(joinBatch, id, row.id)
  session.tally.add(-chosen.length, chosen.length)
  return batch
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
  return Buffer.concat(parts)
}

export function readBatch({ connection }: Session, id: string): SealedBatch | null {
  const row = connection.get<{
    tenant_id: string
    sealed_at_ms: number
    members: string
    body: Uint8Array | null
  }>(findBatch, id)
  if (!row?.body) return null
  return {
    id,
    tenantId: row.tenant_id,
    body: row.body,
    members: membersFromJson(row.members),
    sealedAtMs: row.sealed_at_ms,
  }
}

export function memberCount({ connection }: Session, id: string): number {
  const row = connection.get<{ member_count: number }>(
    'select member_count from batch where id = ?',
    id,
  )
  return row?.member_count ?? 0
}

/** How many members of each type, the first member's type first. */
export function membersByType({ connection }: Session, id: string): Map<string, number> {
  const row = connection.get<{ members: string }>('select members from batch where id = ?', id)
  const byType = new Map<string, number>()
  for (const { eventType } of membersFromJson(row?.members ?? '[]')) {
    byType.set(eventType, (byType.get(eventType) ?? 0) + 1)
  }
  return byType
}

export function memberIds({ connection }: Session, id: string): string[] {
  const row = connection.get<{ members: string }>('select members from batch where id = ?', id)
  return membersFromJson(row?.members ?? '[]').map(({ deliveryId }) => deliveryId)
}

function membersToJson(members: readonly BatchMember[]): string {
  return JSON.stringify(members.map((m) => [m.deliveryId, m.eventId, m.eventType]))
}

export function membersFromJson(json: string): BatchMember[] {
  const rows = JSON.parse(json) as [string, string, string][]
  return rows.map(([deliveryId, eventId, eventType]) => ({ deliveryId, eventId, eventType }))
}
