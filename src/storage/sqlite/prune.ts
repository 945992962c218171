/**
 * Retention: deletes what has outlived its time, in slices of bounded cost. Three walks along the
 * order of ids, which is the order of time: ended deliveries with their attempts, settled batches,
 * events with their ids; then the slots that nothing is left in, and repairs that have ended. What
 * must outlive its time is passed over: a body that is still to be sent, a delivery that holds its key
 * up (and its body, so that it can be retried), the row and the id of an event that has deliveries. What
 * goes is counted, so that the audit still adds up.
 */
import { deliveryIdRange, eventKeyFloor } from '../../model/ids.ts'
import type { RetentionCutoffs } from '../upkeep.ts'
import { membersFromJson } from './batch.ts'
import type { Session } from './session.ts'
import { pruneSlots } from './slot.ts'

/** Where the walk is: the last id looked at. */
export interface PrunePosition {
  readonly walk: 'deliveries' | 'batches' | 'events' | 'slots' | 'repairs'
  readonly after: string
}

export interface PruneSlice {
  readonly deleted: number
  /** Null when the last walk is through. */
  readonly next: PrunePosition | null
}

export const pruneStart: PrunePosition = { walk: 'deliveries', after: '' }

/** Read once per slice: they are few, and are not found by their delivery. */
const oldDeliveries = `
  select id, event_key, endpoint_key, state, round, attempts, batch_id, settled_at_ms,
         id in (select delivery_id from order_block) as is_blocking
    from done where id > ? and id < ? order by id limit ?`

const oldBatches = `
  select id, endpoint_key, settled_at_ms, members
    from batch where id > ? and id < ? order by id limit ?`

const oldEvents = `
  select key, tenant_id, id, accepted_at_ms, body is not null as has_body,
         key in (select substr(delivery_id, 5, 24) from order_block) as is_blocking
    from event where key > ? and key < ? order by key limit ?`

const oldRepairs = `
  delete from repair where id in (select id from repair where ended_at_ms < ? order by id limit ?)`

const countAttempts = `
  select count(*) as counted from attempt where delivery_id = ? and late = 0`
const deleteAttempts = 'delete from attempt where delivery_id = ?'
const deleteAttemptsOfEvent = 'delete from attempt where delivery_id >= ? and delivery_id < ?'

const addPruned = `
  insert into pruned (endpoint_key, state, deliveries, attempts) values (?, ?, ?, ?)
  on conflict do update set deliveries = deliveries + excluded.deliveries,
                            attempts = attempts + excluded.attempts`

const deleteId = 'delete from event_key where tenant_id = ? and id = ? and key = ?'

const unsettled = `
  select exists (select 1 from live where id >= ?1 and id < ?2)
      or exists (select 1 from fan_out where event_key = ?3) as unsettled`

const endedOfEvent = `
  select count(*) as ended, max(iif(state = 'delivered', null, settled_at_ms)) as failed_at_ms
    from done where id >= ? and id < ?`

export function pruneSlice(
  session: Session,
  cutoffs: RetentionCutoffs,
  limit: number,
  position: PrunePosition,
): PruneSlice {
  return session.connection.write(() => {
    switch (position.walk) {
      case 'deliveries':
        return pruneDeliveries(session, cutoffs, limit, position.after)
      case 'batches':
        return pruneBatches(session, cutoffs, limit, position.after)
      case 'events':
        return pruneEvents(session, cutoffs, limit, position.after)
      case 'slots':
        return {
          deleted: 0,
          next: follow('slots', pruneSlots(session, limit, position.after), 'repairs'),
        }
      case 'repairs':
        return { deleted: pruneRepairs(session, cutoffs, limit), next: null }
      default:
        return position.walk satisfies never
    }
  })
}

function pruneDeliveries(
  { connection }: Session,
  { settledBeforeMs }: RetentionCutoffs,
  limit: number,
  after: string,
): PruneSlice {
  const below = `dlv_${eventKeyFloor(settledBeforeMs)}`
  const rows = connection.all<DeliveryRow>(oldDeliveries, after, below, limit)
  let deleted = 0
  for (const row of rows) {
    if (row.settled_at_ms >= settledBeforeMs || row.is_blocking === 1) continue
    // The attempts of a batch are counted once, with the batch.
    const attempts = row.batch_id === null ? row.attempts : 0
    connection.run('delete from done where id = ?', row.id)
    connection.run(deleteAttempts, row.id)
    connection.run(addPruned, row.endpoint_key, row.state, 1, attempts)
    if (row.round === 1) {
      connection.run('update event set pruned = pruned + 1 where key = ?', row.event_key)
    }
    deleted += 1
  }
  return { deleted, next: follow('deliveries', rows[limit - 1]?.id, 'batches') }
}

function pruneBatches(
  { connection }: Session,
  { settledBeforeMs }: RetentionCutoffs,
  limit: number,
  after: string,
): PruneSlice {
  const below = `bat_${eventKeyFloor(settledBeforeMs)}`
  const rows = connection.all<BatchRow>(oldBatches, after, below, limit)
  let deleted = 0
  for (const row of rows) {
    if (row.settled_at_ms === null || row.settled_at_ms >= settledBeforeMs) continue
    const hasMember = membersFromJson(row.members).some(({ deliveryId }) =>
      connection.get('select 1 from done where id = ? and batch_id = ?', deliveryId, row.id),
    )
    if (hasMember) continue
    const { counted } = connection.get<{ counted: number }>(countAttempts, row.id) ?? { counted: 0 }
    connection.run('delete from batch where id = ?', row.id)
    connection.run(deleteAttempts, row.id)
    connection.run(addPruned, row.endpoint_key, 'batch', 0, counted)
    deleted += 1
  }
  return { deleted, next: follow('batches', rows[limit - 1]?.id, 'events') }
}

function pruneEvents(
  session: Session,
  cutoffs: RetentionCutoffs,
  limit: number,
  after: string,
): PruneSlice {
  const below = eventKeyFloor(Math.max(...Object.values(cutoffs)))
  const rows = session.connection.all<EventRow>(oldEvents, after, below, limit)
  let deleted = 0
  for (const row of rows) deleted += pruneEvent(session, cutoffs, row)
  return { deleted, next: follow('events', rows[limit - 1]?.key, 'slots') }
}

/** @returns rows changed or deleted */
function pruneEvent({ connection }: Session, cutoffs: RetentionCutoffs, row: EventRow): number {
  const { key, accepted_at_ms: acceptedAtMs } = row
  const rowMayGo = acceptedAtMs < Math.min(cutoffs.eventIdsBeforeMs, cutoffs.settledBeforeMs)
  if (row.is_blocking === 1 || (row.has_body === 0 && !rowMayGo)) return 0
  const { from, to } = deliveryIdRange(key)
  if (connection.get<{ unsettled: number }>(unsettled, from, to, key)?.unsettled === 1) return 0
  const { ended, failed_at_ms: failedAtMs } = connection.get<EndedRow>(endedOfEvent, from, to) ?? {
    ended: 0,
    failed_at_ms: null,
  }
  const bodyIsOver =
    failedAtMs === null
      ? acceptedAtMs < cutoffs.deliveredBodiesBeforeMs
      : failedAtMs < cutoffs.failedBodiesBeforeMs
  if (row.has_body === 1 && !bodyIsOver) return 0
  if (rowMayGo && ended === 0) {
    // Late attempts have no delivery to go with.
    connection.run(deleteAttemptsOfEvent, from, to)
    // Never before its event: what is sent or kept must be found, and be no other event's.
    const ids = connection.run(deleteId, row.tenant_id, row.id, key)
    return ids + connection.run('delete from event where key = ?', key)
  }
  if (row.has_body === 0) return 0
  return connection.run('update event set body = null where key = ?', key)
}

/** They are few, and no other row needs theirs. */
function pruneRepairs(
  { connection }: Session,
  { settledBeforeMs }: RetentionCutoffs,
  limit: number,
): number {
  return connection.run(oldRepairs, settledBeforeMs, limit)
}

function follow(
  walk: PrunePosition['walk'],
  lastOfFullSlice: string | null | undefined,
  then: PrunePosition['walk'] | null,
): PrunePosition | null {
  if (lastOfFullSlice) return { walk, after: lastOfFullSlice }
  return then === null ? null : { walk: then, after: '' }
}

interface DeliveryRow {
  readonly id: string
  readonly event_key: string
  readonly endpoint_key: string
  readonly state: string
  readonly round: number
  readonly attempts: number
  readonly batch_id: string | null
  readonly settled_at_ms: number
  readonly is_blocking: number
}

interface BatchRow {
  readonly id: string
  readonly endpoint_key: string
  readonly settled_at_ms: number | null
  readonly members: string
}

interface EventRow {
  readonly key: string
  readonly tenant_id: string
  readonly id: string
  readonly accepted_at_ms: number
  readonly has_body: number
  readonly is_blocking: number
}

interface EndedRow {
  readonly ended: number
  readonly failed_at_ms: number | null
}
