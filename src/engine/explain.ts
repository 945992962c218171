/** "Where is my event?", answered for each endpoint of the tenant in one word, and in a sentence. */
import type { NotMatchedReason, WaitingFor, WebhookDelivery } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { WebhookEventType } from '../model/event.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { EventReport, Queries } from './queries.ts'

/** The answer for one endpoint. */
export type EndpointExplanation = { endpointId: string; text: string } & (
  | { outcome: 'delivered'; deliveryId: string; attempts: number; at: Date }
  | { outcome: 'sending'; deliveryId: string; attempts: number }
  | {
      outcome: 'waiting'
      deliveryId: string
      attempts: number
      /** As in `getDelivery`; `batch`: until its batch is full or due. */
      waitingFor: WaitingFor | 'batch'
      /** Null: nobody can know. */
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
): Promise<EventExplanation | null> {
  const report = await queries.event(id, scope)
  if (report === null) return null
  const endpoints = [
    ...newestRounds(report.deliveries).map((delivery) => {
      const { endpointId, tenantId } = delivery
      const endpoint = registry.find(endpointId, { tenantId: tenantId ?? undefined })
      return explainDelivery(delivery, endpoint)
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
): EndpointExplanation {
  const { id: deliveryId, endpointId, state, attemptCount: attempts, reason, settledAt } = delivery
  const known = { endpointId, deliveryId, attempts }
  if (state === 'delivering') {
    const text = `is next in its lane, or being sent (attempt ${attempts + 1})`
    return { ...known, outcome: 'sending', text }
  }
  if (state === 'waiting') {
    const { waitingFor, until } = waits(delivery, endpoint)
    const after = attempts === 0 ? '' : `; ${count(attempts)} so far, the last met ${reason}`
    const text = `waits ${sentences[waitingFor](until?.toISOString() ?? null, attempts)}${after}`
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

/** A first attempt that has to wait for its time at a batching endpoint waits for its batch. */
function waits(
  { attemptCount, batchId, waiting }: WebhookDelivery,
  endpoint: EndpointRecord | undefined,
): { waitingFor: WaitingFor | 'batch'; until: Date | null } {
  // Its endpoint is gone: it is about to be ended.
  if (waiting === null) return { waitingFor: 'concurrency', until: null }
  const isLoose = attemptCount === 0 && batchId === null && Boolean(endpoint?.batch)
  const waitingFor = waiting.for === 'schedule' && isLoose ? 'batch' : waiting.for
  return { waitingFor, until: waiting.until }
}

const sentences: Readonly<
  Record<WaitingFor | 'batch', (until: string | null, attempts: number) => string>
> = {
  schedule: (until, attempts) => `for its ${attempts === 0 ? 'first' : 'next'} attempt at ${until}`,
  'retry-after': (until) => `until ${until}, as the receiver asked (Retry-After)`,
  rate: (until) => `until ${until} at the least: the endpoint's rate limit`,
  breaker: (until) =>
    `${until === null ? 'for the outcome of a probe' : `until ${until} at the least`}: too many attempts of the endpoint failed (breaker)`,
  paused: () => 'until the endpoint is resumed: it is paused',
  ordering: () =>
    'for another of its key, which is before it; if that has failed for good, listBlockedKeys() names it',
  batch: (until) => `to be batched, at the latest until ${until}`,
  concurrency: () =>
    'for its turn: it is due, and goes out when a process that delivers has a place for it',
}

function explainNotMatched(endpointId: string, reason: NotMatchedReason): EndpointExplanation {
  const text = `does not get it: ${whyNotMatched(reason)}`
  return { endpointId, outcome: 'not_matched', reason, text }
}

function whyNotMatched(reason: NotMatchedReason): string {
  if (reason.startsWith(filterPrefix)) {
    return `its filter on \`${reason.slice(filterPrefix.length)}\` does not match the metadata`
  }
  if (reason.startsWith(bodyFilterPrefix)) {
    return `its \`bodyFilter\` does not match the data: ${reason.slice(bodyFilterPrefix.length)}`
  }
  return notMatchedSentences[reason as keyof typeof notMatchedSentences]
}

const filterPrefix = 'filter_'
const bodyFilterPrefix = 'body_filter: '

const notMatchedSentences: Readonly<
  Record<Exclude<NotMatchedReason, `filter_${string}` | `body_filter: ${string}`>, string>
> = {
  endpoint_disabled: 'it is disabled',
  event_type_not_subscribed: 'its `events` do not name this type',
  endpoint_registered_later: 'it was registered after the event; `backfill` sends what matches',
  system_event: "the event is the service's own, for the endpoint of `systemEvents` alone",
  endpoint_changed_later: 'it matches now, but did not when the event came; `backfill` sends it',
  unknown: 'why cannot be told any more: what its filters look at was removed',
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
