/** Outcomes that came too late: somebody else owns the delivery, or has ended it. */
import type { SettlementRecord } from '../commit-records.ts'
import type { Connection } from './connection.ts'
import { given, toColumns } from './settle-columns.ts'

/** Erased since it began: what the receiver answered may be about a person, too. */
const isErased = `
  exists (
    select from kmsg.event
     where erased_at_ms is not null and key in (
       select substr(given.id, 5, 24)
       union all
       select substr(each.value ->> 0, 5, 24)
         from kmsg.batch cross join json_array_elements(members) each where batch.id = given.id))`

/**
 * Kept for the log, when it is not there yet; nothing follows from it, also when it is repeated because
 * the answer was lost.
 */
const insertLate = `
  with given as materialized (
    select *, ${isErased} as is_erased from ${given}
  ), kept as (
    insert into kmsg.attempt (delivery_id, token, number, started_at_ms, latency_ms, outcome,
                              http_status, error, response_body, endpoint_version, late)
    select id, token, number, started_at_ms, latency_ms, outcome, http_status,
           case when not is_erased then error end,
           case when not is_erased then substr($20::bytea, body_at, body_length) end,
           endpoint_version, true
      from given
     where (select last_outcome from kmsg.done where done.id = given.id and done.token = given.token)
             is null
     order by id collate "C", token
    on conflict do nothing
    returning delivery_id as id, token
  )
  select id, token from kept
  union all
  select id, token from given
   where exists (select from kmsg.attempt
                  where delivery_id = given.id and attempt.token = given.token and late)`

/** @returns those that are late, and not written before in time */
export async function keepLate(
  connection: Connection,
  records: readonly SettlementRecord[],
): Promise<{ id: string; token: number }[]> {
  return await connection.all(insertLate, ...toColumns(records))
}
