/**
 * Repairs of many deliveries. A step moves the cursor and writes what was chosen in one transaction,
 * so that a crash between two steps loses nothing and repeats nothing.
 */
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
import { retry } from './retry.ts'
import { closedReason, type Session } from './session.ts'
import { SlotsToWrite } from './slot.ts'

const insertRepair = `
  insert into repair (id, kind, tenant_id, endpoint_key, criteria, max_per_second, state, cursor,
                      next_step_at_ms, worker, created_at_ms)
  values (?1, ?2, ?3, ?4, ?5, ?6, 'running', ?7, ?8, ?9, ?8) on conflict do nothing`

const selectRepairs = `
  select repair.*,
         (select id from endpoint where key = repair.endpoint_key) as endpoint_id,
         (select count(*) from (
           select 1 from live where repair_id = repair.id and due_at_ms <= ?1
            limit ${maxPendingCounted})) as pending
    from repair`
const repairById = `${selectRepairs} where id = ?2`
const runningRepairs = `
  ${selectRepairs} where state = 'running' and (?2 is null or tenant_id = ?2)
   order by id desc limit ?3`
const allRepairs = `
  ${selectRepairs} where (?2 is null or tenant_id = ?2) order by id desc limit ?3`

const moveOn = `
  update repair set cursor = ?, next_step_at_ms = ?, matched = ?, queued = ?, skipped = ?, worker = ?
   where id = ?`
const end = `
  update repair set state = ?, reason = ?, ended_at_ms = ? where id = ? and state = 'running'`

const wasRetried = 'select 1 from done where id = ? and retried_as is not null'

/** An event that an endpoint never got, unless it has it by now. Counted as matched from now on. */
const insertMissing = `
  insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts, due_at_ms,
                    round, created_at_ms, repair_id)
  select ?1, 'single', 1, key, ?3, 'waiting', 0, 0, ?4, 1, ?4, ?5 from event
   where key = ?2 and body is not null
     and not exists (select 1 from live where live.id >= ?1 and live.id < ?1 || '\`')
     and not exists (select 1 from done where done.id >= ?1 and done.id < ?1 || '\`')
     and not exists (select 1 from fan_out, json_each(fan_out.targets) each
                      where fan_out.event_key = event.key and each.value ->> 1 = ?3)`
const hasBody = 'select 1 from event where key = ? and body is not null'
const oneMoreMatched = 'update event set matched = matched + 1 where key = ?'

export function createRepair(session: Session, repair: NewRepair): void {
  const { id, kind, tenantId, endpointKey, criteria, maxPerSecond, createdAtMs, cursor } = repair
  session.connection.run(
    insertRepair,
    ...[id, kind, tenantId, endpointKey, JSON.stringify(criteria), maxPerSecond],
    ...[cursor, createdAtMs, session.owner],
  )
}

export function listRepairs(
  session: Session,
  { id, tenantId, onlyRunning, limit }: RepairQuery,
  nowMs: number,
): RepairRecord[] {
  const { connection } = session
  if (id !== null) {
    const found = findRepair(session, id, nowMs)
    return found === null || (tenantId !== null && found.tenantId !== tenantId) ? [] : [found]
  }
  const sql = onlyRunning ? runningRepairs : allRepairs
  return connection.all<RepairRow>(sql, nowMs, tenantId, limit).map(toRecord)
}

function findRepair({ connection }: Session, id: string, nowMs: number): RepairRecord | null {
  const row = connection.get<RepairRow>(repairById, nowMs, id)
  return row === undefined ? null : toRecord(row)
}

export function endRepair(
  { connection }: Session,
  id: string,
  state: RepairState,
  reason: string,
  nowMs: number,
): boolean {
  return connection.run(end, state, reason, nowMs, id) === 1
}

export function stepRepair(session: Session, step: RepairStep, nowMs: number): RepairStepped {
  return session.connection.write(() => {
    const before = findRepair(session, step.id, nowMs)
    if (before === null || before.state !== 'running' || before.cursor !== step.from) {
      return { isWritten: false, record: before }
    }
    const closed = closedReason(session, before.endpointKey)
    if (closed === null) writeStep(session, before, step, nowMs)
    else endRepair(session, step.id, 'failed', closed, nowMs)
    return { isWritten: true, record: findRepair(session, step.id, nowMs) }
  })
}

function writeStep(
  session: Session,
  before: RepairRecord,
  { id, to, take, matched, skipped, nextStepAtMs }: RepairStep,
  nowMs: number,
): void {
  const met: Record<string, number> = {}
  let queued = 0
  const slots = new SlotsToWrite(session)
  for (const one of take) {
    const refused =
      before.kind === 'backfill' && parseDeliveryId(one) === null
        ? createMissing(session, before, one, nowMs, slots)
        : requeue(session, one, nowMs, id)
    if (refused === null) queued += 1
    else met[refused] = (met[refused] ?? 0) + 1
  }
  slots.write()
  session.connection.run(
    moveOn,
    ...[to ?? before.cursor, nextStepAtMs, before.matched + matched, before.queued + queued],
    ...[JSON.stringify(addSkipped(addSkipped(before.skipped, skipped), met)), session.owner, id],
  )
  if (to === null) session.connection.run(end, 'done', null, nowMs, id)
}

const refusals = {
  'in-flight': 'in_flight',
  'behind another of its key': 'behind_another',
  'body-gone': 'body_gone',
  unknown: 'gone',
} as const

/** @returns null when it is queued, else why not */
function requeue(session: Session, id: string, nowMs: number, repairId: string): string | null {
  if (session.connection.get(wasRetried, id) !== undefined) return 'retried_meanwhile'
  const result = retry(session, id, nowMs, repairId)
  if ('deliveryId' in result) return null
  return refusals[result.kind]
}

/** @returns null when it is queued, else why not */
function createMissing(
  { connection, tally }: Session,
  { endpointKey, id: repairId }: RepairRecord,
  eventKey: string,
  nowMs: number,
  slots: SlotsToWrite,
): string | null {
  const id = deliveryId(eventKey, endpointKey, 1)
  if (connection.run(insertMissing, id, eventKey, endpointKey, nowMs, repairId) === 0) {
    return connection.get(hasBody, eventKey) === undefined ? 'body_gone' : 'already_there'
  }
  connection.run(oneMoreMatched, eventKey)
  slots.add(endpointKey, id)
  tally.add(1, 0)
  return null
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
  readonly matched: number
  readonly queued: number
  readonly skipped: string
  readonly created_at_ms: number
  readonly ended_at_ms: number | null
  readonly pending: number
}

function toRecord(row: RepairRow): RepairRecord {
  return {
    id: row.id,
    kind: row.kind,
    tenantId: row.tenant_id,
    endpointKey: row.endpoint_key,
    endpointId: row.endpoint_id ?? row.endpoint_key,
    criteria: JSON.parse(row.criteria) as RepairCriteria,
    maxPerSecond: row.max_per_second,
    state: row.state,
    reason: row.reason,
    cursor: row.cursor,
    nextStepAtMs: row.next_step_at_ms,
    // The file belongs to one process.
    isOwn: true,
    matched: row.matched,
    queued: row.queued,
    skipped: JSON.parse(row.skipped) as Record<string, number>,
    createdAtMs: row.created_at_ms,
    endedAtMs: row.ended_at_ms,
    pending: row.pending,
  }
}
