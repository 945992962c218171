/**
 * Repairs of many deliveries. A step locks the repair, moves its cursor and writes what was chosen in
 * one transaction: whichever processes work on it, each delivery is chosen once.
 */

import { behindMs } from '../../model/delivery.ts'
import { deliveryId, parseDeliveryId } from '../../model/ids.ts'
import type { RepairCriteria, RepairKind, RepairState } from '../../model/repair.ts'
import {
  addSkipped,
  maxPendingCounted,
  type NewRepair,
  type RepairQuery,
  type RepairRecord,
  type RepairStep,
  type RepairStepped,
} from '../repairs.ts'
import type { Connection } from './connection.ts'
import { lockBodiesOf } from './erase.ts'
import { retryFirst } from './order.ts'
import { keepOldEvents } from './prune.ts'
import { closedReason, type Session } from './session.ts'
import { insertSlots, SlotsToWrite } from './slot.ts'
import { fromText, textArray, toText } from './text.ts'

const insertRepair = `
  insert into kmsg.repair (id, kind, tenant_id, endpoint_key, criteria, max_per_second, state,
                           cursor, next_step_at_ms, worker, created_at_ms)
  values ($1, $2, $3, $4, $5, $6, 'running', $7, $8::bigint, $9, $8::bigint) on conflict do nothing`

const selectRepairs = `
  select repair.*,
         (select id from kmsg.endpoint where key = repair.endpoint_key) as endpoint_id,
         (select count(*) from (
           select from kmsg.live where repair_id = repair.id and due_at_ms <= $1
            limit ${maxPendingCounted}) as due) as pending
    from kmsg.repair`
const repairById = `${selectRepairs} where id = $2`
const runningRepairs = `
  ${selectRepairs} where state = 'running' and ($2::text is null or tenant_id = $2)
   order by id desc limit $3`
const allRepairs = `
  ${selectRepairs} where ($2::text is null or tenant_id = $2) order by id desc limit $3`

/** Another process that is at it has it locked. */
const lock = `
  select repair.id, ${closedReason} as closed
    from kmsg.repair left join kmsg.endpoint on endpoint.key = repair.endpoint_key
   where repair.id = $1 and state = 'running' and cursor = $2
     for update of repair skip locked`
const moveOn = `
  update kmsg.repair
     set cursor = $2, next_step_at_ms = $3, matched = $4, queued = $5, skipped = $6, worker = $7
   where id = $1`
const end = `
  update kmsg.repair set state = $2, reason = $3, ended_at_ms = $4
   where id = $1 and state = 'running'`

/** For a member of a sealed batch, the row that is due is the batch's. */
const requeue = `
  with given as materialized (
    select id from unnest($1::text[]) as given (id)
  ), live as materialized (
    select l.id, coalesce(l.batch_id, l.id) as due_id, l.due_at_ms >= ${behindMs} as is_behind
      from given join kmsg.live as l on l.id = given.id and l.kind = 'single'
  ), unowned as materialized (
    select l.id from kmsg.live as l
     where l.id in (select due_id from live where not is_behind) and owner is null order by l.id for update
  ), moved as (
    update kmsg.live as l set due_at_ms = least(due_at_ms, $2::bigint), repair_id = $3
      from unowned where l.id = unowned.id
  ), locked as materialized (
    select done.id, done.event_key, done.endpoint_key, done.round, done.retried_as
      from given join kmsg.done on done.id = given.id order by done.id for update of done
  ), ended as materialized (
    select locked.*, event.body is not null as has_body,
           'dlv_' || locked.event_key || '_' || locked.endpoint_key || '_r' || round + 1 as next
      from locked join kmsg.event on event.key = locked.event_key
  ), rounds as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                           due_at_ms, round, created_at_ms, repair_id)
    select next, 'single', 1, event_key, endpoint_key, 'waiting', 0, 0, $2::bigint, round + 1,
           $2::bigint, $3
      from ended where retried_as is null and has_body
  ), pointed as (
    update kmsg.done set retried_as = ended.next
      from ended where done.id = ended.id and ended.retried_as is null and ended.has_body
  )
  select case when unowned.id is not null then null
              when live.is_behind then 'behind_another'
              when live.id is not null then 'in_flight'
              -- Seen, and changed by another step before it could be locked.
              when ended.id is null and exists (select from kmsg.done where done.id = given.id)
              then 'retried_meanwhile'
              when ended.id is null then 'gone'
              when ended.retried_as is not null then 'retried_meanwhile'
              when not ended.has_body then 'body_gone' end as refused
    from given left join live on live.id = given.id left join unowned on unowned.id = live.due_id
               left join ended on ended.id = given.id`

/** Two backfills of one endpoint at once would both see that a delivery is missing. */
const takeTurn = `
  select pg_advisory_xact_lock(hashtextextended('kmsg backfill ' || $1 || ' ' || $2, 0))`

/** Events that the endpoint never got, unless it has them by now. Counted as matched from now on. */
const createMissing = `
  with given as materialized (
    select key from unnest($1::text[]) as given (key)
  ), missing as materialized (
    select event.key, 'dlv_' || event.key || '_' || $2 as id
      from given join kmsg.event on event.key = given.key
     where body is not null
       and not exists (select from kmsg.live
                        where live.id >= 'dlv_' || event.key || '_' || $2
                          and live.id < 'dlv_' || event.key || '_' || $2 || '\`')
       and not exists (select from kmsg.done
                        where done.id >= 'dlv_' || event.key || '_' || $2
                          and done.id < 'dlv_' || event.key || '_' || $2 || '\`')
       and not exists (select from kmsg.fan_out, json_array_elements(fan_out.targets) each
                        where fan_out.event_key = event.key and each.value ->> 1 = $2)
  ), created as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                           due_at_ms, round, created_at_ms, repair_id)
    select id, 'single', 1, key, $2, 'waiting', 0, 0, $3::bigint, 1, $3::bigint, $4 from missing
  ), counted as (
    update kmsg.event set matched = matched + 1 from missing where event.key = missing.key
  )
  select case when missing.key is not null then null
              when event.body is null then 'body_gone' else 'already_there' end as refused
    from given left join missing on missing.key = given.key
               left join kmsg.event on event.key = given.key`

export async function createRepair(
  { database, worker }: Session,
  repair: NewRepair,
): Promise<void> {
  const { id, kind, tenantId, endpointKey, criteria, maxPerSecond, createdAtMs, cursor } = repair
  await database.read((connection) =>
    connection.run(
      insertRepair,
      ...[id, kind, toText(tenantId), endpointKey, toText(JSON.stringify(criteria)), maxPerSecond],
      ...[cursor, Math.round(createdAtMs), worker.id],
    ),
  )
}

export async function listRepairs(
  session: Session,
  { id, tenantId, onlyRunning, limit }: RepairQuery,
  nowMs: number,
): Promise<RepairRecord[]> {
  return await session.database.read(async (connection) => {
    if (id !== null) {
      const found = await findRepair(session, connection, id, nowMs)
      return found === null || (tenantId !== null && found.tenantId !== tenantId) ? [] : [found]
    }
    const sql = onlyRunning ? runningRepairs : allRepairs
    const tenant = tenantId === null ? null : toText(tenantId)
    const rows = await connection.all<RepairRow>(sql, nowMs, tenant, limit)
    return rows.map((row) => toRecord(row, session))
  })
}

async function findRepair(
  session: Session,
  connection: Connection,
  id: string,
  nowMs: number,
): Promise<RepairRecord | null> {
  const row = await connection.get<RepairRow>(repairById, nowMs, toText(id))
  return row === undefined ? null : toRecord(row, session)
}

export async function endRepair(
  { database }: Session,
  id: string,
  state: RepairState,
  reason: string,
  nowMs: number,
): Promise<boolean> {
  return (await database.read((connection) => connection.run(end, id, state, reason, nowMs))) === 1
}

export async function stepRepair(
  session: Session,
  step: RepairStep,
  nowMs: number,
): Promise<RepairStepped> {
  const stepped = await session.database.write(async (connection) => {
    const locked = await connection.get<{ closed: string | null }>(lock, step.id, step.from)
    const before = await findRepair(session, connection, step.id, nowMs)
    if (locked === undefined || before === null) return { isWritten: false, record: before }
    if (locked.closed === null) await writeStep(session, connection, before, step, nowMs)
    else await connection.run(end, step.id, 'failed', locked.closed, nowMs)
    const record = await findRepair(session, connection, step.id, nowMs)
    return { isWritten: true, record }
  })
  if (stepped.isWritten && stepped.record !== null) {
    session.hints.due([stepped.record.endpointKey])
  }
  return stepped
}

async function writeStep(
  session: Session,
  connection: Connection,
  before: RepairRecord,
  { id, to, take, matched, skipped, nextStepAtMs }: RepairStep,
  nowMs: number,
): Promise<void> {
  await keepOldEvents(session, connection)
  await lockBodiesOf(
    connection,
    take.map((one) => parseDeliveryId(one)?.eventKey ?? one),
  )
  const isMissing = (one: string) => before.kind === 'backfill' && parseDeliveryId(one) === null
  const there = take.filter((one) => !isMissing(one))
  const rows = [
    ...(await requeueSome(connection, before, there, nowMs)),
    ...(await createSome(session, connection, before, take.filter(isMissing), nowMs)),
  ]
  const met: Record<string, number> = {}
  let queued = 0
  for (const { refused } of rows) {
    if (refused === null) queued += 1
    else met[refused] = (met[refused] ?? 0) + 1
  }
  const allSkipped = addSkipped(addSkipped(before.skipped, skipped), met)
  await connection.run(
    moveOn,
    ...[id, to ?? before.cursor, Math.round(nextStepAtMs), before.matched + matched],
    ...[before.queued + queued, JSON.stringify(allSkipped), session.worker.id],
  )
  if (to === null) await connection.run(end, id, 'done', null, nowMs)
}

async function requeueSome(
  connection: Connection,
  { id, endpointKey }: RepairRecord,
  deliveryIds: readonly string[],
  nowMs: number,
): Promise<TakenRow[]> {
  if (deliveryIds.length === 0) return []
  const rows = await connection.all<TakenRow>(requeue, textArray(deliveryIds), nowMs, id)
  await retryFirst(connection, endpointKey, deliveryIds)
  return rows
}

async function createSome(
  session: Session,
  connection: Connection,
  { id, endpointKey }: RepairRecord,
  eventKeys: readonly string[],
  nowMs: number,
): Promise<TakenRow[]> {
  if (eventKeys.length === 0) return []
  await connection.all(takeTurn, session.database.schema.name, endpointKey)
  // Slots of an older event may have been forgotten meanwhile, so memory is not asked.
  const slots = new SlotsToWrite({ ...session, knownSlots: new Set() })
  for (const key of eventKeys) slots.add(endpointKey, deliveryId(key, endpointKey, 1))
  await connection.run(insertSlots, ...slots.columns())
  return await connection.all(createMissing, textArray(eventKeys), endpointKey, nowMs, id)
}

interface TakenRow {
  /** Null: it is queued. */
  readonly refused: string | null
}

interface RepairRow {
  readonly id: string
  readonly kind: RepairKind
  readonly tenant_id: string
  readonly endpoint_key: string
  readonly endpoint_id: string | null
  readonly criteria: string
  readonly max_per_second: number
  readonly state: RepairState
  readonly reason: string | null
  readonly cursor: string
  readonly next_step_at_ms: number
  readonly worker: number
  readonly matched: number
  readonly queued: number
  readonly skipped: string
  readonly created_at_ms: number
  readonly ended_at_ms: number | null
  readonly pending: number
}

function toRecord(row: RepairRow, { worker }: Session): RepairRecord {
  return {
    id: row.id,
    kind: row.kind,
    tenantId: fromText(row.tenant_id),
    endpointKey: row.endpoint_key,
    endpointId: row.endpoint_id === null ? row.endpoint_key : fromText(row.endpoint_id),
    criteria: JSON.parse(fromText(row.criteria)) as RepairCriteria,
    maxPerSecond: row.max_per_second,
    state: row.state,
    reason: row.reason,
    cursor: row.cursor,
    nextStepAtMs: row.next_step_at_ms,
    isOwn: row.worker === worker.id,
    matched: row.matched,
    queued: row.queued,
    skipped: JSON.parse(row.skipped) as Record<string, number>,
    createdAtMs: row.created_at_ms,
    endedAtMs: row.ended_at_ms,
    pending: row.pending,
  }
}
