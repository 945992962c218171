/** "Where is my event?", answered for each endpoint of the tenant in one word, and in a sentence. */
import type { NotMatchedReason, WebhookDelivery } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { WebhookEventType } from '../model/event.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { EventReport, Queries } from './queries.ts'

/** What a delivery waits for: `turn` is due and waits until its endpoint has a free slot. */
export type WaitingFor = 'schedule' | 'retry_after' | 'paused' | 'batch' | 'turn'

/** The answer for one endpoint. */
export type EndpointExplanation = { endpointId: string; text: string } & (
  | { outcome: 'delivered'; deliveryId: string; attempts: number; at: Date }
  | { outcome: 'sending'; deliveryId: string; attempts: number }
  | {
      outcome: 'waiting'
      deliveryId: string
      attempts: number
      waitingFor: WaitingFor
      /** Null: until somebody resumes it, or it is its turn. */
      until: Date | null
      /** What the last attempt met. */
      reason: string | null
    }
  | { outcome: 'ended'; deliveryId: string; attempts: number; at: Date; reason: string }
  | { outcome: 'not_matched'; reason: NotMatchedReason }
)

export interface EventExplanation {
  eventId: string
  eventType: WebhookEventType
  tenantId: string | null
  acceptedAt: Date
  /** Sorted by id. Of an event that was retried or replayed, the newest round. */
  endpoints: EndpointExplanation[]
  /** Deliveries of a very wide event that are still being created. */
  pendingDeliveries: number
  /** All of it for people, a line for each endpoint. */
  text: string
}

export async function explainEvent(
  queries: Queries,
  registry: WebhookRegistry,
  id: string,
  scope: TenantScope | undefined,
  nowMs: number,
): Promise<EventExplanation | null> {
  const report = await queries.event(id, scope)
  if (report === null) return null
  const endpoints = [
    ...newestRounds(report.deliveries).map((delivery) => {
      const { endpointId, tenantId } = delivery
      const endpoint = registry.find(endpointId, { tenantId: tenantId ?? undefined })
      return explainDelivery(delivery, endpoint, nowMs)
    }),
    ...report.notMatched.map(({ endpointId, reason }) => explainNotMatched(endpointId, reason)),
  ].sort((a, b) => (a.endpointId < b.endpointId ? -1 : 1))
  return {
    eventId: report.id,
    eventType: report.type,
    tenantId: report.tenantId,
    acceptedAt: report.acceptedAt,
    endpoints,
    pendingDeliveries: report.pendingDeliveries,
    text: textOf(report, endpoints),
  }
}

function newestRounds(deliveries: readonly WebhookDelivery[]): WebhookDelivery[] {
  const newest = new Map<string, WebhookDelivery>()
  for (const delivery of deliveries) {
    // The id, because an endpoint that was removed and registered again is another one.
    const key = delivery.id.replace(/_r\d+$/, '')
    if ((newest.get(key)?.round ?? 0) < delivery.round) newest.set(key, delivery)
  }
  return [...newest.values()]
}

function explainDelivery(
  delivery: WebhookDelivery,
  endpoint: EndpointRecord | undefined,
  nowMs: number,
): EndpointExplanation {
  const { id: deliveryId, endpointId, state, attemptCount: attempts, reason, settledAt } = delivery
  const known = { endpointId, deliveryId, attempts }
  if (state === 'delivering') {
    const text = `is being sent (attempt ${attempts + 1})`
    return { ...known, outcome: 'sending', text }
  }
  if (state === 'waiting') {
    const { waitingFor, untilMs } = waits(delivery, endpoint, nowMs)
    const until = untilMs === null ? null : new Date(untilMs)
    const after = attempts === 0 ? '' : `; ${count(attempts)} so far, the last met ${reason}`
    const text = `waits ${sentences[waitingFor](until?.toISOString() ?? '')}${after}`
    return { ...known, outcome: 'waiting', waitingFor, until, reason, text }
  }
  const at = settledAt ?? delivery.createdAt
  if (state === 'delivered') {
    const text = `delivered at ${at.toISOString()} with ${count(attempts)}`
    return { ...known, outcome: 'delivered', at, text }
  }
  const why = reason ?? 'unknown'
  const text = `${state} at ${at.toISOString()} after ${count(attempts)}: ${why}`
  return { ...known, outcome: 'ended', at, reason: why, text }
}

/** The strongest reason first: what ends sooner changes nothing. */
function waits(
  { attemptCount, nextAttemptAt, batchId }: WebhookDelivery,
  endpoint: EndpointRecord | undefined,
  nowMs: number,
): { waitingFor: WaitingFor; untilMs: number | null } {
  if (endpoint?.status === 'paused') return { waitingFor: 'paused', untilMs: null }
  const dueAtMs = nextAttemptAt?.getTime() ?? 0
  const heldUntilMs = endpoint?.heldUntilMs ?? 0
  if (heldUntilMs > nowMs && heldUntilMs >= dueAtMs) {
    return { waitingFor: 'retry_after', untilMs: heldUntilMs }
  }
  if (dueAtMs <= nowMs) return { waitingFor: 'turn', untilMs: null }
  const isLoose = attemptCount === 0 && batchId === null && Boolean(endpoint?.batch)
  return { waitingFor: isLoose ? 'batch' : 'schedule', untilMs: dueAtMs }
}

const sentences: Readonly<Record<WaitingFor, (until: string) => string>> = {
  schedule: (until) => `for its next attempt at ${until}`,
  retry_after: (until) => `until ${until}, as the receiver asked (Retry-After)`,
  paused: () => 'until the endpoint is resumed: it is paused',
  batch: (until) => `to be batched, at the latest until ${until}`,
  turn: () => 'for its turn: it is due, and goes out when its endpoint has a free slot',
}

function explainNotMatched(endpointId: string, reason: NotMatchedReason): EndpointExplanation {
  return { endpointId, outcome: 'not_matched', reason, text: `does not get it: ${reason}` }
}

function count(attempts: number): string {
  return attempts === 1 ? '1 attempt' : `${attempts} attempts`
}

function textOf(
  { id, type, acceptedAt, pendingDeliveries }: EventReport,
  endpoints: readonly EndpointExplanation[],
): string {
  const lines = [`${id} (${type}) was accepted at ${acceptedAt.toISOString()}.`]
  for (const { endpointId, text } of endpoints) lines.push(`- ${endpointId}: ${text}`)
  if (pendingDeliveries > 0) lines.push(`- ${pendingDeliveries} more are being created`)
  if (lines.length === 1) lines.push('- The tenant has no endpoint.')
  return lines.join('\n')
}
