/** Does this endpoint want this event? Pure, and says why not. Filters fail closed. */

import type { NotMatchedReason } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { whyBodyFiltered } from './body-filter.ts'

/** @returns null when it matches, else the rule that said no */
export function whyNotMatched(
  endpoint: Pick<EndpointRecord, 'status' | 'events' | 'filters'> &
    Partial<Pick<EndpointRecord, 'bodyFilter'>>,
  eventType: string,
  metadata: Readonly<Record<string, unknown>>,
  data?: unknown,
): NotMatchedReason | null {
  if (endpoint.status === 'disabled') return 'endpoint_disabled'
  if (!endpoint.events.some((pattern) => typeMatches(pattern, eventType))) {
    return 'event_type_not_subscribed'
  }
  const filtered = whyFiltered(endpoint.filters, metadata)
  if (filtered !== null || endpoint.bodyFilter == null) return filtered
  const why = whyBodyFiltered(endpoint.bodyFilter, data)
  return why === null ? null : `body_filter: ${why}`
}

/** Types that go to the endpoint of `systemEvents` alone. */
export function isSystemEvent(type: string): boolean {
  return type.startsWith('system.endpoint.')
}

/** `*` is every type, `message.*` every type under `message`, anything else itself. */
export function typeMatches(pattern: string, eventType: string): boolean {
  if (pattern === '*' || pattern === eventType) return true
  return pattern.endsWith('.*') && eventType.startsWith(pattern.slice(0, -1))
}

export function whyFiltered(
  filters: EndpointRecord['filters'],
  metadata: Readonly<Record<string, unknown>>,
): NotMatchedReason | null {
  for (const key of Object.keys(filters)) {
    const wanted = filters[key]
    if (wanted === undefined) continue
    // A key the event lacks does not match, and neither does one inherited from a prototype.
    const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined
    if (!wanted.some((one) => one === value)) return `filter_${key}`
  }
  return null
}
