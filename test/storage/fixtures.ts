// What the conformance tests say their stories with: a clock that is set by hand, and records with
// everything filled in that the story does not mention.

import type { EndpointRecord } from '../../src/model/endpoint.ts'
import type { EventRecord } from '../../src/model/event-record.ts'
import { createKeyMaker, deliveryId } from '../../src/model/ids.ts'
import type { Settlement } from '../../src/model/settlement.ts'
import type { Claim, LaneRoom } from '../../src/storage/claims.ts'
import type {
  AcceptRecord,
  CommitGroup,
  CommitResult,
  NewDelivery,
  SettlementRecord,
} from '../../src/storage/commit-records.ts'
import type { EndpointChange } from '../../src/storage/endpoints.ts'
import type { DeliveryQuery } from '../../src/storage/questions.ts'
import type { StorageHost, Store } from '../../src/storage/storage.ts'

export const startMs = Date.UTC(2026, 0, 5, 12)
export const hour = 3_600_000
export const day = 24 * hour

export interface TestHost extends StorageHost {
  /** The time; set by the test. */
  now: number
  readonly logged: { level: string; message: string; fields: Record<string, unknown> }[]
  readonly fatal: Error[]
}

export function testHost(): TestHost {
  const host: TestHost = {
    now: startMs,
    logged: [],
    fatal: [],
    nowMs: () => host.now,
    log: (level, message, fields) => host.logged.push({ level, message, fields }),
    onFatal: (error) => host.fatal.push(error),
  }
  return host
}

const keysByHost = new WeakMap<TestHost, () => string>()
let seed = 0

/** Keys grow with the host's clock, as the engine's do. */
export function newKey(host: TestHost): string {
  let next = keysByHost.get(host)
  if (!next) {
    next = createKeyMaker(
      () => host.now,
      (size) => Uint8Array.from({ length: size }, () => (seed = (seed * 137 + 41) % 251)),
    )
    keysByHost.set(host, next)
  }
  return next()
}

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
export const text = (data: Uint8Array | null | undefined): string | null =>
  data ? Buffer.from(data).toString() : null

export interface EventStory {
  id?: string
  tenantId?: string
  type?: string
  body?: string
  hash?: string
  to?: readonly string[]
  owned?: boolean
  dueAtMs?: number
  wide?: boolean
  /** Ends at once, for this reason. */
  ended?: string
}

let eventNumber = 0

export function accept(host: TestHost, story: EventStory = {}): AcceptRecord {
  eventNumber += 1
  const key = newKey(host)
  const id = story.id ?? `evt_${eventNumber}`
  const to = story.to ?? ['endpoint']
  const event: EventRecord = {
    key,
    tenantId: story.tenantId ?? '',
    id,
    type: story.type ?? 'message.sent',
    acceptedAtMs: host.now,
    body: bytes(story.body ?? `{"id":"${id}"}`),
    contentHash: bytes(story.hash ?? `hash of ${id}`),
    matched: to.length,
  }
  const deliveries: NewDelivery[] = to.map((endpoint) => ({
    id: deliveryId(key, endpointKey(endpoint), 1),
    endpointKey: endpointKey(endpoint),
    dueAtMs: story.dueAtMs ?? host.now,
    owned: story.owned ?? false,
    ...(story.ended && { ended: story.ended }),
  }))
  const endpointsVersion = null
  return story.wide
    ? { event, endpointsVersion, deliveries: [], fanOutTo: deliveries }
    : { event, endpointsVersion, deliveries, fanOutTo: null }
}

/** Endpoint keys have 8 characters; names in the tests are shorter or longer. */
export function endpointKey(name: string): string {
  return name
    .replaceAll(/[^a-z0-9]/g, '')
    .padEnd(8, '0')
    .slice(0, 8)
}

export function group(parts: Partial<CommitGroup>): CommitGroup {
  return { accepts: [], settlements: [], releases: [], ...parts }
}

export function commitAccepts(store: Store, ...accepts: AcceptRecord[]): Promise<CommitResult> {
  return store.commit(group({ accepts }))
}

export interface Attempted {
  readonly deliveryId: string
  readonly endpointKey: string
  readonly token: number
  readonly attempts?: number
  readonly tenantId?: string
  readonly eventType?: string
}

export interface OutcomeStory {
  outcome?: SettlementRecord['attempt']['outcome']
  status?: number | null
  latencyMs?: number
  error?: string | null
  answer?: string | null
}

export const delivered: Settlement = { state: 'delivered', reason: 'status_200', effect: null }
export const rejected: Settlement = { state: 'rejected', reason: 'status_400', effect: null }
export const exhausted: Settlement = { state: 'exhausted', reason: 'status_500', effect: null }
export const retryAt = (dueAtMs: number): Settlement => ({
  state: 'waiting',
  reason: 'status_503',
  dueAtMs,
  effect: null,
})

export function settle(
  host: TestHost,
  attempted: Attempted,
  settlement: Settlement = delivered,
  story: OutcomeStory = {},
): SettlementRecord {
  const accepted = settlement.state === 'delivered'
  return {
    deliveryId: attempted.deliveryId,
    endpointKey: attempted.endpointKey,
    tenantId: attempted.tenantId ?? '',
    eventType: attempted.eventType ?? 'message.sent',
    token: attempted.token,
    attempt: {
      number: (attempted.attempts ?? 0) + 1,
      startedAtMs: host.now,
      latencyMs: story.latencyMs ?? 12.5,
      outcome: story.outcome ?? (accepted ? 'accepted' : 'faulted'),
      httpStatus: story.status === undefined ? (accepted ? 200 : 503) : story.status,
      error: story.error === undefined ? (accepted ? null : 'HTTP 503') : story.error,
      responseBody:
        story.answer === undefined
          ? bytes('ok')
          : story.answer === null
            ? null
            : bytes(story.answer),
      endpointVersion: 1,
    },
    settlement,
    settledAtMs: host.now,
  }
}

/** The first delivery of an accept that was committed as owned. */
export function ownedOf(record: AcceptRecord, index = 0): Attempted {
  const { id, endpointKey: key } = record.deliveries[index]!
  const { tenantId, type } = record.event
  return { deliveryId: id, endpointKey: key, token: 1, tenantId, eventType: type }
}

/** Its first delivery. */
export const idOf = (record: AcceptRecord | undefined) => record?.deliveries[0]?.id ?? ''

export function room(endpoint: string, limit = 10, batch: LaneRoom['batch'] = null): LaneRoom {
  return { endpointKey: endpointKey(endpoint), limit, batch }
}

export async function claimAll(
  store: Store,
  host: TestHost,
  endpoint = 'endpoint',
  batch: LaneRoom['batch'] = null,
): Promise<readonly Claim[]> {
  return (await store.claim([room(endpoint, 1_000, batch)], host.now)).claims
}

export function endpoint(name: string, fields: Partial<EndpointRecord> = {}): EndpointRecord {
  return {
    key: endpointKey(name),
    id: name,
    tenantId: '',
    url: `https://${name}.example/hook`,
    events: ['message.*'],
    name: '',
    description: '',
    status: 'active',
    statusReason: null,
    statusChangedAtMs: startMs,
    secrets: [{ secret: 'whsec_c2VjcmV0c2VjcmV0', createdAtMs: startMs, expiresAtMs: null }],
    signatureSchemes: null,
    filters: { providerId: ['kakao'] },
    bodyFilter: null,
    retryConfig: { maxRetries: 3 },
    headers: { 'x-team': 'blue' },
    tls: null,
    timeoutMs: null,
    concurrency: 5,
    batch: false,
    ordering: null,
    version: 1,
    warning: null,
    rateLimit: null,
    createdAtMs: startMs,
    updatedAtMs: startMs,
    ...fields,
  }
}

export function change(what: string, fields: Partial<EndpointChange> = {}): EndpointChange {
  return { atMs: startMs, version: 1, what, reason: null, fields: [], ...fields }
}

export function query(fields: Partial<DeliveryQuery> = {}): DeliveryQuery {
  return {
    tenantId: null,
    endpointKey: null,
    states: null,
    eventType: null,
    fromMs: null,
    toMs: null,
    skipRetried: false,
    before: null,
    limit: 100,
    ...fields,
  }
}
