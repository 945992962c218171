/**
 * Settlements of attempts: a whole group is one statement, so one round trip. Taking the delivery's
 * row is the fence: only who changes a delivery that is still being sent under this token writes its
 * attempt, its sums and what follows for its endpoint. What is not found was written before or is
 * late, and a second statement tells which. SQLite asks the attempt's row first, which costs nothing
 * there and a second look at every index here.
 */

import { WebhookError } from '../../model/errors.ts'
import type { Cancellation, SettlementRecord, SettlementResult } from '../commit-records.ts'
import { endCancelled } from './cancel.ts'
import type { Connection } from './connection.ts'
import { writeEffects } from './effect.ts'
import { blockKeys, type OrderedKey, promote } from './order.ts'
import { addSums, type Counts, ofMembers, ofSingles } from './rollup.ts'
import { closedReason, type Session } from './session.ts'
import { given, keyOf, nameOf, toColumns } from './settle-columns.ts'
import { keepLate } from './settle-late.ts'
import { fromText } from './text.ts'

/** Of a settlement that was written. */
const ofAttempt = `
  settled_for, tenant_id, event_type, settled_at_ms, number, started_at_ms, latency_ms, outcome,
  http_status, error, body_at, body_length, endpoint_version, latency_class`

const isStillSent = `
  live.id = given.id and live.token = given.token and live.state = 'delivering'`

/** What an ended delivery takes with it into its row. */
const endOf = `
  live.id, live.token, live.kind, live.event_key, live.endpoint_key, live.round, live.attempts,
  live.created_at_ms, live.order_key, live.order_blocks`

/** Most groups hold no retry, and then every row ends as it is given. */
const givenEnds = `
  with ended as (
    delete from kmsg.live using ${given}
     where ${isStillSent}
    returning ${endOf}, given.state as end_state, given.reason as end_reason, ${ofAttempt}
  )`

/** A retry for an endpoint that is gone meanwhile is an end. */
const givenAll = `
  with given as materialized (
    select * from ${given}
  ), gone as materialized (
    select given.id, ${closedReason} as closed
      from given join kmsg.endpoint on endpoint.key = given.settled_for
     where given.state = 'waiting' and ${closedReason} is not null
  ), waits as (
    update kmsg.live
       set state = 'waiting', owner = null, claim_no = null, alone = 1,
           attempts = live.attempts + 1, due_at_ms = given.due_at_ms, reason = given.reason
      from given
     where ${isStillSent} and given.state = 'waiting' and given.id not in (select id from gone)
    returning live.id, live.token, live.cancel_reason, 'waiting' as end_state, ${ofAttempt}
  ), ended as (
    delete from kmsg.live using given
     where ${isStillSent} and (given.state <> 'waiting' or given.id in (select id from gone))
    returning ${endOf},
              case given.state when 'waiting' then 'cancelled' else given.state end as end_state,
              case given.state when 'waiting' then (select closed from gone where gone.id = given.id)
                               else given.reason end as end_reason,
              given.state = 'waiting' as cut_off, ${ofAttempt}
  )`

/** An attempt that ended its delivery is in the delivery's own row. */
const insertAttempts = (rows: string) => `, attempts as (
    insert into kmsg.attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome,
                              http_status, error, response_body, endpoint_version, late)
    select id, token, number, started_at_ms, latency_ms, outcome, http_status, error,
           substr($20::bytea, body_at, body_length), endpoint_version, false
      from (${rows}) as kept
  )`
const ofWaits = `select id, token, ${ofAttempt} from waits`
const ofBatches = `select id, token, ${ofAttempt} from ended where kind = 'batch'`

/** Members end with what their batch was given: its attempts are theirs. */
const endOfBatches = `, closed_batch as (
    update kmsg.batch set settled_at_ms = ended.settled_at_ms, body = null
      from ended where batch.id = ended.id and ended.kind = 'batch'
    returning batch.id, batch.members
  ), members as (
    delete from kmsg.live using closed_batch cross join json_array_elements(closed_batch.members) each
     where live.id = each.value ->> 0
    returning live.*
  ), member_ends as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           batch_id, created_at_ms, settled_at_ms)
    select m.id, m.event_key, m.endpoint_key, b.end_state, b.end_reason, m.round, b.attempts + 1,
           b.token, b.id, m.created_at_ms, b.settled_at_ms
      from members m join ended b on b.id = m.batch_id
  )`

const ends = `, ends as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms, last_started_at_ms, last_latency_ms,
                           last_outcome, last_http_status, last_error, last_response_body,
                           last_endpoint_version)
    select id, event_key, endpoint_key, end_state, end_reason, round, attempts + 1, token,
           created_at_ms, settled_at_ms, started_at_ms, latency_ms, outcome, http_status, error,
           substr($20::bytea, body_at, body_length), endpoint_version
      from ended where kind = 'single'
  )`

const sumsOf = `
  id, token, end_state, settled_for, settled_at_ms, tenant_id, event_type, outcome, latency_class,
  latency_ms`

/** Of everything that was written, and what came of it. */
const cutOffOf = (members: boolean) => `
         (select json_agg(json_build_object('id', id, 'reason', end_reason)) from (
            select id, end_reason from ended where cut_off and kind = 'single'
            ${members ? 'union all select m.id, b.end_reason from members m join ended b on b.id = m.batch_id where b.cut_off' : ''}
          ) as cut) as cut_off`

const sumsAndResult = (
  waits: boolean,
  counts: Counts,
  members = false,
) => `, written as materialized (
    select ${sumsOf} from ended ${waits ? `union all select ${sumsOf} from waits` : ''}
  ), sums as (
    ${addSums(counts)}
  )
  select (select count(*) from written) as written,
         ${waits ? 'exists (select from waits where cancel_reason is not null)' : 'false'} as cancelled,
         ${waits ? cutOffOf(members) : 'null as cut_off'},
         case when (select count(*) from written) < cardinality($1::text[])
              then (select json_agg(json_build_array(id, token)) from written) end as decided`

/** Deliveries that others of their key wait for, and that have ended. */
const endedInOrder = `,
         (select json_agg(json_build_object('endpointKey', endpoint_key, 'key', order_key, 'id', id,
                   'blocks', order_blocks and end_state in ('exhausted', 'rejected')))
            from ended where order_key is not null) as ordered`

/** Nothing is looked for that the group does not hold. */
const settleEnds = givenEnds + ends + sumsAndResult(false, ofSingles)
const settleSingles = givenAll + insertAttempts(ofWaits) + ends + sumsAndResult(true, ofSingles)
const settleBatches =
  givenAll +
  insertAttempts(`${ofWaits} union all ${ofBatches}`) +
  endOfBatches +
  ends +
  sumsAndResult(true, ofMembers, true)
const settleOrdered = settleBatches + endedInOrder

function statementFor(records: readonly SettlementRecord[], isOrdered: boolean): string {
  if (isOrdered) return settleOrdered
  if (records.some(isBatch)) return settleBatches
  return records.some(({ settlement }) => settlement.state === 'waiting')
    ? settleSingles
    : settleEnds
}

export async function commitSettlements(
  session: Session,
  settlements: readonly SettlementRecord[],
): Promise<{ results: SettlementResult[]; cancelled: readonly Cancellation[] }> {
  if (settlements.length === 0) return { results: [], cancelled: [] }
  const once = new Map<string, SettlementRecord>()
  for (const record of settlements) {
    const name = nameOf(record.deliveryId, record.token)
    if (!once.has(name)) once.set(name, record)
  }
  // In their order: two processes with the same rows then wait in one direction only.
  const records = [...once.values()].sort((a, b) => (a.deliveryId < b.deliveryId ? -1 : 1))
  const hasEffects = records.some(({ settlement }) => settlement.effect !== null)
  const isOrdered = records.some(({ ordered }) => ordered)
  let effects = { endpoints: false, flows: false }
  let hinted: string[] = []
  const { results, cancelled } =
    hasEffects || isOrdered
      ? await session.database.write(async (connection) => {
          const written = await writeRecords(session, connection, records, isOrdered)
          const decided = records.filter(
            (record) => written.results.get(keyOf(record)) === 'written',
          )
          effects = await writeEffects(connection, decided)
          hinted = await followOrder(session, connection, written.ordered)
          return written
        })
      : await session.database.read((connection) =>
          writeRecords(session, connection, records, false),
        )
  if (effects.endpoints) session.hints.endpoints()
  if (effects.flows) session.hints.flows()
  session.hints.due(hinted)
  const resultOf = (record: SettlementRecord): SettlementResult =>
    once.get(keyOf(record)) === record ? (results.get(keyOf(record)) ?? 'repeated') : 'repeated'
  return { results: settlements.map(resultOf), cancelled }
}

interface Row {
  readonly written: number
  /** Some wait again that were cancelled in flight, perhaps at this very moment. */
  readonly cancelled: boolean
  /** `{ id, reason }` of those that were to wait again and ended; null when none did. */
  readonly cut_off: string | null
  /** `[delivery id, token]` of those that decided; null when all did. */
  readonly decided: string | null
  readonly ordered?: string | null
}

/** @returns endpoints that may have something due now */
async function followOrder(
  session: Session,
  connection: Connection,
  json: string | null,
): Promise<string[]> {
  const ended = JSON.parse(json ?? '[]') as (OrderedKey & { id: string; blocks: boolean })[]
  const nowMs = session.nowMs()
  const isBlocking = ({ blocks }: { blocks: boolean }) => blocks
  await blockKeys(connection, ended.filter(isBlocking).map(asText), nowMs)
  await promote(session, connection, ended.map(asText), nowMs)
  return [...new Set(ended.map(({ endpointKey }) => endpointKey))]
}

/** Keys came out of the database as they are in it, and go back by `toText`. */
function asText<Ended extends OrderedKey>(ended: Ended): Ended {
  return { ...ended, key: fromText(ended.key) }
}

interface Written {
  /** By `keyOf`; none for what was written before. */
  readonly results: Map<string, SettlementResult>
  readonly ordered: string | null
  readonly cancelled: readonly Cancellation[]
}

async function writeRecords(
  session: Session,
  connection: Connection,
  records: readonly SettlementRecord[],
  isOrdered: boolean,
): Promise<Written> {
  const row = await connection.get<Row>(
    statementFor(records, isOrdered),
    ...toColumns(records),
    session.rollups.next(),
  )
  if (row === undefined) throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected a row, got none.')
  // Apart, because the statement above does not see a mark that is set while it waits for the row.
  const cancelled = JSON.parse(row.cut_off ?? '[]') as Cancellation[]
  if (row.cancelled || row.written < records.length) {
    cancelled.push(...(await endCancelled(session, connection, session.nowMs())))
  }
  const ordered = row.ordered ?? null
  const results = new Map<string, SettlementResult>()
  if (row.written === records.length) {
    for (const record of records) results.set(keyOf(record), 'written')
    return { results, ordered, cancelled }
  }
  const decided = JSON.parse(row.decided ?? '[]') as [id: string, token: number][]
  for (const [id, token] of decided) results.set(nameOf(id, token), 'written')
  const others = records.filter((record) => !results.has(keyOf(record)))
  for (const { id, token } of await keepLate(connection, others))
    results.set(nameOf(id, token), 'late')
  return { results, ordered, cancelled }
}

function isBatch({ deliveryId }: SettlementRecord): boolean {
  return deliveryId.startsWith('bat_')
}
