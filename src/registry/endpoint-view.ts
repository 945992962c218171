/** An endpoint as the outside may see it: no secret, and no value of a sensitive header. */
import type { EndpointRecord, WebhookEndpoint } from '../model/endpoint.ts'
import type { EndpointFlow } from '../model/flow.ts'
import { maskTls } from '../security/endpoint-tls.ts'
import { maskHeaders } from '../security/headers.ts'
import { signingKeys } from './rotation.ts'

/** @param nowMs tells which keys still sign */
export function publicEndpoint(
  record: EndpointRecord,
  { heldUntilMs, breaker }: EndpointFlow,
  nowMs: number,
): WebhookEndpoint {
  const keys = signingKeys(record.secrets, nowMs)
  return {
    id: record.id,
    url: record.url,
    events: [...record.events],
    name: record.name,
    description: record.description,
    active: record.status !== 'disabled',
    status: record.status,
    statusReason: record.statusReason,
    statusChangedAt: new Date(record.statusChangedAtMs),
    publicKey: keys.find((key) => key.publicKey !== null)?.publicKey ?? null,
    signingKeys: keys,
    signatureSchemes: record.signatureSchemes && [...record.signatureSchemes],
    filters: structuredClone(record.filters),
    bodyFilter: structuredClone(record.bodyFilter),
    retryConfig: { ...record.retryConfig },
    headers: maskHeaders(record.headers),
    tls: maskTls(record.tls),
    timeoutMs: record.timeoutMs,
    concurrency: record.concurrency,
    rateLimit: record.rateLimit && { ...record.rateLimit },
    heldUntil: heldUntilMs > nowMs ? new Date(heldUntilMs) : null,
    breaker: {
      state: breaker.state,
      until: breaker.state === 'closed' ? null : new Date(breaker.untilMs),
    },
    batch: record.batch,
    ordering: record.ordering && { ...record.ordering },
    tenantId: record.tenantId === '' ? null : record.tenantId,
    version: record.version,
    warning: record.warning,
    createdAt: new Date(record.createdAtMs),
    updatedAt: new Date(record.updatedAtMs),
  }
}
