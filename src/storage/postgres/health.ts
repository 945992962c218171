/** The runs of failures of endpoints, written only by whoever saw the last state. */
import type { EndpointHealth } from '../../model/health.ts'
import type { EndpointChange, HealthSaved } from '../endpoints.ts'
import { type HealthRow, healthOf } from '../rows.ts'
import type { Connection } from './connection.ts'
import { appendChange } from './endpoint.ts'
import type { Session } from './session.ts'

const columns = `endpoint_key, revision, failing_since_ms, last_failed_at_ms, failed_hours,
       failed_deliveries, warned, warned_at_ms, cleared_at_ms`

const readFailing = `select ${columns} from kmsg.endpoint_health where failing_since_ms is not null`
const readOne = `select ${columns} from kmsg.endpoint_health where endpoint_key = $1`

const save = `
  insert into kmsg.endpoint_health as h (${columns})
  values ($1, $2::bigint + 1, $3, $4, $5, $6, $7, $8, $9)
  on conflict (endpoint_key) do update
     set revision = excluded.revision, failing_since_ms = excluded.failing_since_ms,
         last_failed_at_ms = excluded.last_failed_at_ms, failed_hours = excluded.failed_hours,
         failed_deliveries = excluded.failed_deliveries, warned = excluded.warned,
         warned_at_ms = excluded.warned_at_ms, cleared_at_ms = excluded.cleared_at_ms
   where h.revision = $2::bigint`

export async function loadHealth({ database }: Session): Promise<EndpointHealth[]> {
  const rows = await database.read((connection) => connection.all<HealthRow>(readFailing))
  return rows.map(healthOf)
}

export async function saveHealth(
  { database }: Session,
  health: EndpointHealth,
  change: EndpointChange | null,
): Promise<HealthSaved> {
  return await database.write((connection) => write(connection, health, change))
}

async function write(
  connection: Connection,
  health: EndpointHealth,
  change: EndpointChange | null,
): Promise<HealthSaved> {
  const written = await connection.run(
    save,
    health.endpointKey,
    health.revision,
    health.failingSinceMs === null ? null : Math.round(health.failingSinceMs),
    Math.round(health.lastFailedAtMs),
    health.failedHours,
    health.failedDeliveries,
    health.warned,
    Math.round(health.warnedAtMs),
    Math.round(health.clearedAtMs),
  )
  if (written === 1 && change !== null) await appendChange(connection, health.endpointKey, change)
  const row = (await connection.get<HealthRow>(readOne, health.endpointKey)) as HealthRow
  return { isWritten: written === 1, health: healthOf(row) }
}
