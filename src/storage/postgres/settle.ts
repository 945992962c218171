/**
 * Settlements of attempts: a whole group is one statement. The attempt's row is the fence: only when
 * it is newly inserted, and the delivery is still owned under the same token, do state, statistics
 * and the endpoint follow from it. Rows are locked in the order of their keys.
 */
import { WebhookError } from '../../model/errors.ts'
import { latencyClass } from '../latency-class.ts'
import type { SettlementRecord, SettlementResult } from '../storage.ts'
import type { SqlValue } from './connection.ts'
import { writeEffects } from './effect.ts'
import { closedReason, type Session } from './session.ts'
import { ByteColumn, numberArray, textArray } from './text.ts'

const anHourMs = 3_600_000

/** Values of one settlement; `written` are those that decide. */
const given = `
  with given as materialized (
    select * from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                         $7::int[], $8::bigint[], $9::float8[], $10::text[], $11::int[],
                         $12::text[], $13::int[], $14::int[], $15::bigint[], $16::text[],
                         $17::text[], $18::bigint[], $19::int[])
      as given (id, token, endpoint_key, tenant_id, event_type, settled_at_ms, number,
                started_at_ms, latency_ms, outcome, http_status, error, body_at, body_length,
                endpoint_version, state, reason, due_at_ms, latency_class)
  ), owned as materialized (
    select live.id, live.token, live.cancel_reason
      from kmsg.live
     where state = 'delivering' and (id, token) in (select id, token from given)
     order by id for update
  ), attempts as (
    insert into kmsg.attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome,
                              http_status, error, response_body, endpoint_version, late)
    select given.id, given.token, number, started_at_ms, latency_ms, outcome, http_status, error,
           substr($20::bytea, body_at, body_length), endpoint_version, owned.id is null
      from given left join owned on owned.id = given.id and owned.token = given.token
     order by given.id collate "C", given.token
    on conflict do nothing
    returning delivery_id, token, late
  ), written as materialized (
    select given.*, coalesce(no_more, given.reason) as end_reason,
           case when no_more is null then given.state else 'cancelled' end as end_state,
           coalesce(batch.member_count, 1) as deliveries
      from given
      join attempts on attempts.delivery_id = given.id and attempts.token = given.token and not late
      left join kmsg.batch on batch.id = given.id
      left join lateral (
        select coalesce(${closedReason},
                        (select cancel_reason from owned where owned.id = given.id)) as no_more
          from (select given.endpoint_key where given.state = 'waiting') as again
          left join kmsg.endpoint on endpoint.key = again.endpoint_key) as gone on true
  ), waits as (
    update kmsg.live
       set state = 'waiting', owner = null, claim_no = null, alone = 1,
           attempts = live.attempts + 1, due_at_ms = written.due_at_ms, reason = written.end_reason
      from written where live.id = written.id and end_state = 'waiting'
  ), ended as (
    delete from kmsg.live using written
     where live.id = written.id and end_state <> 'waiting'
    returning live.*, end_state, end_reason, settled_at_ms
  )`

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

const sumsAndResult = `, ends as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms)
    select id, event_key, endpoint_key, end_state, end_reason, round, attempts + 1, token,
           created_at_ms, settled_at_ms
      from ended where kind = 'single'
  ), sums as (
    insert into kmsg.rollup as r (endpoint_key, hour_ms, tenant_id, event_type, outcome, state,
                                  latency_class, writer, attempts, deliveries, latency_sum_ms)
    select grain.key, grain.hour_ms, tenant_id, event_type, outcome, end_state, latency_class,
           $21::int, count(*), sum(deliveries), sum(latency_ms)
      from written cross join lateral (values
             (endpoint_key, settled_at_ms - settled_at_ms % ${anHourMs}),
             ('', settled_at_ms - settled_at_ms % ${anHourMs}), ('', -1)) as grain (key, hour_ms)
     group by 1, 2, 3, 4, 5, 6, 7 order by 1, 2, 3, 4, 5, 6, 7
    on conflict (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, writer)
       do update set attempts = r.attempts + excluded.attempts,
                     deliveries = r.deliveries + excluded.deliveries,
                     latency_sum_ms = r.latency_sum_ms + excluded.latency_sum_ms
  )
  select (select count(*) from written) as written,
         case when (select count(*) from written) < (select count(*) from given)
              then (select json_agg(json_build_array(delivery_id, token, late)) from attempts) end
           as attempts`

/** Most groups hold no batch, and then nothing is looked for. */
const settleSingles = given + sumsAndResult
const settleBatches = given + endOfBatches + sumsAndResult

export async function commitSettlements(
  session: Session,
  settlements: readonly SettlementRecord[],
): Promise<SettlementResult[]> {
  if (settlements.length === 0) return []
  const once = new Map<string, SettlementRecord>()
  for (const record of settlements) {
    const name = nameOf(record.deliveryId, record.token)
    if (!once.has(name)) once.set(name, record)
  }
  const records = [...once.values()]
  const sql = records.some(isBatch) ? settleBatches : settleSingles
  const values = [...toColumns(records), session.worker.slot]
  const hasEffects = records.some(({ settlement }) => settlement.effect !== null)
  let isDisabled = false
  const row = hasEffects
    ? await session.database.write(async (connection) => {
        const written = await connection.get<Row>(sql, ...values)
        const results = resultsOf(records, written)
        const decided = records.filter((record) => results.get(keyOf(record)) === 'written')
        isDisabled = await writeEffects(connection, decided)
        return written
      })
    : await session.database.read((connection) => connection.get<Row>(sql, ...values))
  if (isDisabled) session.hints.endpoints()
  const results = resultsOf(records, row)
  return settlements.map((record) =>
    once.get(keyOf(record)) === record ? (results.get(keyOf(record)) ?? 'repeated') : 'repeated',
  )
}

interface Row {
  readonly written: number
  /** [delivery id, token, late] of the attempts that are new; null when all of them decided. */
  readonly attempts: string | null
}

function resultsOf(
  records: readonly SettlementRecord[],
  row: Row | undefined,
): Map<string, SettlementResult> {
  if (row === undefined) throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected a row, got none.')
  if (row.written === records.length) return new Map(records.map((one) => [keyOf(one), 'written']))
  const attempts = JSON.parse(row.attempts ?? '[]') as [string, number, boolean][]
  return new Map(
    attempts.map(([id, token, late]) => [nameOf(id, token), late ? 'late' : 'written']),
  )
}

function nameOf(deliveryId: string, token: number): string {
  return `${deliveryId} ${token}`
}

function keyOf({ deliveryId, token }: SettlementRecord): string {
  return nameOf(deliveryId, token)
}

function isBatch({ deliveryId }: SettlementRecord): boolean {
  return deliveryId.startsWith('bat_')
}

function toColumns(records: readonly SettlementRecord[]): SqlValue[] {
  const bytes = new ByteColumn()
  const bodyAt = records.map(({ attempt }) =>
    attempt.responseBody === null ? null : bytes.add(attempt.responseBody),
  )
  const attempts = records.map(({ attempt }) => attempt)
  const settlements = records.map(({ settlement }) => settlement)
  return [
    textArray(records.map((one) => one.deliveryId)),
    numberArray(records.map((one) => one.token)),
    textArray(records.map((one) => one.endpointKey)),
    textArray(records.map((one) => one.tenantId)),
    textArray(records.map((one) => one.eventType)),
    numberArray(records.map((one) => Math.round(one.settledAtMs))),
    numberArray(attempts.map((one) => one.number)),
    numberArray(attempts.map((one) => Math.round(one.startedAtMs))),
    numberArray(attempts.map((one) => one.latencyMs)),
    textArray(attempts.map((one) => one.outcome)),
    numberArray(attempts.map((one) => one.httpStatus)),
    textArray(attempts.map((one) => one.error)),
    numberArray(bodyAt),
    numberArray(attempts.map((one) => one.responseBody?.length ?? null)),
    numberArray(attempts.map((one) => one.endpointVersion)),
    textArray(settlements.map((one) => one.state)),
    textArray(settlements.map((one) => one.reason)),
    numberArray(
      settlements.map((one) => (one.state === 'waiting' ? Math.round(one.dueAtMs) : null)),
    ),
    numberArray(attempts.map((one) => latencyClass(one.latencyMs))),
    bytes.joined(),
  ]
}
