/** An endpoint as the outside may see it: no secret, and no value of a sensitive header. */
import type { EndpointRecord, WebhookEndpoint } from '../model/endpoint.ts'

const sensitiveName = /authorization|cookie|token|secret|password|api-?key|credential/i

export function publicEndpoint(record: EndpointRecord): WebhookEndpoint {
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
    filters: structuredClone(record.filters),
    retryConfig: { ...record.retryConfig },
    headers: Object.fromEntries(
      Object.entries(record.headers).map(([name, value]) => [
        name,
        sensitiveName.test(name) ? '***' : value,
      ]),
    ),
    tls: record.tls && { ...record.tls, ...(record.tls.key && { key: '***' }) },
    timeoutMs: record.timeoutMs,
    concurrency: record.concurrency,
    batch: record.batch,
    tenantId: record.tenantId === '' ? null : record.tenantId,
    version: record.version,
    warning: record.warning,
    createdAt: new Date(record.createdAtMs),
    updatedAt: new Date(record.updatedAtMs),
  }
}
