/**
 * Settlements of attempts. The delivery's row is the fence: only while it is still being sent under
 * the same token do its attempt, state, statistics and endpoint follow. What it does not find there
 * was written before, or is late. Runs inside the transaction of a commit.
 */
import type { EndpointEffect } from '../../model/settlement.ts'
import type { Cancellation, SettlementResult } from '../commit-records.ts'
import { memberIds, membersByType } from './batch.ts'
import { dissolveMarked } from './cancel.ts'
import type { Connection } from './connection.ts'
import type { SqlValue } from './driver.ts'
import { applyEffect } from './effect.ts'
import { removeLive } from './order.ts'
import { Rollup } from './rollup.ts'
import { closedReason, type Session } from './session.ts'
import { forManyRows, rowsAtOnce } from './statements.ts'
import { type ByteReader, type CommitOnWire, settlementWidth } from './wire.ts'

const insertAttempt = `
  insert into attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome, http_status,
                       error, response_body, endpoint_version, late)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`

/** Also of one that is in the row of its delivery, since it ended it. */
const findAttempt = 'select late from attempt_made where delivery_id = ? and token = ?'

/** Erased since it began: what the receiver answered may be about a person, too. */
const forgetErased = `
  update attempt set error = null, response_body = null
   where delivery_id = ?1 and token = ?2 and exists (
     select 1 from event
      where erased_at_ms is not null and key in (
        select substr(?1, 5, 24)
        union all
        select substr(json_extract(each.value, '$[0]'), 5, 24)
          from batch, json_each(batch.members) as each where batch.id = ?1))`

const endColumns = `
  id, event_key, endpoint_key, state, reason, round, attempts, token, batch_id, created_at_ms,
  settled_at_ms, last_started_at_ms, last_latency_ms, last_outcome, last_http_status, last_error,
  last_response_body, last_endpoint_version`

const ended = `(
  id, token, state, reason, settled_at_ms, started_at_ms, latency_ms, outcome, http_status, error,
  response_body, endpoint_version)`
const valuesOfEnd = 'values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'

/** From the list to the table: the planner must not begin with the table. */
const endSingle = `
  with ended ${ended} as (${valuesOfEnd})
  insert into done (${endColumns})
  select live.id, event_key, endpoint_key, ended.state, ended.reason, round, attempts + 1, live.token,
         null, created_at_ms, settled_at_ms, started_at_ms, latency_ms, outcome, http_status, error,
         response_body, endpoint_version
    from ended cross join live
   where live.id = ended.id and live.token = ended.token and live.state = 'delivering'`
const endSingles = forManyRows(endSingle)

const deleteLives = `delete from live where id in (${Array(rowsAtOnce).fill('?').join(', ')})`

const wait = `
  update live
     set state = 'waiting', owner = null, claim_no = null, alone = 1, attempts = attempts + 1,
         due_at_ms = ?, reason = ?
   where id = ? and token = ? and state = 'delivering'
     and (cancel_reason is null or kind = 'batch')`
const isMarked = 'select 1 from live where id = ? and cancel_reason is not null'

/** Looked for only when a delivery that is to wait again did not. */
const findMark = `
  select cancel_reason from live
   where id = ? and token = ? and state = 'delivering' and cancel_reason is not null`

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
  readonly latencyMs: number
  readonly outcome: string
  readonly state: string
  readonly reason: string
  /** It was to be tried again, and ends instead. */
  readonly isCutOff: boolean
  readonly dueAtMs: number
  readonly effect: EndpointEffect | null
  readonly isBatch: boolean
  readonly ordered: boolean
  readonly number: number
  /** started at, latency, outcome, status, error, body, endpoint version */
  readonly attempt: readonly SqlValue[]
}

/**
 * Thrown out of the transaction when ends that were written together turn out to hold one that is
 * repeated or late: which one, only writing them singly tells.
 */
export class MustSettleSingly extends Error {}

/**
 * @param together write ends of single deliveries sixteen at a time, which takes half the time
 * @returns null when each was written, which is nearly always
 * @throws MustSettleSingly
 */
export function writeSettlements(
  session: Session,
  { settlements: flat }: CommitOnWire,
  bytes: ByteReader,
  together: boolean,
  cancelled: Cancellation[],
): SettlementResult[] | null {
  const sums = { rollup: new Rollup(), cancelled }
  const results: SettlementResult[] = []
  const ends: Settled[] = []
  for (let i = 0; i < flat.length; i += settlementWidth) {
    const settled = readSettled(session, flat, i, bytes)
    const isPlain = !settled.isBatch && !settled.ordered
    if (together && isPlain && settled.state !== 'waiting') {
      ends.push(settled)
      continue
    }
    const result = writeSingly(session, settled, sums)
    if (result !== 'written') results[i / settlementWidth] = result
  }
  writeEnds(session, ends, sums)
  sums.rollup.write(session.connection)
  if (results.length === 0) return null
  return Array.from({ length: flat.length / settlementWidth }, (_, i) => results[i] ?? 'written')
}

/** What all settlements of a commit come to. */
interface Sums {
  readonly rollup: Rollup
  /** Retries that will not be. */
  readonly cancelled: Cancellation[]
}

function writeEnds(session: Session, ends: readonly Settled[], sums: Sums): void {
  let i = 0
  for (; i + rowsAtOnce <= ends.length; i += rowsAtOnce) {
    const some = ends.slice(i, i + rowsAtOnce)
    endTogether(session.connection, some)
    for (const settled of some) follow(session, settled, null, sums)
  }
  for (const settled of ends.slice(i)) {
    if (writeSingly(session, settled, sums) !== 'written') throw new MustSettleSingly()
  }
}

function endTogether(connection: Connection, ends: readonly Settled[]): void {
  const values: SqlValue[] = []
  const ids: string[] = []
  for (const end of ends) {
    pushEnd(values, end)
    ids.push(end.id)
  }
  if (connection.run(endSingles, ...values) !== ends.length) throw new MustSettleSingly()
  connection.run(deleteLives, ...ids)
}

function pushEnd(values: SqlValue[], end: Settled): void {
  values.push(end.id, end.token, end.state, end.reason, end.settledAtMs, ...end.attempt)
}

function readSettled(
  session: Session,
  flat: CommitOnWire['settlements'],
  i: number,
  bytes: ByteReader,
): Settled {
  const value = (offset: number) => flat[i + offset] as SqlValue
  const id = flat[i] as string
  const endpointKey = flat[i + 2] as string
  const bodyLength = flat[i + 12] as number | null
  const body = bodyLength === null ? null : bytes.take(bodyLength)
  let state = flat[i + 14] as string
  let reason = flat[i + 15] as string
  // A retry that nobody will make: the endpoint went away while the request was in flight.
  const closed = state === 'waiting' ? closedReason(session, endpointKey) : null
  if (closed !== null) {
    state = 'cancelled'
    reason = closed
  }
  return {
    id,
    token: flat[i + 1] as number,
    endpointKey,
    tenantId: flat[i + 3] as string,
    eventType: flat[i + 4] as string,
    settledAtMs: flat[i + 5] as number,
    latencyMs: flat[i + 8] as number,
    outcome: flat[i + 9] as string,
    state,
    reason,
    isCutOff: closed !== null,
    dueAtMs: flat[i + 16] as number,
    effect: flat[i + 17] as EndpointEffect | null,
    isBatch: id.startsWith('bat_'),
    ordered: flat[i + 18] === 1,
    number: flat[i + 6] as number,
    attempt: [value(7), value(8), value(9), value(10), value(11), body, value(13)],
  }
}

function writeSingly(session: Session, given: Settled, sums: Sums): SettlementResult {
  const { connection } = session
  const members = given.isBatch ? membersByType(session, given.id) : null
  const settled = moved(session, given)
  if (settled === null) {
    const found = connection.get<{ late: number }>(findAttempt, given.id, given.token)
    if (found === undefined) {
      keepAttempt(connection, given, true)
      connection.run(forgetErased, given.id, given.token)
    }
    return found?.late === 0 ? 'repeated' : 'late'
  }
  if (settled.isBatch || settled.state === 'waiting') keepAttempt(connection, settled, false)
  follow(session, settled, members, sums)
  if (settled.isBatch && settled.state === 'waiting') dissolveIfMarked(session, settled)
  return 'written'
}

/** It holds an event that was erased while it was in flight. */
function dissolveIfMarked(session: Session, { id, settledAtMs }: Settled): void {
  if (session.connection.get(isMarked, id)) dissolveMarked(session, id, settledAtMs)
}

function keepAttempt(connection: Connection, settled: Settled, late: boolean): void {
  const { id, token, number, attempt } = settled
  connection.run(insertAttempt, id, token, number, ...attempt, late ? 1 : 0)
}

/**
 * @returns what it came to, which is the end of one that was cancelled meanwhile; null when somebody
 *   else owns it now, or nobody
 */
function moved(session: Session, settled: Settled): Settled | null {
  if (move(session, settled)) return settled
  const { id, token } = settled
  const mark = session.connection.get<{ cancel_reason: string }>(findMark, id, token)
  if (mark === undefined || settled.state !== 'waiting') return null
  const reason = mark.cancel_reason
  const cancelled = { ...settled, state: 'cancelled', reason, isCutOff: true }
  return move(session, cancelled) ? cancelled : null
}

/** What a settlement that was written brings with it. @param members of a batch, by type */
function follow(
  session: Session,
  settled: Settled,
  members: ReadonlyMap<string, number> | null,
  { rollup, cancelled }: Sums,
): void {
  const deliveries = members === null ? 1 : countMembers(settled, members, rollup)
  if (members === null) rollup.count(settled, 1, 1)
  session.tally.add(settled.state === 'waiting' ? deliveries : 0, -deliveries)
  if (settled.isCutOff) {
    const ids = settled.isBatch ? memberIds(session, settled.id) : [settled.id]
    for (const id of ids) cancelled.push({ id, reason: settled.reason })
  }
  if (settled.effect) {
    applyEffect(session, settled.endpointKey, settled.effect, settled.settledAtMs)
  }
}

/** The attempt of a batch is one: it is counted with the type of the first member. */
function countMembers(
  settled: Settled,
  members: ReadonlyMap<string, number>,
  rollup: Rollup,
): number {
  let total = 0
  for (const [eventType, deliveries] of members) {
    rollup.count({ ...settled, eventType }, total === 0 ? 1 : 0, deliveries)
    total += deliveries
  }
  return total
}

/** @returns false when somebody else owns it now, or nobody */
function move(session: Session, settled: Settled): boolean {
  const { connection } = session
  const { id, token, state, reason, settledAtMs, isBatch } = settled
  if (state === 'waiting') {
    return connection.run(wait, settled.dueAtMs, reason, id, token) === 1
  }
  if (isBatch) {
    if (connection.run(endMembers, state, reason, settledAtMs, id, token) === 0) return false
    connection.run(deleteMembers, id)
    // Its copy of the bodies would stay in free pages, where no erasure finds it.
    connection.erasing(() => connection.run(closeBatch, settledAtMs, id))
  } else {
    const values: SqlValue[] = []
    pushEnd(values, settled)
    if (connection.run(endSingle, ...values) === 0) return false
  }
  removeLive(session, id, settledAtMs, state === 'exhausted' || state === 'rejected')
  return true
}
