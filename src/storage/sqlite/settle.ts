/**
 * Settlements of attempts. The attempt's row is the fence: only when it is newly inserted, and the
 * delivery is still owned under the same token, do state, statistics and the endpoint follow from
 * it. Runs inside the transaction of a commit.
 */
import type { EndpointEffect } from '../../model/settlement.ts'
import type { SettlementResult } from '../storage.ts'
import { memberCount } from './batch.ts'
import { applyEffect } from './effect.ts'
import { Rollup } from './rollup.ts'
import { closedReason, type Session } from './session.ts'
import { type ByteReader, type CommitOnWire, settlementWidth } from './wire.ts'

const insertAttempt = `
  insert into attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome, http_status,
                       error, response_body, endpoint_version, late)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) on conflict do nothing`

const markLate = 'update attempt set late = 1 where delivery_id = ? and token = ?'

const endSingle = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token, batch_id,
                    created_at_ms, settled_at_ms)
  select id, event_key, endpoint_key, ?, ?, round, attempts + 1, token, null, created_at_ms, ?
    from live where id = ? and token = ? and state = 'delivering'`

const wait = `
  update live
     set state = 'waiting', owner = null, claim_no = null, alone = 1, attempts = attempts + 1,
         due_at_ms = ?, reason = ?
   where id = ? and token = ? and state = 'delivering'`

/** Members end with what their batch was given: its attempts are theirs. */
const endMembers = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token, batch_id,
                    created_at_ms, settled_at_ms)
  select m.id, m.event_key, m.endpoint_key, ?, ?, m.round, b.attempts + 1, b.token, b.id,
         m.created_at_ms, ?
    from live b join batch on batch.id = b.id join json_each(batch.members) each
         join live m on m.id = each.value ->> 0
   where b.id = ? and b.token = ? and b.state = 'delivering'`

const deleteMembers = `
  delete from live
   where id in (select value ->> 0 from batch, json_each(batch.members) where batch.id = ?)`

const deleteLive = 'delete from live where id = ?'
/** Its bytes are the members' bodies again, which are kept with their events. */
const closeBatch = 'update batch set settled_at_ms = ?, body = null where id = ?'

/** One settlement, out of the flat array. */
interface Settled {
  readonly id: string
  readonly token: number
  readonly endpointKey: string
  readonly tenantId: string
  readonly eventType: string
  readonly settledAtMs: number
  readonly startedAtMs: number
  readonly latencyMs: number
  readonly outcome: string
  readonly state: string
  readonly reason: string
  readonly dueAtMs: number
  readonly effect: EndpointEffect | null
}

/** @returns null when each was written, which is nearly always */
export function writeSettlements(
  session: Session,
  { settlements: flat }: CommitOnWire,
  bytes: ByteReader,
): SettlementResult[] | null {
  const rollup = new Rollup()
  const results: SettlementResult[] = []
  let allWritten = true
  for (let i = 0; i < flat.length; i += settlementWidth) {
    const isNew = writeAttempt(session, flat, i, bytes)
    const result = isNew ? decide(session, readSettled(session, flat, i), rollup) : 'repeated'
    if (result !== 'written') allWritten = false
    results.push(result)
  }
  rollup.write(session.connection)
  return allWritten ? null : results
}

function writeAttempt(
  { connection }: Session,
  flat: CommitOnWire['settlements'],
  i: number,
  bytes: ByteReader,
): boolean {
  const bodyLength = flat[i + 12] as number | null
  const inserted = connection.run(
    insertAttempt,
    flat[i] as string,
    flat[i + 1] as number,
    flat[i + 6] as number,
    flat[i + 7] as number,
    flat[i + 8] as number,
    flat[i + 9] as string,
    flat[i + 10] as number | null,
    flat[i + 11] as string | null,
    bodyLength === null ? null : bytes.take(bodyLength),
    flat[i + 13] as number,
  )
  return inserted === 1
}

function readSettled(session: Session, flat: CommitOnWire['settlements'], i: number): Settled {
  const endpointKey = flat[i + 2] as string
  let state = flat[i + 14] as string
  let reason = flat[i + 15] as string
  // A retry that nobody will make: the endpoint went away while the request was in flight.
  const closed = state === 'waiting' ? closedReason(session, endpointKey) : null
  if (closed !== null) {
    state = 'cancelled'
    reason = closed
  }
  return {
    id: flat[i] as string,
    token: flat[i + 1] as number,
    endpointKey,
    tenantId: flat[i + 3] as string,
    eventType: flat[i + 4] as string,
    settledAtMs: flat[i + 5] as number,
    startedAtMs: flat[i + 7] as number,
    latencyMs: flat[i + 8] as number,
    outcome: flat[i + 9] as string,
    state,
    reason,
    dueAtMs: flat[i + 16] as number,
    effect: flat[i + 17] as EndpointEffect | null,
  }
}

function decide(session: Session, settled: Settled, rollup: Rollup): SettlementResult {
  const { connection, tally } = session
  const isBatch = settled.id.startsWith('bat_')
  const deliveries = isBatch ? memberCount(session, settled.id) : 1
  if (!move(session, settled, isBatch)) {
    connection.run(markLate, settled.id, settled.token)
    return 'late'
  }
  tally.add(settled.state === 'waiting' ? deliveries : 0, -deliveries)
  rollup.count({ ...settled, deliveries })
  if (settled.effect) {
    applyEffect(session, settled.endpointKey, settled.effect, settled.settledAtMs)
  }
  return 'written'
}

/** @returns false when somebody else owns it now, or nobody */
function move({ connection }: Session, settled: Settled, isBatch: boolean): boolean {
  const { id, token, state, reason, settledAtMs } = settled
  if (state === 'waiting') {
    return connection.run(wait, settled.dueAtMs, reason, id, token) === 1
  }
  const end = isBatch ? endMembers : endSingle
  if (connection.run(end, state, reason, settledAtMs, id, token) === 0) return false
  if (isBatch) {
    connection.run(deleteMembers, id)
    connection.run(closeBatch, settledAtMs, id)
  }
  connection.run(deleteLive, id)
  return true
}
