/**
 * How records lie in columns, in both databases: what a twin reads is what the other reads. `text`
 * gives back a text that the database could not hold as it was. Secrets, headers and TLS keys come as
 * they are stored: encrypted where the service has a key.
 */
import type { DeliveryState } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointHealth } from '../model/health.ts'
import { parseDeliveryId } from '../model/ids.ts'
import type { OutcomeKind } from '../model/outcome.ts'
import type { Candidate } from '../model/repair.ts'
import type { StoredEndpoint } from './endpoints.ts'
import type { AttemptFound, DeliveryFound } from './questions.ts'
import type { CandidatePage } from './repairs.ts'

export interface EndpointRow {
  readonly key: string
  readonly id: string
  readonly tenant_id: string
  readonly url: string
  readonly events: string
  readonly name: string
  readonly description: string
  readonly status: EndpointRecord['status']
  readonly status_reason: string | null
  readonly status_changed_at_ms: number
  readonly secrets: string
  readonly signature_schemes: string | null
  readonly filters: string
  readonly body_filter: string
  readonly retry_config: string
  readonly headers: string
  readonly tls: string
  readonly timeout_ms: number | null
  readonly concurrency: number | null
  readonly rate_limit: string | null
  readonly batch: string
  readonly ordering: string
  readonly version: number
  readonly warning: string | null
  readonly created_at_ms: number
  readonly updated_at_ms: number
}

export function endpointOf(row: EndpointRow, text = asItIs): StoredEndpoint {
  return {
    key: row.key,
    id: text(row.id),
    tenantId: text(row.tenant_id),
    url: text(row.url),
    events: JSON.parse(row.events),
    name: text(row.name),
    description: text(row.description),
    status: row.status,
    statusReason: row.status_reason && text(row.status_reason),
    statusChangedAtMs: row.status_changed_at_ms,
    secrets: JSON.parse(row.secrets),
    signatureSchemes: row.signature_schemes === null ? null : JSON.parse(row.signature_schemes),
    filters: JSON.parse(row.filters),
    bodyFilter: JSON.parse(row.body_filter),
    retryConfig: JSON.parse(row.retry_config),
    headers: JSON.parse(row.headers),
    tls: JSON.parse(row.tls),
    timeoutMs: row.timeout_ms,
    concurrency: row.concurrency,
    rateLimit: row.rate_limit === null ? null : JSON.parse(row.rate_limit),
    batch: JSON.parse(row.batch),
    ordering: JSON.parse(row.ordering),
    version: row.version,
    warning: row.warning && text(row.warning),
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
  }
}

export interface HealthRow {
  readonly endpoint_key: string
  readonly revision: number
  readonly failing_since_ms: number | null
  readonly last_failed_at_ms: number
  readonly failed_hours: number
  readonly failed_deliveries: number
  readonly warned: EndpointHealth['warned']
  readonly warned_at_ms: number
  readonly cleared_at_ms: number
}

export function healthOf(row: HealthRow): EndpointHealth {
  return {
    endpointKey: row.endpoint_key,
    revision: row.revision,
    failingSinceMs: row.failing_since_ms,
    lastFailedAtMs: row.last_failed_at_ms,
    failedHours: row.failed_hours,
    failedDeliveries: row.failed_deliveries,
    warned: row.warned,
    warnedAtMs: row.warned_at_ms,
    clearedAtMs: row.cleared_at_ms,
  }
}

export interface DeliveryRow {
  readonly id: string
  readonly event_id: string
  readonly event_type: string
  readonly tenant_id: string
  readonly endpoint_key: string
  readonly endpoint_id: string
  readonly state: DeliveryState
  readonly reason: string | null
  readonly round: number
  readonly attempts: number
  readonly batch_id: string | null
  readonly created_at_ms: number
  readonly due_at_ms: number | null
  readonly expires_at_ms: number | null
  readonly settled_at_ms: number | null
  readonly retried_as: string | null
}

export function deliveryOf(row: DeliveryRow, text = asItIs): DeliveryFound {
  return {
    id: row.id,
    eventId: text(row.event_id),
    eventType: text(row.event_type),
    tenantId: text(row.tenant_id),
    endpointKey: row.endpoint_key,
    endpointId: text(row.endpoint_id),
    state: row.state,
    reason: row.reason,
    round: row.round,
    attempts: row.attempts,
    batchId: row.batch_id,
    createdAtMs: row.created_at_ms,
    dueAtMs: row.due_at_ms,
    expiresAtMs: row.expires_at_ms,
    settledAtMs: row.settled_at_ms,
    retriedAs: row.retried_as,
  }
}

export interface AttemptRow {
  readonly number: number
  readonly started_at_ms: number
  readonly latency_ms: number
  readonly outcome: OutcomeKind
  readonly http_status: number | null
  readonly error: string | null
  readonly response_body: Uint8Array | null
  readonly endpoint_version: number
  /** 0 and 1 where the database has no booleans. */
  readonly late: boolean | number
}

export function attemptOf(row: AttemptRow, text = asItIs): AttemptFound {
  return {
    number: row.number,
    startedAtMs: row.started_at_ms,
    latencyMs: row.latency_ms,
    outcome: row.outcome,
    httpStatus: row.http_status,
    error: row.error && text(row.error),
    responseBody: row.response_body,
    endpointVersion: row.endpoint_version,
    late: Boolean(row.late),
  }
}

export interface CandidateRow extends DeliveryRow {
  readonly accepted_at_ms: number
  readonly has_body: boolean | number
}

function candidateOf(row: CandidateRow, text = asItIs): Candidate {
  return {
    eventKey: parseDeliveryId(row.id)?.eventKey ?? '',
    eventId: text(row.event_id),
    eventType: text(row.event_type),
    acceptedAtMs: row.accepted_at_ms,
    isThere: true,
    delivery: { id: row.id, state: row.state, attempts: row.attempts, dueAtMs: row.due_at_ms },
    hasBody: Boolean(row.has_body),
    body: null,
  }
}

export interface CandidateEventRow {
  readonly key: string
  readonly id: string
  readonly type: string
  readonly tenant_id: string
  readonly accepted_at_ms: number
  readonly has_body: boolean | number
  readonly body: Uint8Array | null
  readonly is_there: boolean | number
  readonly cut_off_id: string | null
}

/** An event that the endpoint got nothing of; what it was cut off from can be sent again. */
export function candidateOfEvent(row: CandidateEventRow, text = asItIs): Candidate {
  const { cut_off_id: id } = row
  return {
    eventKey: row.key,
    eventId: text(row.id),
    eventType: text(row.type),
    acceptedAtMs: row.accepted_at_ms,
    isThere: Boolean(row.is_there),
    delivery: id === null ? null : { id, state: 'cancelled', attempts: 0, dueAtMs: null },
    hasBody: Boolean(row.has_body),
    body: row.body,
  }
}

/**
 * One page of several lists in the order of their ids, each of at most `limit`. A list that is full
 * ends somewhere; what the others have above that point comes next time.
 */
export function candidatePage(
  lists: readonly (readonly CandidateRow[])[],
  limit: number,
  text = asItIs,
): CandidatePage {
  const ends = lists.flatMap((rows) => (rows.length === limit ? [rows.at(-1)?.id ?? ''] : []))
  const [last = null] = ends.sort()
  const rows = lists
    .flat()
    .filter(({ id }) => last === null || id <= last)
    .sort((a, b) => (a.id < b.id ? -1 : 1))
  return {
    candidates: rows.map((row) => candidateOf(row, text)),
    next: last === null ? null : (parseDeliveryId(last)?.eventKey ?? null),
  }
}

function asItIs(value: string): string {
  return value
}
