/** Questions about single events and deliveries. Reads live and ended ones as one. */
import { deliveryIdRange } from '../../model/ids.ts'
import type { AttemptFound, DeliveryFound, EventFound } from '../questions.ts'
import { type AttemptRow, attemptOf, type DeliveryRow, deliveryOf } from '../rows.ts'
import type { Session } from './session.ts'

/**
 * The columns of a delivery. A member of a sealed batch shows the state, the attempts and the due
 * time of its batch, whose row is the one that changes.
 */
export const liveColumns = `
  live.id, event.id as event_id, event.type as event_type, event.tenant_id, live.endpoint_key,
  coalesce(endpoint.id, live.endpoint_key) as endpoint_id,
  coalesce(carrier.state, live.state) as state, coalesce(carrier.reason, live.reason) as reason,
  live.round, coalesce(carrier.attempts, live.attempts) as attempts, live.batch_id,
  live.created_at_ms, coalesce(carrier.due_at_ms, live.due_at_ms) as due_at_ms,
  coalesce(carrier.expires_at_ms, live.expires_at_ms) as expires_at_ms,
  null as settled_at_ms, null as retried_as`

export const liveJoins = `
  join event on event.key = live.event_key
  left join endpoint on endpoint.key = live.endpoint_key
  left join live carrier on carrier.id = live.batch_id`

export const doneColumns = `
  done.id, event.id as event_id, event.type as event_type, event.tenant_id, done.endpoint_key,
  coalesce(endpoint.id, done.endpoint_key) as endpoint_id, done.state, done.reason, done.round,
  done.attempts, done.batch_id, done.created_at_ms, null as due_at_ms,
  null as expires_at_ms, done.settled_at_ms,
  done.retried_as`

export const doneJoins = `
  join event on event.key = done.event_key
  left join endpoint on endpoint.key = done.endpoint_key`

const findEventRow = `
  select event.key, event.id, event.type, event.tenant_id, event.accepted_at_ms, event.body,
         coalesce(fan_out.total - fan_out.position, 0) as pending
    from event_key join event on event.key = event_key.key
         left join fan_out on fan_out.event_key = event.key
   where event_key.tenant_id = ? and event_key.id = ?`

const findDeliveriesOfEvent = `
  select ${liveColumns} from live ${liveJoins} where live.id >= ?1 and live.id < ?2
  union all
  select ${doneColumns} from done ${doneJoins} where done.id >= ?1 and done.id < ?2
   order by 1`

const findDeliveryRow = `
  select ${liveColumns} from live ${liveJoins} where live.id = ?1
  union all
  select ${doneColumns} from done ${doneJoins} where done.id = ?1`

const findAttempts = `
  select number, started_at_ms, latency_ms, outcome, http_status, error, response_body,
         endpoint_version, late
    from attempt_made where delivery_id = ? order by token`

type Reader = Pick<Session, 'connection'>

export function findEvent(
  { connection }: Reader,
  tenantId: string,
  eventId: string,
): EventFound | null {
  const row = connection.get<{
    key: string
    id: string
    type: string
    tenant_id: string
    accepted_at_ms: number
    body: Uint8Array | null
    pending: number
  }>(findEventRow, tenantId, eventId)
  if (row === undefined) return null
  const { from, to } = deliveryIdRange(row.key)
  return {
    key: row.key,
    id: row.id,
    type: row.type,
    tenantId: row.tenant_id,
    acceptedAtMs: row.accepted_at_ms,
    body: row.body,
    deliveries: connection
      .all<DeliveryRow>(findDeliveriesOfEvent, from, to)
      .map((row) => deliveryOf(row)),
    pendingFanOut: row.pending,
  }
}

export function findDelivery({ connection }: Reader, id: string): DeliveryFound | null {
  const row = connection.get<DeliveryRow>(findDeliveryRow, id)
  return row ? deliveryOf(row) : null
}

/** A batch's attempts are its members'; what they were given before come first. */
export function attemptsOf(
  { connection }: Session,
  deliveries: readonly Pick<DeliveryFound, 'id' | 'batchId'>[],
): Map<string, AttemptFound[]> {
  const read = (id: string) =>
    connection.all<AttemptRow>(findAttempts, id).map((row) => attemptOf(row))
  const ofBatch = new Map<string, AttemptFound[]>()
  const found = new Map<string, AttemptFound[]>()
  for (const { id, batchId } of deliveries) {
    const attempts = read(id)
    if (batchId !== null) {
      const shared = ofBatch.get(batchId) ?? read(batchId)
      ofBatch.set(batchId, shared)
      attempts.push(...shared)
    }
    found.set(id, attempts)
  }
  return found
}
