/** Questions about single events and deliveries. Reads live and ended ones as one. */
import { deliveryIdRange } from '../../model/ids.ts'
import type { AttemptFound, DeliveryFound, EventFound } from '../questions.ts'
import { type AttemptRow, attemptOf, type DeliveryRow, deliveryOf } from '../rows.ts'
import { eventOf } from './days.ts'
import type { Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

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
  null::bigint as settled_at_ms, null as retried_as`

export const liveJoins = `
  cross join lateral (${eventOf('live.event_key')}) as event
  left join kmsg.endpoint on endpoint.key = live.endpoint_key
  left join kmsg.live as carrier on carrier.id = live.batch_id`

export const doneColumns = `
  done.id, event.id as event_id, event.type as event_type, event.tenant_id, done.endpoint_key,
  coalesce(endpoint.id, done.endpoint_key) as endpoint_id, done.state, done.reason, done.round,
  done.attempts, done.batch_id, done.created_at_ms, null::bigint as due_at_ms,
  null::bigint as expires_at_ms, done.settled_at_ms,
  done.retried_as`

export const doneJoins = `
  cross join lateral (${eventOf('done.event_key')}) as event
  left join kmsg.endpoint on endpoint.key = done.endpoint_key`

const findEventRow = `
  select event.key, event.id, event.type, event.tenant_id, event.accepted_at_ms, event.body,
         coalesce(fan_out.total - fan_out.position, 0) as pending
    from kmsg.event_key cross join lateral (${eventOf('event_key.key')}) as event
         left join kmsg.fan_out on fan_out.event_key = event.key
   where event_key.tenant_id = $1 and event_key.id = $2`

const findDeliveriesOfEvent = `
  select ${liveColumns} from kmsg.live ${liveJoins} where live.id >= $1 and live.id < $2
  union all
  select ${doneColumns} from kmsg.done ${doneJoins} where done.id >= $1 and done.id < $2
   order by 1`

const findDeliveryRow = `
  select ${liveColumns} from kmsg.live ${liveJoins} where live.id = $1
  union all
  select ${doneColumns} from kmsg.done ${doneJoins} where done.id = $1`

/** For each by itself, and `offset 0` keeps it so: asked for all at once, all days are looked into. */
const findAttempts = `
  select made.*
    from unnest($1::text[]) as given (id) cross join lateral (
      select delivery_id, token, number, started_at_ms, latency_ms, outcome, http_status, error,
             response_body, endpoint_version, late
        from kmsg.attempt_made where delivery_id = given.id offset 0) as made
   order by delivery_id, token`

export async function findEvent(
  { database }: Pick<Session, 'database'>,
  tenantId: string,
  eventId: string,
): Promise<EventFound | null> {
  return await database.read(async (connection) => {
    const row = await connection.get<{
      key: string
      id: string
      type: string
      tenant_id: string
      accepted_at_ms: number
      body: Uint8Array | null
      pending: number
    }>(findEventRow, toText(tenantId), toText(eventId))
    if (row === undefined) return null
    const { from, to } = deliveryIdRange(row.key)
    const deliveries = await connection.all<DeliveryRow>(findDeliveriesOfEvent, from, to)
    return {
      key: row.key,
      id: fromText(row.id),
      type: fromText(row.type),
      tenantId: fromText(row.tenant_id),
      acceptedAtMs: row.accepted_at_ms,
      body: row.body,
      deliveries: deliveries.map((row) => deliveryOf(row, fromText)),
      pendingFanOut: row.pending,
    }
  })
}

export async function findDelivery(
  { database }: Pick<Session, 'database'>,
  id: string,
): Promise<DeliveryFound | null> {
  const row = await database.read((connection) =>
    connection.get<DeliveryRow>(findDeliveryRow, toText(id)),
  )
  return row ? deliveryOf(row, fromText) : null
}

/** A batch's attempts are its members'; what they were given before come first. */
export async function attemptsOf(
  { database }: Session,
  deliveries: readonly Pick<DeliveryFound, 'id' | 'batchId'>[],
): Promise<Map<string, AttemptFound[]>> {
  const ids = new Set(deliveries.flatMap(({ id, batchId }) => (batchId ? [id, batchId] : [id])))
  const rows = await database.read((connection) =>
    connection.all<AttemptRow & { delivery_id: string }>(findAttempts, textArray([...ids])),
  )
  const byId = new Map<string, AttemptFound[]>()
  for (const row of rows) {
    const some = byId.get(row.delivery_id)
    if (some) some.push(attemptOf(row, fromText))
    else byId.set(row.delivery_id, [attemptOf(row, fromText)])
  }
  return new Map(
    deliveries.map(({ id, batchId }) => [
      id,
      [...(byId.get(id) ?? []), ...((batchId && byId.get(batchId)) || [])],
    ]),
  )
}
