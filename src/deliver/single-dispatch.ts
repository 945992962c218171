/** `dispatch` without a service around it: from an endpoint to a record, from a report to a result. */
import type { EndpointRecord, WebhookEndpointInput } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import { type OutcomeKind, outcomeError, outcomeStatus } from '../model/outcome.ts'
import { checkEndpointTls } from '../security/endpoint-tls.ts'
import { unmaskHeaders } from '../security/headers.ts'
import { checkSchemes } from '../security/signer.ts'
import { checkSigningSecret } from '../security/signing-key.ts'
import type { AttemptReport } from './attempt-request.ts'

/** What one attempt of `dispatch` came to. */
export interface DispatchResult {
  success: boolean
  httpStatus: number | null
  outcome: OutcomeKind
  /** In ms, to the last byte of the answer. */
  responseTime: number
  /** One sentence; null for a success. */
  error: string | null
  /** The first 4 KiB of the answer as text. */
  responseBody: string | null
}

export function resultOf({ outcome, latencyMs, responseBody }: AttemptReport): DispatchResult {
  return {
    success: outcome.kind === 'accepted',
    httpStatus: outcomeStatus(outcome),
    outcome: outcome.kind,
    responseTime: latencyMs,
    error: outcomeError(outcome),
    responseBody: responseBody === null ? null : new TextDecoder().decode(responseBody),
  }
}

/** @throws WebhookError SECRET_MISSING, SECRET_INVALID, ENDPOINT_INVALID, OPTION_INVALID */
export function recordOf(endpoint: WebhookEndpointInput): EndpointRecord {
  if (endpoint.secret === undefined) {
    throw new WebhookError(
      'SECRET_MISSING',
      `Expected endpoint "${endpoint.id}" to have a \`secret\` to sign with, got none; give it the one its receiver has.`,
    )
  }
  checkSigningSecret(endpoint.secret)
  const schemes = endpoint.signatureSchemes
  checkEndpointTls(endpoint.tls)
  return {
    key: '',
    id: endpoint.id,
    tenantId: endpoint.tenantId ?? '',
    url: endpoint.url,
    events: endpoint.events,
    name: endpoint.name ?? endpoint.id,
    description: endpoint.description ?? '',
    status: 'active',
    statusReason: null,
    statusChangedAtMs: 0,
    secrets: [{ secret: endpoint.secret, createdAtMs: 0, expiresAtMs: null }],
    signatureSchemes: schemes === undefined ? null : checkSchemes(schemes, '`signatureSchemes`'),
    filters: {},
    bodyFilter: null,
    retryConfig: {},
    headers: unmaskHeaders(endpoint.headers ?? {}, {}),
    tls: endpoint.tls ?? null,
    timeoutMs: endpoint.timeoutMs ?? null,
    concurrency: null,
    batch: false,
    ordering: null,
    version: 1,
    warning: null,
    rateLimit: null,
    createdAtMs: 0,
    updatedAtMs: 0,
  }
}
