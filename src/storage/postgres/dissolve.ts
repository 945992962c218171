/**
 * Sealed batches whose bytes hold an erased event are taken apart: their other members wait again on
 * their own and are sealed anew. They begin with no attempt, since those made were the batch's. Runs
 * inside the transaction of its caller.
 */
import type { Connection } from './connection.ts'
import { textArray } from './text.ts'

/** What was marked and is deleted as `gone` ends: at `$1`, or when it was due where nobody knows. */
export const endOfGone = `written as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms)
    select id, event_key, endpoint_key, 'cancelled', cancel_reason, round, attempts, token,
           created_at_ms, coalesce($1::bigint, greatest(created_at_ms, due_at_ms))
      from gone
  )`

const parts = (carriers: string) => `
  with carrier as (
    delete from kmsg.live where ${carriers} returning *
  ), closed as (
    update kmsg.batch
       set settled_at_ms = coalesce($1::bigint, greatest(carrier.created_at_ms, carrier.due_at_ms)),
           body = null
      from carrier where batch.id = carrier.id
    returning batch.id, batch.members
  ), member as (
    select each.value ->> 0 as id from closed cross join json_array_elements(closed.members) each
  )`

const dissolveGiven = `${parts('id = any($2::text[])')}, loose as (
    update kmsg.live set batch_id = null from member where live.id = member.id
  )
  select id from carrier`

/** In one statement: what is marked would be sealed anew in between. */
const dissolveMarkedOnes = `
  ${parts("cancel_reason is not null and owner is null and kind = 'batch'")}, loose as (
    update kmsg.live set batch_id = null
      from member where live.id = member.id and cancel_reason is null
  ), gone as (
    delete from kmsg.live using member
     where live.id = member.id and cancel_reason is not null
    returning live.*
  ), ${endOfGone}
  select id from carrier`

const eraseAnswers = `
  update kmsg.attempt set error = null, response_body = null where delivery_id = any($1::text[])`

export async function dissolveBatches(
  connection: Connection,
  ids: readonly string[],
  nowMs: number,
): Promise<void> {
  await connection.all(dissolveGiven, nowMs, textArray(ids))
  await eraseAnswersOfBatches(connection, ids)
}

/**
 * Those that were marked while they were owned and that nobody owns any more; members that are
 * marked end.
 *
 * @param nowMs null when that may have been at any time since they were due
 */
export async function dissolveMarked(connection: Connection, nowMs: number | null): Promise<void> {
  const rows = await connection.all<{ id: string }>(dissolveMarkedOnes, nowMs)
  if (rows.length > 0) {
    await eraseAnswersOfBatches(
      connection,
      rows.map(({ id }) => id),
    )
  }
}

export async function eraseAnswersOfBatches(
  connection: Connection,
  ids: readonly string[],
): Promise<void> {
  await connection.run(eraseAnswers, textArray(ids))
}
