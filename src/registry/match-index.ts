/**
 * Which endpoints want an event, without asking each one. Endpoints are grouped by tenant and event
 * type, those with filters further by the values of their first filter, so that matching costs the
 * same with ten endpoints and with ten thousand. The index is rebuilt per tenant and type on first
 * use after a change; policy/match.ts stays the judge of every candidate.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { matchesBody } from '../policy/body-filter.ts'
import { typeMatches, whyFiltered } from '../policy/match.ts'

interface Bucket {
  readonly unfiltered: readonly EndpointRecord[]
  /** first filter key → value → endpoints */
  readonly byFilter: ReadonlyMap<string, ReadonlyMap<unknown, readonly EndpointRecord[]>>
  /** Those that ask for something in the body: each is asked itself. */
  readonly byBody: readonly EndpointRecord[]
}

/** Event types are the caller's choice: the cache of one tenant must not grow with them for ever. */
const maxCachedTypes = 200

export class MatchIndex {
  readonly #endpoints = new Map<string, Map<string, EndpointRecord>>()
  readonly #buckets = new Map<string, Map<string, Bucket>>()

  put(endpoint: EndpointRecord): void {
    let ofTenant = this.#endpoints.get(endpoint.tenantId)
    if (ofTenant === undefined) {
      ofTenant = new Map()
      this.#endpoints.set(endpoint.tenantId, ofTenant)
    }
    ofTenant.set(endpoint.id, endpoint)
    this.#buckets.delete(endpoint.tenantId)
  }

  remove(endpoint: EndpointRecord): void {
    this.#endpoints.get(endpoint.tenantId)?.delete(endpoint.id)
    this.#buckets.delete(endpoint.tenantId)
  }

  /** Endpoints of the tenant that get the event; disabled ones never. */
  match(
    tenantId: string,
    eventType: string,
    metadata: Readonly<Record<string, unknown>>,
    data: () => unknown = () => undefined,
  ): readonly EndpointRecord[] {
    const bucket = this.#bucket(tenantId, eventType)
    const { byBody } = bucket
    if (bucket.byFilter.size === 0 && byBody.length === 0) return bucket.unfiltered
    const matched = [...bucket.unfiltered]
    for (const [key, byValue] of bucket.byFilter) {
      if (!Object.hasOwn(metadata, key)) continue
      for (const endpoint of byValue.get(metadata[key]) ?? []) {
        if (whyFiltered(endpoint.filters, metadata) === null) matched.push(endpoint)
      }
    }
    const inBody = byBody.length === 0 ? undefined : data()
    for (const endpoint of byBody) {
      const { filters, bodyFilter } = endpoint
      if (whyFiltered(filters, metadata) !== null || bodyFilter === null) continue
      if (matchesBody(bodyFilter, inBody)) matched.push(endpoint)
    }
    return matched
  }

  #bucket(tenantId: string, eventType: string): Bucket {
    let ofTenant = this.#buckets.get(tenantId)
    if (ofTenant === undefined) {
      ofTenant = new Map()
      this.#buckets.set(tenantId, ofTenant)
    }
    let bucket = ofTenant.get(eventType)
    if (bucket === undefined) {
      if (ofTenant.size >= maxCachedTypes) ofTenant.clear()
      bucket = buildBucket(this.#endpoints.get(tenantId)?.values() ?? [], eventType)
      ofTenant.set(eventType, bucket)
    }
    return bucket
  }
}

function buildBucket(endpoints: Iterable<EndpointRecord>, eventType: string): Bucket {
  const unfiltered: EndpointRecord[] = []
  const byFilter = new Map<string, Map<unknown, EndpointRecord[]>>()
  const byBody: EndpointRecord[] = []
  for (const endpoint of endpoints) {
    if (endpoint.status === 'disabled') continue
    if (!endpoint.events.some((pattern) => typeMatches(pattern, eventType))) continue
    if (endpoint.bodyFilter !== null) {
      byBody.push(endpoint)
      continue
    }
    const key = Object.keys(endpoint.filters).find((name) => endpoint.filters[name] !== undefined)
    if (key === undefined) {
      unfiltered.push(endpoint)
      continue
    }
    const byValue = byFilter.get(key) ?? new Map<unknown, EndpointRecord[]>()
    byFilter.set(key, byValue)
    for (const value of new Set<unknown>(endpoint.filters[key])) {
      const list = byValue.get(value)
      if (list === undefined) byValue.set(value, [endpoint])
      else list.push(endpoint)
    }
  }
  return { unfiltered, byFilter, byBody }
}
