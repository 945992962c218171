/**
 * Deliveries of events too wide for one transaction: the matched endpoints were committed as one
 * row, and become deliveries some at a time, between commits that nobody has to wait for. Two
 * processes work on different events.
 */
import { behindMs } from '../../model/delivery.ts'
import type { Cancellation, DeliveryTerms, FanOutResult } from '../commit-records.ts'
import { orderColumns, termColumns } from './accept.ts'
import type { Connection } from './connection.ts'
import { isBehind, lastNo, lockKeys } from './order.ts'
import { closedReason, type Session } from './session.ts'
import { insertSlots, SlotsToWrite } from './slot.ts'
import { numberArray, textArray } from './text.ts'

const oldestFanOut = `
  select event_key, targets, total, position from kmsg.fan_out
   order by event_key limit 1 for update skip locked`
const anyFanOut = 'select 1 from kmsg.fan_out limit 1'

const create = `
  with target as materialized (
    select t.*, accepted_at_ms, coalesce(${closedReason}, t.ended) as closed
      from unnest($2::text[], $3::text[], $4::bigint[], $6::text[], $7::int[], $8::bigint[],
                  $9::text[], $10::boolean[])
             as t (id, endpoint_key, due_at_ms, ended, alone, expires_at_ms, order_key, order_blocks)
      join kmsg.event on event.key = $1
      left join kmsg.endpoint on endpoint.key = t.endpoint_key
  ), waits as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                           due_at_ms, round, created_at_ms, expires_at_ms, order_key, order_blocks, order_no)
    select id, 'single', coalesce(alone, 0), $1, endpoint_key, 'waiting', 0, 0,
           case when order_key is not null and ${isBehind} then ${behindMs} else due_at_ms end, 1,
           accepted_at_ms, expires_at_ms, order_key, order_blocks,
           case when order_key is not null then ${lastNo} + 1 end
      from target d where closed is null
    returning endpoint_key
  ), cancelled as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms)
    select id, $1, endpoint_key, 'cancelled', closed, 1, 0, 0, accepted_at_ms, $5::bigint
      from target where closed is not null
  )
  select endpoint_key, null as id, null as reason from waits
  union all select endpoint_key, id, closed from target where closed is not null`

const moveOn = 'update kmsg.fan_out set position = $1 where event_key = $2'
const finish = 'delete from kmsg.fan_out where event_key = $1'

type Target = readonly [
  deliveryId: string,
  endpointKey: string,
  dueAtMs: number,
  terms?: DeliveryTerms | null,
  ended?: string | null,
]

export async function fanOut(
  session: Session,
  limit: number,
  nowMs: number,
): Promise<FanOutResult> {
  const result = await session.database.write(async (connection) => {
    const endpointKeys = new Set<string>()
    const cancelled: Cancellation[] = []
    for (let room = limit; room > 0; ) {
      const wide = await connection.get<FanOutRow>(oldestFanOut)
      if (wide === undefined) break
      const { event_key: eventKey, position, total } = wide
      const targets = (JSON.parse(wide.targets) as Target[]).slice(position, position + room)
      cancelled.push(
        ...(await createSome(session, connection, eventKey, targets, nowMs, endpointKeys)),
      )
      const next = position + targets.length
      if (next === total) await connection.run(finish, eventKey)
      else await connection.run(moveOn, next, eventKey)
      room -= targets.length
    }
    return {
      endpointKeys: [...endpointKeys],
      cancelled,
      more: (await connection.get(anyFanOut)) !== undefined,
    }
  })
  session.hints.due(result.endpointKeys)
  return result
}

interface FanOutRow {
  readonly event_key: string
  readonly targets: string
  readonly total: number
  readonly position: number
}

interface CreatedRow {
  readonly endpoint_key: string
  /** Null: it waits. */
  readonly id: string | null
  readonly reason: string | null
}

/** @returns what ended at once */
async function createSome(
  session: Session,
  connection: Connection,
  eventKey: string,
  targets: readonly Target[],
  nowMs: number,
  endpointKeys: Set<string>,
): Promise<Cancellation[]> {
  // Slots of an older event may have been forgotten meanwhile, so memory is not asked.
  const slots = new SlotsToWrite({ ...session, knownSlots: new Set() })
  for (const [id, endpointKey] of targets) slots.add(endpointKey, id)
  await connection.run(insertSlots, ...slots.columns())
  const keys = targets.flatMap(([, endpointKey, , terms]) =>
    terms?.order === undefined ? [] : [{ endpointKey, key: terms.order.key }],
  )
  if (keys.length > 0) await lockKeys(session, connection, keys)
  const rows = await connection.all<CreatedRow>(
    create,
    eventKey,
    textArray(targets.map(([id]) => id)),
    textArray(targets.map(([, endpointKey]) => endpointKey)),
    numberArray(targets.map(([, , dueAtMs]) => dueAtMs)),
    nowMs,
    textArray(targets.map(([, , , , ended]) => ended ?? null)),
    ...termColumns(targets.map(([, , , terms]) => terms ?? undefined)),
    ...orderColumns(targets.map(([, , , terms]) => terms ?? undefined)),
  )
  const waits = new Set(rows.flatMap(({ id, endpoint_key: key }) => (id === null ? [key] : [])))
  for (const [, endpointKey] of targets) if (waits.has(endpointKey)) endpointKeys.add(endpointKey)
  return rows.flatMap(({ id, reason }) => (id === null || reason === null ? [] : [{ id, reason }]))
}
