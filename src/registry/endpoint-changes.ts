/** How an endpoint's record comes to be and changes. Pure: records in, records out. */
import type {
  EndpointRecord,
  EndpointSecret,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from '../model/endpoint.ts'
import type { SecretType } from '../model/signature.ts'
import { unmaskTls } from '../security/endpoint-tls.ts'
import { unmaskHeaders } from '../security/headers.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import { currentSecret, rotated } from './rotation.ts'

export interface ChangeRules {
  /** False when the service signs nothing. */
  readonly needsSecret: boolean
  /** The service's `secretKey`, for endpoints without a secret of their own; null without one. */
  readonly sharedSecret: string | null
  /** How long a replaced secret goes on signing beside the new one. */
  readonly rotationOverlapMs: number
}

/** @throws WebhookError ENDPOINT_INVALID */
export function newRecord(
  input: WebhookEndpointInput,
  key: string,
  createdSecret: string | null,
  nowMs: number,
): EndpointRecord {
  const secret = input.secret ?? createdSecret
  const status = input.active === false ? 'disabled' : (input.status ?? 'active')
  return {
    key,
    id: input.id,
    tenantId: input.tenantId ?? '',
    url: input.url,
    events: [...input.events],
    name: input.name ?? input.id,
    description: input.description ?? '',
    status,
    statusReason: status === 'active' ? null : 'registered so',
    statusChangedAtMs: nowMs,
    secrets: secret === null ? [] : [{ secret, createdAtMs: nowMs, expiresAtMs: null }],
    signatureSchemes: input.signatureSchemes ? [...new Set(input.signatureSchemes)] : null,
    filters: { ...input.filters },
    bodyFilter: input.bodyFilter ?? null,
    retryConfig: { ...input.retryConfig },
    headers: unmaskHeaders(input.headers ?? {}, {}),
    tls: input.tls ?? null,
    timeoutMs: input.timeoutMs ?? null,
    concurrency: input.concurrency ?? null,
    rateLimit: input.rateLimit ?? null,
    batch: input.batch ?? false,
    ordering: input.ordering ?? null,
    version: 1,
    warning: null,
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
  }
}

/** Why a change of secret is worth a look: it may bring a leaked one back. */
export const replacesRotated = 'replaces the secret of rotateSecret'

type Changes = Omit<WebhookEndpointChanges, 'status' | 'active'>

const plainFields = [
  'events',
  'name',
  'description',
  'signatureSchemes',
  'filters',
  'bodyFilter',
  'retryConfig',
  'tls',
  'timeoutMs',
  'concurrency',
  'rateLimit',
  'batch',
  'ordering',
] as const satisfies readonly (keyof Changes)[]

/**
 * @returns null when nothing would change: apps register the same endpoint at every start
 * @throws WebhookError SECRET_LIMIT, ENDPOINT_INVALID
 */
export function applyChanges(
  known: EndpointRecord,
  changes: Changes,
  nowMs: number,
  rules: ChangeRules,
): { record: EndpointRecord; change: EndpointChange } | null {
  const next: Record<string, unknown> = {}
  for (const field of plainFields) {
    const value = changes[field]
    if (value !== undefined && !sameJson(value, known[field])) next[field] = value
  }
  if (changes.headers !== undefined) {
    const headers = unmaskHeaders(changes.headers, known.headers)
    if (!sameJson(headers, known.headers)) next.headers = headers
  }
  const url = changes.url ?? known.url
  if (url !== known.url) {
    next.url = url
    if (known.warning !== null) next.warning = null
  }
  if (changes.secret !== undefined && changes.secret !== currentSecret(known)?.secret) {
    const { sharedSecret, rotationOverlapMs: overlapMs } = rules
    next.secrets = rotated(known, changes.secret, { nowMs, overlapMs, sharedSecret, byCall: false })
  }
  const fields = Object.keys(next)
  if (fields.length === 0) return null
  const version = known.version + 1
  const record = { ...known, ...next, version, updatedAtMs: nowMs } as EndpointRecord
  const what = fields.length === 1 && fields[0] === 'secrets' ? 'secret rotated' : 'updated'
  const undoes = next.secrets !== undefined && currentSecret(known)?.rotatedByCall === true
  const reason = undoes ? replacesRotated : null
  return { record, change: { atMs: nowMs, version, what, reason, fields } }
}

const statusWords = { active: 'enabled', paused: 'paused', disabled: 'disabled' } as const

export function statusChange(
  known: EndpointRecord,
  status: EndpointRecord['status'],
  reason: string,
  nowMs: number,
): { record: EndpointRecord; change: EndpointChange } {
  const version = known.version + 1
  const record: EndpointRecord = {
    ...known,
    status,
    statusReason: reason,
    statusChangedAtMs: nowMs,
    version,
    updatedAtMs: nowMs,
  }
  const resumed = status === 'active' && known.status !== 'disabled'
  const what = resumed ? 'resumed' : statusWords[status]
  return { record, change: { atMs: nowMs, version, what, reason, fields: ['status'] } }
}

/** Another list of secrets, and nothing else. */
export function secretsChange(
  known: EndpointRecord,
  secrets: readonly EndpointSecret[],
  what: 'secret rotated' | 'rotation ended',
  reason: string,
  nowMs: number,
): { record: EndpointRecord; change: EndpointChange } {
  const version = known.version + 1
  const record = { ...known, secrets, version, updatedAtMs: nowMs }
  return { record, change: { atMs: nowMs, version, what, reason, fields: ['secrets'] } }
}

/** The type of secret to create. Null when it is given one, shares one, or signs nothing. */
export function typeToCreate(
  { secret, secretType, tenantId }: WebhookEndpointInput,
  { needsSecret, sharedSecret }: ChangeRules,
): SecretType | null {
  if (secret !== undefined) return null
  if (secretType === 'ed25519') return secretType
  // Customers who share a key could forge to each other: a tenant's endpoint has its own.
  const shares = tenantId === undefined && sharedSecret !== null
  return needsSecret && !shares ? 'hmac' : null
}

/** With the TLS settings it will have: those known where none are given, or its key is masked. */
export function withTls<Given extends { tls?: WebhookEndpointInput['tls'] }>(
  given: Given,
  { tls: known }: EndpointRecord,
): Given & { tls: WebhookEndpointInput['tls'] } {
  const tls = given?.tls === undefined ? known : unmaskTls(given.tls, known)
  return { ...given, tls: tls as WebhookEndpointInput['tls'] }
}

export function definedOnly<T extends object>(changes: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(changes).filter(([, value]) => value !== undefined),
  ) as Partial<T>
}

function sameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
