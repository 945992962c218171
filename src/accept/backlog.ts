/**
 * How much may wait, and whose it is: the limits of the whole service and of each tenant. What is
 * refused here was never accepted, so the publisher knows; what an endpoint that takes nothing piles
 * up ends by itself, so that it never takes the place of the others.
 *
 * Memory counts what this process accepts and settles, and is put right from the store now and
 * then: several processes fill one store, and much ends there without being told.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'

/** Unfinished deliveries; null: as many as there is disk. */
export interface BacklogLimits {
  readonly maxBacklog: number | null
  readonly maxTenantBacklog: number | null
}

/** Unfinished deliveries of one endpoint. */
export interface LiveCount {
  readonly endpointKey: string
  readonly tenantId: string
  readonly deliveries: number
}

export const endpointBacklogFull = 'endpoint_backlog_full'

/** Ends of the last moments tell how soon there is room again. */
const windowMs = 5_000
const shortestRetryMs = 1_000
const longestRetryMs = 60_000
/** Told again when it was this much emptier. */
const relieved = 0.9

export interface BacklogFull {
  readonly scope: 'service' | 'tenant' | 'endpoint'
  readonly tenantId: string
  readonly endpoint: EndpointRecord | null
  readonly limit: number
}

type Told = (what: BacklogFull) => void

export class Backlog {
  readonly #limits: BacklogLimits
  readonly #clock: Clock
  readonly #told: Told
  #total = 0
  readonly #tenants = new Map<string, number>()
  readonly #endpoints = new Map<string, number>()
  /** Of these, those whose commit is under way: no store can count them. */
  readonly #pending = new Map<string, { tenantId: string; deliveries: number }>()
  readonly #full = new Set<string>()
  #windowFromMs = 0
  #endedInWindow = 0
  #endedPerMs = 0

  /** @returns null where nothing is limited: nothing is counted then */
  static within(limits: BacklogLimits, clock: Clock, told: Told): Backlog | null {
    const { maxBacklog, maxTenantBacklog } = limits
    if (maxBacklog === null && maxTenantBacklog === null) return null
    return new Backlog(limits, clock, told)
  }

  private constructor(limits: BacklogLimits, clock: Clock, told: Told) {
    this.#limits = limits
    this.#clock = clock
    this.#told = told
  }

  /**
   * Counts an event's deliveries before they are committed.
   *
   * @returns those of the endpoints that hold all they may; their deliveries end at once
   * @throws WebhookError BACKLOG_FULL; nothing is counted then
   */
  enter(tenantId: string, endpoints: readonly EndpointRecord[]): ReadonlySet<EndpointRecord> {
    const full = this.#fullOf(endpoints)
    this.#requireRoom(tenantId, endpoints.length - full.size)
    this.#count(tenantId, endpoints, full)
    return full
  }

  /** The same for what is committed already and cannot be refused. */
  take(tenantId: string, endpoints: readonly EndpointRecord[]): ReadonlySet<EndpointRecord> {
    const full = this.#fullOf(endpoints)
    this.#count(tenantId, endpoints, full)
    return full
  }

  /** @throws WebhookError BACKLOG_FULL when not even one more delivery may wait */
  requireRoom(tenantId: string): void {
    this.#requireRoom(tenantId, 1)
  }

  /** The commit is over: `kept` or not, they are no longer under way. */
  committed(tenantId: string, endpointKeys: readonly string[], kept: boolean): void {
    for (const key of endpointKeys) {
      const pending = this.#pending.get(key)
      if (pending !== undefined) {
        pending.deliveries -= 1
        if (pending.deliveries <= 0) this.#pending.delete(key)
      }
      if (!kept) this.#add(tenantId, key, -1)
    }
  }

  /** An outcome ended deliveries. */
  ended(tenantId: string, endpointKey: string, deliveries: number): void {
    this.#add(tenantId, endpointKey, -deliveries)
    const nowMs = this.#clock.nowMs()
    this.#endedInWindow += deliveries
    if (nowMs - this.#windowFromMs < windowMs) return
    this.#endedPerMs = this.#endedInWindow / (nowMs - this.#windowFromMs)
    this.#endedInWindow = 0
    this.#windowFromMs = nowMs
  }

  /** What the store holds, in place of what memory believes. */
  correct(counts: readonly LiveCount[]): void {
    this.#total = 0
    this.#tenants.clear()
    this.#endpoints.clear()
    for (const { tenantId, endpointKey, deliveries } of counts) {
      this.#add(tenantId, endpointKey, deliveries)
    }
    for (const [key, { tenantId, deliveries }] of this.#pending) {
      this.#add(tenantId, key, deliveries)
    }
  }

  #add(tenantId: string, endpointKey: string, deliveries: number): void {
    this.#total = Math.max(0, this.#total + deliveries)
    raise(this.#tenants, tenantId, deliveries)
    raise(this.#endpoints, endpointKey, deliveries)
  }

  #count(
    tenantId: string,
    endpoints: readonly EndpointRecord[],
    full: ReadonlySet<EndpointRecord>,
  ): void {
    for (const endpoint of endpoints) {
      if (full.has(endpoint)) continue
      const { key } = endpoint
      const pending = this.#pending.get(key)
      if (pending === undefined) this.#pending.set(key, { tenantId, deliveries: 1 })
      else pending.deliveries += 1
      this.#add(tenantId, key, 1)
    }
  }

  /** Half of the smaller limit is the most that one endpoint holds. */
  #fullOf(endpoints: readonly EndpointRecord[]): ReadonlySet<EndpointRecord> {
    const { maxBacklog, maxTenantBacklog } = this.#limits
    const limit = Math.max(
      1,
      Math.floor(Math.min(maxBacklog ?? Infinity, maxTenantBacklog ?? Infinity) / 2),
    )
    const full = new Set<EndpointRecord>()
    for (const endpoint of endpoints) {
      const isFull = (this.#endpoints.get(endpoint.key) ?? 0) >= limit
      if (isFull) full.add(endpoint)
      const { tenantId, key } = endpoint
      this.#note(isFull, this.#endpoints.get(key) ?? 0, limit, `endpoint ${key}`, {
        scope: 'endpoint',
        tenantId,
        endpoint,
        limit,
      })
    }
    return full
  }

  #requireRoom(tenantId: string, deliveries: number): void {
    const { maxBacklog, maxTenantBacklog } = this.#limits
    const ofTenant = this.#tenants.get(tenantId) ?? 0
    const [service, tenant] = [
      { scope: 'service', tenantId, endpoint: null, limit: maxBacklog ?? Infinity } as const,
      { scope: 'tenant', tenantId, endpoint: null, limit: maxTenantBacklog ?? Infinity } as const,
    ]
    const noRoom = deliveries > 0 && this.#total + deliveries > service.limit
    const noTenantRoom = deliveries > 0 && ofTenant + deliveries > tenant.limit
    this.#note(noRoom, this.#total, service.limit, 'service', service)
    this.#note(noTenantRoom, ofTenant, tenant.limit, `tenant ${tenantId}`, tenant)
    if (noRoom) throw this.#refusal('maxBacklog', service.limit, this.#total, deliveries)
    if (noTenantRoom) throw this.#refusal('maxTenantBacklog', tenant.limit, ofTenant, deliveries)
  }

  /** Told once, until it was clearly emptier. */
  #note(isFull: boolean, count: number, limit: number, name: string, what: BacklogFull): void {
    if (isFull && !this.#full.has(name)) {
      this.#full.add(name)
      this.#told(what)
    } else if (count < limit * relieved && this.#full.size > 0) this.#full.delete(name)
  }

  #refusal(option: string, limit: number, waiting: number, deliveries: number): WebhookError {
    const tooMany = waiting + deliveries - limit
    const waitMs = this.#endedPerMs > 0 ? tooMany / this.#endedPerMs : longestRetryMs
    const retryAfterMs = Math.round(Math.min(longestRetryMs, Math.max(shortestRetryMs, waitMs)))
    const error = new WebhookError(
      'BACKLOG_FULL',
      `Expected at most ${limit} deliveries to wait (\`${option}\`), got ${deliveries} more with ${waiting} waiting; nothing is stored. Dispatch the event again in ${Math.ceil(retryAfterMs / 1000)} s (\`retryAfterMs\`).`,
    )
    // A receiver carries the class too, and no byte for this.
    return Object.assign(error, { retryAfterMs })
  }
}

function raise(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by
  if (count > 0) counts.set(key, count)
  else counts.delete(key)
}
