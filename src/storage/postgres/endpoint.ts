/**
 * Endpoints and the history of their changes. Knows how a record lies in columns; decides nothing.
 * Every change raises the one number that tells other processes that there is something to read.
 */

import {
  type ChangedEndpoints,
  type EndpointChange,
  historyLength,
  liftsFlow,
  type StoredEndpoint,
} from '../endpoints.ts'
import { type EndpointRow, endpointOf } from '../rows.ts'
import type { Connection, SqlValue } from './connection.ts'
import { liftFlow, removeFlow, restartSendTimes } from './flow.ts'
import { unblockKeys } from './order.ts'
import type { Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

const columns = [
  ...['key', 'id', 'tenant_id', 'url', 'events', 'name', 'description', 'status', 'status_reason'],
  ...['status_changed_at_ms', 'secrets', 'signature_schemes', 'filters', 'body_filter'],
  ...['retry_config', 'headers', 'tls', 'timeout_ms', 'concurrency', 'rate_limit', 'batch'],
  ...['ordering', 'version', 'warning'],
  ...['created_at_ms', 'updated_at_ms'],
]

const insertEndpoint = `
  insert into kmsg.endpoint (${columns.join(', ')})
  values (${columns.map((_, i) => `$${i + 1}`).join(', ')})`

/** Nothing when the key, or the id within its tenant, is there already. */
const insertNewEndpoint = `${insertEndpoint} on conflict do nothing`

const upsertEndpoint = `${insertEndpoint}
  on conflict (key) do update
     set ${columns
       .filter((column) => column !== 'key' && column !== 'created_at_ms')
       .map((column) => `${column} = excluded.${column}`)
       .join(', ')},
         removed_at_ms = null`

/** Keys are random: one that met that of an endpoint removed long ago must not take its place. */
const upsertSameEndpoint = `${upsertEndpoint}
   where endpoint.tenant_id = excluded.tenant_id and endpoint.id = excluded.id`

const seen = `$${columns.length + 1}`
const updateSeenEndpoint = `${upsertEndpoint}
   where endpoint.version = ${seen}::bigint and endpoint.removed_at_ms is null`

/** What was to be written is there: by an earlier try whose answer was lost. */
const isThere = `
  select from kmsg.endpoint
   where removed_at_ms is null
     and row(${columns.join(', ')}) is not distinct from row(${columns.map((_, i) => `$${i + 1}`).join(', ')})`

const readEndpoints = `
  select ${columns.join(', ')} from kmsg.endpoint where removed_at_ms is null order by key`

const insertChange = `
  insert into kmsg.endpoint_change (endpoint_key, version, what, at_ms, reason, fields)
  values ($1, $2, $3, $4, $5, $6) on conflict do nothing`

/** The name stays for old deliveries; what could sign or send for it does not. */
const tombstone = `
  update kmsg.endpoint
     set removed_at_ms = $1::bigint, updated_at_ms = $1::bigint, version = $2, secrets = '[]',
         headers = '{}', tls = 'null'
   where key = $3`

const dropHealth = 'delete from kmsg.endpoint_health where endpoint_key = $1'

const readChanged = `
  select ${columns.join(', ')}, removed_at_ms is not null as removed from kmsg.endpoint
   where changed > $1 order by key`

/** The row of the number is held until the end of the transaction: so numbers commit in order. */
const raise = `
  with raised as (update kmsg.endpoints_version set number = number + 1 returning number)
  update kmsg.endpoint set changed = raised.number from raised where key = any($1::text[])`

const readVersion = 'select number from kmsg.endpoints_version'

const readHistory = `
  select version, what, at_ms, reason, fields from kmsg.endpoint_change
   where endpoint_key = $1 and (version, at_ms, what) < ($2, $3, $4)
   order by version desc, at_ms desc, what desc limit $5`

const forgetOldChanges = `
  delete from kmsg.endpoint_change
   where endpoint_key = $1
     and (version, at_ms, what) <= (select version, at_ms, what from kmsg.endpoint_change
                                     where endpoint_key = $1
                                     order by version desc, at_ms desc, what desc
                                     limit 1 offset $2)`

/** After every change there is. */
const theEnd: Pick<EndpointChange, 'version' | 'atMs' | 'what'> = {
  version: Number.MAX_SAFE_INTEGER,
  atMs: 0,
  what: '',
}

/** Others read these endpoints again. The last that a transaction does: it lets nobody else change any. */
export async function raiseVersion(
  connection: Connection,
  changedKeys: readonly string[],
): Promise<void> {
  await connection.run(raise, textArray(changedKeys))
}

export async function loadEndpoints({ database }: Session): Promise<StoredEndpoint[]> {
  const rows = await database.read((connection) => connection.all<EndpointRow>(readEndpoints))
  return rows.map((row) => endpointOf(row, fromText))
}

export async function changedEndpoints(
  { database }: Session,
  sinceVersion: number,
): Promise<ChangedEndpoints> {
  return await database.snapshot(async (connection) => {
    const row = await connection.get<{ number: number }>(readVersion)
    const rows = await connection.all<EndpointRow & { removed: boolean }>(readChanged, sinceVersion)
    return {
      version: row?.number ?? 0,
      endpoints: rows.filter(({ removed }) => !removed).map((row) => endpointOf(row, fromText)),
      removedKeys: rows.filter(({ removed }) => removed).map(({ key }) => key),
    }
  })
}

export async function saveEndpoint(
  session: Session,
  record: StoredEndpoint,
  change: EndpointChange,
  seenVersion: number | null | undefined,
): Promise<boolean> {
  const { database, hints } = session
  let isFreed = false
  const isWritten = await database.write(async (connection) => {
    const values = toValues(record)
    const rows =
      seenVersion === undefined
        ? await connection.run(upsertSameEndpoint, ...values)
        : seenVersion === null
          ? await connection.run(insertNewEndpoint, ...values)
          : await connection.run(updateSeenEndpoint, ...values, seenVersion)
    if (rows === 0 && seenVersion === undefined)
      throw new Error(`The key of endpoint "${record.id}" is another one's; register it again.`)
    if (rows === 0) return (await connection.get(isThere, ...values)) !== undefined
    await appendChange(connection, record.key, change)
    if (change.fields.includes('rateLimit')) await restartSendTimes(connection, record.key)
    if (liftsFlow(record, change)) await liftFlow(connection, record.key)
    isFreed =
      change.fields.includes('ordering') &&
      (await unblockKeys(session, connection, record.key, null, Math.round(change.atMs)))
    await raiseVersion(connection, [record.key])
    return true
  })
  if (isWritten) hints.endpoints()
  if (isFreed) hints.due([record.key])
  return isWritten
}

export async function removeEndpoint(
  { database, hints }: Session,
  key: string,
  change: EndpointChange,
): Promise<void> {
  await database.write(async (connection) => {
    await connection.run(tombstone, Math.round(change.atMs), change.version, key)
    await connection.run(dropHealth, key)
    await appendChange(connection, key, change)
    await removeFlow(connection, key)
    await raiseVersion(connection, [key])
  })
  hints.endpoints()
}

export async function endpointHistory(
  { database }: Session,
  key: string,
  limit: number,
  before: EndpointChange | null,
): Promise<EndpointChange[]> {
  const { version: below, atMs: belowMs, what: belowWhat } = before ?? theEnd
  const rows = await database.read((connection) =>
    connection.all<{
      version: number
      what: string
      at_ms: number
      reason: string | null
      fields: string
    }>(readHistory, key, below, Math.round(belowMs), belowWhat, limit),
  )
  return rows.reverse().map(({ version, what, at_ms: atMs, reason, fields }) => ({
    atMs,
    version,
    what,
    reason: reason && fromText(reason),
    fields: JSON.parse(fields),
  }))
}

export async function appendChange(
  connection: Connection,
  key: string,
  { version, what, atMs, reason, fields }: EndpointChange,
): Promise<void> {
  const said = reason && toText(reason)
  const at = Math.round(atMs)
  await connection.run(insertChange, key, version, what, at, said, JSON.stringify(fields))
  await connection.run(forgetOldChanges, key, historyLength)
}

/** In the order of `columns`. JSON escapes NUL by itself. */
function toValues(record: StoredEndpoint): SqlValue[] {
  const { statusReason, signatureSchemes, rateLimit, warning } = record
  return [
    record.key,
    toText(record.id),
    toText(record.tenantId),
    toText(record.url),
    JSON.stringify(record.events),
    toText(record.name),
    toText(record.description),
    record.status,
    statusReason && toText(statusReason),
    Math.round(record.statusChangedAtMs),
    JSON.stringify(record.secrets),
    signatureSchemes && JSON.stringify(signatureSchemes),
    JSON.stringify(record.filters),
    JSON.stringify(record.bodyFilter),
    JSON.stringify(record.retryConfig),
    JSON.stringify(record.headers),
    JSON.stringify(record.tls),
    record.timeoutMs,
    record.concurrency,
    rateLimit && JSON.stringify(rateLimit),
    JSON.stringify(record.batch),
    JSON.stringify(record.ordering),
    record.version,
    warning && toText(warning),
    Math.round(record.createdAtMs),
    Math.round(record.updatedAtMs),
  ]
}
