/**
 * Endpoints and the history of their changes. Knows how a record lies in columns; decides nothing.
 *
 * A row may hold secrets in the clear, so whatever replaces a row, here or elsewhere, has the old
 * bytes zeroed (Connection.erasing), and the log is begun anew soon after (Checkpoints.scrub).
 */

import {
  type EndpointChange,
  encryptedFields,
  historyLength,
  liftsFlow,
  type StoredEndpoint,
} from '../endpoints.ts'
import { type EndpointRow, endpointOf } from '../rows.ts'
import { liftFlow, removeFlow, restartSendTimes } from './flow.ts'
import { unblockKeys } from './order.ts'
import type { Session } from './session.ts'

const readEndpoints = 'select * from endpoint where removed_at_ms is null order by key'

const upsertEndpoint = `
  insert into endpoint (key, id, tenant_id, url, events, name, description, status, status_reason,
                        status_changed_at_ms, secrets, signature_schemes, filters, body_filter,
                        retry_config, headers, tls, timeout_ms, concurrency, rate_limit, batch,
                        ordering, version, warning, created_at_ms, updated_at_ms)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  on conflict (key) do update
     set id = excluded.id, tenant_id = excluded.tenant_id, url = excluded.url,
         events = excluded.events, name = excluded.name, description = excluded.description,
         status = excluded.status, status_reason = excluded.status_reason,
         status_changed_at_ms = excluded.status_changed_at_ms, secrets = excluded.secrets,
         signature_schemes = excluded.signature_schemes,
         filters = excluded.filters, body_filter = excluded.body_filter,
         retry_config = excluded.retry_config,
         headers = excluded.headers, tls = excluded.tls, timeout_ms = excluded.timeout_ms,
         concurrency = excluded.concurrency, rate_limit = excluded.rate_limit,
         batch = excluded.batch, ordering = excluded.ordering, version = excluded.version, warning = excluded.warning,
         updated_at_ms = excluded.updated_at_ms, removed_at_ms = null
   where tenant_id = excluded.tenant_id and id = excluded.id`

const insertChange = `
  insert into endpoint_change (endpoint_key, version, what, at_ms, reason, fields)
  values (?, ?, ?, ?, ?, ?) on conflict do nothing`

/** The name stays for old deliveries; what could sign or send for it does not. */
const tombstone = `
  update endpoint
     set removed_at_ms = ?, updated_at_ms = ?, version = ?, secrets = '[]', headers = '{}',
         tls = 'null'
   where key = ?`

const dropHealth = 'delete from endpoint_health where endpoint_key = ?'

const readHistory = `
  select version, what, at_ms, reason, fields from endpoint_change
   where endpoint_key = ? and (version, at_ms, what) < (?, ?, ?)
   order by version desc, at_ms desc, what desc limit ?`

const forgetOldChanges = `
  delete from endpoint_change
   where endpoint_key = ?1
     and (version, at_ms, what) <= (select version, at_ms, what from endpoint_change
                                     where endpoint_key = ?1
                                     order by version desc, at_ms desc, what desc
                                     limit 1 offset ?2)`

/** After every change there is. */
const theEnd: Pick<EndpointChange, 'version' | 'atMs' | 'what'> = {
  version: Number.MAX_SAFE_INTEGER,
  atMs: 0,
  what: '',
}

export function loadEndpoints({ connection }: Session): StoredEndpoint[] {
  return connection.all<EndpointRow>(readEndpoints).map((row) => endpointOf(row))
}

export function saveEndpoint(
  session: Session,
  record: StoredEndpoint,
  change: EndpointChange,
): void {
  const { connection, endpoints } = session
  rewriteEndpoints(session, change, () => {
    const written = connection.run(
      upsertEndpoint,
      record.key,
      record.id,
      record.tenantId,
      record.url,
      JSON.stringify(record.events),
      record.name,
      record.description,
      record.status,
      record.statusReason,
      Math.round(record.statusChangedAtMs),
      JSON.stringify(record.secrets),
      record.signatureSchemes && JSON.stringify(record.signatureSchemes),
      JSON.stringify(record.filters),
      JSON.stringify(record.bodyFilter),
      JSON.stringify(record.retryConfig),
      JSON.stringify(record.headers),
      JSON.stringify(record.tls),
      record.timeoutMs,
      record.concurrency,
      record.rateLimit && JSON.stringify(record.rateLimit),
      JSON.stringify(record.batch),
      JSON.stringify(record.ordering),
      record.version,
      record.warning,
      Math.round(record.createdAtMs),
      Math.round(record.updatedAtMs),
    )
    if (written === 0) {
      // Keys are random: one that met that of an endpoint removed long ago must not take its place.
      throw new Error(`The key of endpoint "${record.id}" is another one's; register it again.`)
    }
    appendChange(session, record.key, change)
    if (change.fields.includes('rateLimit')) restartSendTimes(session, record.key)
    if (liftsFlow(record, change)) liftFlow(session, record.key)
    if (change.fields.includes('ordering')) unblockKeys(session, record.key, null, change.atMs)
    const { key, status } = record
    connection.afterCommit(() => endpoints.set(key, { status, removed: false }))
  })
}

export function removeEndpoint(session: Session, key: string, change: EndpointChange): void {
  const { connection, endpoints } = session
  const atMs = Math.round(change.atMs)
  rewriteEndpoints(session, change, () => {
    connection.run(tombstone, atMs, atMs, change.version, key)
    connection.run(dropHealth, key)
    appendChange(session, key, change)
    removeFlow(session, key)
    connection.afterCommit(() => endpoints.set(key, { status: 'disabled', removed: true }))
  })
}

function rewriteEndpoints(session: Session, change: EndpointChange, work: () => void): void {
  const { connection } = session
  connection.erasing(() => connection.write(work))
  const { what, fields } = change
  if (what === 'removed' || encryptedFields.some((field) => fields.includes(field))) {
    session.mustScrubLog = true
  }
}

export function endpointHistory(
  { connection }: Session,
  key: string,
  limit: number,
  before: EndpointChange | null,
): EndpointChange[] {
  const { version: below, atMs: belowMs, what: belowWhat } = before ?? theEnd
  const rows = connection.all<{
    version: number
    what: string
    at_ms: number
    reason: string | null
    fields: string
  }>(readHistory, key, below, Math.round(belowMs), belowWhat, limit)
  return rows.reverse().map(({ version, what, at_ms: atMs, reason, fields }) => ({
    atMs,
    version,
    what,
    reason,
    fields: JSON.parse(fields),
  }))
}

export function appendChange(
  { connection }: Session,
  key: string,
  { version, what, atMs, reason, fields }: EndpointChange,
): void {
  const at = Math.round(atMs)
  connection.run(insertChange, key, version, what, at, reason, JSON.stringify(fields))
  connection.run(forgetOldChanges, key, historyLength)
}
