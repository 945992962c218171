/**
 * The flow of endpoints: holds, breakers and send times. A row of its own, so that what changes often
 * does not touch the endpoint; `changed` is the transaction that changed it, by which watch.ts finds
 * it without any counter that writers would wait for.
 */
import { type Breaker, type EndpointFlow, freeFlow } from '../../model/flow.ts'
import { type BreakerChange, farthestMs, type SendTimes, type SendTimesAsk } from '../flows.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { numberArray, textArray } from './text.ts'

/** A flow as JSON, in the order of `FlowRow`. */
export const flowAsJson = `json_build_array(endpoint_key, held_until_ms, breaker, breaker_epoch,
                                            breaker_until_ms, openings, next_send_at_ms)`

export type FlowRow = [string, number, Breaker['state'], number, number, number, number]

const readFlows = `select json_agg(${flowAsJson}) as flows from kmsg.endpoint_flow`

const readFlow = `
  select json_agg(${flowAsJson}) as flows from kmsg.endpoint_flow where endpoint_key = $1`

/** Compare and set. Nothing stored is epoch 0. */
const setBreaker = `
  insert into kmsg.endpoint_flow as flow
         (endpoint_key, breaker, breaker_epoch, breaker_until_ms, openings)
  select $1, $2, $3::bigint, $4::bigint, $5::int
   where $3::bigint = 1 or exists (select from kmsg.endpoint_flow where endpoint_key = $1)
  on conflict (endpoint_key) do update
     set breaker = excluded.breaker, breaker_epoch = excluded.breaker_epoch,
         breaker_until_ms = excluded.breaker_until_ms, openings = excluded.openings,
         changed = pg_current_xact_id()
   where flow.breaker_epoch = excluded.breaker_epoch - 1`

/** Never shorter: two answers can ask for different times. In the order of keys, as all who write. */
const hold = `
  insert into kmsg.endpoint_flow as flow (endpoint_key, held_until_ms)
  select key, max(until_ms) from unnest($1::text[], $2::bigint[]) as given (key, until_ms)
   group by key order by key collate "C"
  on conflict (endpoint_key) do update
     set held_until_ms = excluded.held_until_ms, changed = pg_current_xact_id()
   where flow.held_until_ms < excluded.held_until_ms`

const tooFar = '(select too_far_ms from given where key = flow.endpoint_key)'

/**
 * The first free time is not before now, and now where it is further ahead than any that is handed
 * out: the clock was set back, or another limit was in force. Where nothing was taken `free_ms` may be
 * of a moment before: somebody was faster then.
 */
const takeTimes = `
  with given as materialized (
    select * from unnest($1::text[], $2::float8[], $3::float8[]) as given (key, length_ms, too_far_ms)
  ), taken as (
    insert into kmsg.endpoint_flow as flow (endpoint_key, next_send_at_ms)
    select key, $4::float8 + length_ms from given order by key collate "C"
    on conflict (endpoint_key) do update
       set next_send_at_ms = excluded.next_send_at_ms - $4::float8
                           + case when flow.next_send_at_ms > ${tooFar} then $4::float8
                                  else greatest(flow.next_send_at_ms, $4::float8) end
     where flow.next_send_at_ms <= $5::float8 or flow.next_send_at_ms > ${tooFar}
    returning endpoint_key, next_send_at_ms
  )
  select key, taken.next_send_at_ms as end_ms, flow.next_send_at_ms as free_ms
    from given left join taken on taken.endpoint_key = key
               left join kmsg.endpoint_flow as flow on flow.endpoint_key = key`

const freshTimes = `
  update kmsg.endpoint_flow set next_send_at_ms = 0 where endpoint_key = $1`

/** A later epoch, so that nobody goes by an earlier breaker, or by the hold that belonged to it. */
const lift = `
  update kmsg.endpoint_flow
     set held_until_ms = 0, breaker = 'closed', breaker_epoch = breaker_epoch + 1,
         breaker_until_ms = 0, openings = 0, changed = pg_current_xact_id()
   where endpoint_key = $1`

const dropFlow = 'delete from kmsg.endpoint_flow where endpoint_key = $1'

export async function loadFlows({ database }: Session): Promise<EndpointFlow[]> {
  return await database.read(async (connection) =>
    fromJson((await connection.get<{ flows: string | null }>(readFlows))?.flows),
  )
}

export async function findFlow({ database }: Session, key: string): Promise<EndpointFlow | null> {
  return await database.read(async (connection) => await find(connection, key))
}

async function find(connection: Connection, key: string): Promise<EndpointFlow | null> {
  return fromJson((await connection.get<{ flows: string | null }>(readFlow, key))?.flows)[0] ?? null
}

export async function changeBreaker(
  { database, hints }: Session,
  key: string,
  next: Breaker,
): Promise<BreakerChange> {
  const { state, epoch, untilMs, openings } = next
  const change = await database.read(async (connection) => {
    const rows = await connection.run(
      setBreaker,
      key,
      state,
      epoch,
      Math.round(untilMs),
      Math.min(openings, 1_000_000),
    )
    return { isChanged: rows > 0, flow: (await find(connection, key)) ?? freeFlow(key) }
  })
  if (change.isChanged) hints.flows()
  return change
}

export async function writeHolds(
  connection: Connection,
  holds: readonly { readonly endpointKey: string; readonly untilMs: number }[],
): Promise<void> {
  await connection.run(
    hold,
    textArray(holds.map(({ endpointKey }) => endpointKey)),
    numberArray(holds.map(({ untilMs }) => Math.round(untilMs))),
  )
}

export async function takeSendTimes(
  { database }: Session,
  asks: readonly SendTimesAsk[],
  nowMs: number,
  notAfterMs: number,
): Promise<SendTimes[]> {
  const lengthsMs = asks.map(({ count, intervalMs }) => count * intervalMs)
  const rows = await database.read((connection) =>
    connection.all<TakenRow>(
      takeTimes,
      textArray(asks.map(({ endpointKey }) => endpointKey)),
      numberArray(lengthsMs),
      numberArray(lengthsMs.map((lengthMs) => nowMs + farthestMs(lengthMs))),
      nowMs,
      notAfterMs,
    ),
  )
  const taken = new Map(rows.map((row) => [row.key, row]))
  return asks.map((ask) => {
    const { end_ms: endMs = null, free_ms: freeMs = null } = taken.get(ask.endpointKey) ?? {}
    if (endMs !== null) return { ...ask, firstAtMs: endMs - ask.count * ask.intervalMs }
    const isOfBefore = freeMs === null || freeMs <= notAfterMs
    const firstAtMs = isOfBefore ? Math.max(freeMs ?? 0, nowMs) + ask.intervalMs : freeMs
    return { ...ask, count: 0, firstAtMs }
  })
}

interface TakenRow {
  readonly key: string
  /** Of the times that were taken; null: none were. */
  readonly end_ms: number | null
  readonly free_ms: number | null
}

/** Under another rate limit the times handed out so far mean nothing. */
export async function restartSendTimes(connection: Connection, key: string): Promise<void> {
  await connection.run(freshTimes, key)
}

/** Neither hold nor breaker keeps anything back any more. */
export async function liftFlow(connection: Connection, key: string): Promise<void> {
  await connection.run(lift, key)
}

export async function removeFlow(connection: Connection, key: string): Promise<void> {
  await connection.run(dropFlow, key)
}

export function fromJson(flows: string | null | undefined): EndpointFlow[] {
  const rows = JSON.parse(flows ?? '[]') as FlowRow[]
  return rows.map(([endpointKey, heldUntilMs, state, epoch, untilMs, openings, nextSendAtMs]) => ({
    endpointKey,
    heldUntilMs,
    breaker: { state, epoch, untilMs, openings },
    nextSendAtMs,
  }))
}
