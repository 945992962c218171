/** Reads: what the store found, in the shapes people see. */
import type { AttemptRecord, WebhookAttempt } from '../model/attempt.ts'
import {
  behindMs,
  type DeliveryState,
  type FailedDelivery,
  type NotMatchedReason,
  type WebhookDelivery,
} from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEventBody, WebhookEventType } from '../model/event.ts'
import { checkAsked, checkOptions } from '../model/given.ts'
import { parseDeliveryId } from '../model/ids.ts'
import { rangeMs } from '../model/moment.ts'
import { checkEventType, idPattern, scopedTenantId } from '../model/names.ts'
import { closest } from '../model/suggest.ts'
import { isSystemEvent, whyNotMatched } from '../policy/match.ts'
import { valueOfOrderKey } from '../policy/order.ts'
import { type WaitingReason, waitingReason } from '../policy/waiting-reason.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type {
  AttemptFound,
  DeliveryFound,
  DeliveryQuery,
  EventFound,
} from '../storage/questions.ts'
import type { Store } from '../storage/storage.ts'

/** Filters of `listDeliveries`. `tenantId: '*'` reads every tenant. */
export interface DeliveryListQuery extends TenantScope {
  endpointId?: string | undefined
  state?: DeliveryState | readonly DeliveryState[] | undefined
  eventType?: WebhookEventType | undefined
  /** By the time the event was accepted: from (inclusive), to (exclusive). */
  from?: Date | undefined
  to?: Date | undefined
  /** 1 to 1000. Default 100. */
  limit?: number | undefined
  /** `nextCursor` of the page before. */
  cursor?: string | undefined
}

export interface DeliveryPage {
  /** Newest event first. */
  deliveries: WebhookDelivery[]
  /** Null on the last page. */
  nextCursor: string | null
}

/** "Where is my event?" */
export interface EventReport {
  id: string
  type: WebhookEventType
  tenantId: string | null
  acceptedAt: Date
  /** As it is sent; null when retention or erasure removed it. */
  body: WebhookEventBody | null
  deliveries: WebhookDelivery[]
  /** Endpoints of the tenant that do not get it, and the rule that said no. */
  notMatched: { endpointId: string; reason: NotMatchedReason }[]
  /** Deliveries of a very wide event that are still being created. */
  pendingDeliveries: number
}

/** Filters of `listBlockedKeys`. `tenantId: '*'` reads every tenant. */
export interface BlockedKeyQuery extends TenantScope {
  endpointId?: string | undefined
}

/** A key of an endpoint with `ordering` whose events wait because one before them has failed. */
export interface BlockedOrderKey {
  endpointId: string
  tenantId: string | null
  /** The value in `metadata`, as text; of long ones the beginning. */
  key: string
  /** What failed: `retryDelivery` or `skipDelivery` lets the others go on. */
  deliveryId: string
  since: Date
}

const mostBlockedKeys = 1_000
const states: readonly string[] = [
  'waiting',
  'delivering',
  'delivered',
  'exhausted',
  'rejected',
  'cancelled',
] satisfies DeliveryState[]
const failedOptions = ['tenantId', 'eventType', 'from', 'to', 'limit', 'cursor'] as const
const listOptions = [...failedOptions, 'endpointId', 'state'] as const

export class Queries {
  readonly #store: Store
  readonly #registry: WebhookRegistry

  readonly #nowMs: () => number

  constructor(store: Store, registry: WebhookRegistry, nowMs: () => number) {
    this.#store = store
    this.#registry = registry
    this.#nowMs = nowMs
  }

  /** Why a delivery waits, whichever process would send it; null when it does not wait. */
  async waitingReason(found: DeliveryFound): Promise<WaitingReason | null> {
    const flow = await this.#store.findFlow(found.endpointKey)
    if (flow !== null) this.#registry.flows.note(flow)
    return this.#waitingReason(found)
  }

  /** By what is known of the flow: at most a second old, and without the times others have taken. */
  #waitingReason(found: DeliveryFound): WaitingReason | null {
    const endpoint = this.#registry.byKey(found.endpointKey)
    if (endpoint === undefined) return null
    const flow = this.#registry.flows.get(found.endpointKey)
    return waitingReason(endpoint, flow, found, this.#nowMs())
  }

  /** Send times that other processes have taken are known to the store alone. */
  async #noteSendTimes(deliveries: readonly DeliveryFound[]): Promise<void> {
    const paced = deliveries.filter(
      ({ state, endpointKey }) =>
        state === 'waiting' && Boolean(this.#registry.byKey(endpointKey)?.rateLimit),
    )
    await Promise.all(paced.map((one) => this.waitingReason(one)))
  }

  async event(id: string, scope?: TenantScope): Promise<EventReport | null> {
    checkAsked('event', id, scope)
    // A store need not be able to hold it even as a question.
    if (!idPattern.test(id)) return null
    const found = await this.#store.findEvent(scopedTenantId(scope?.tenantId), id)
    if (found === null) return null
    const body = found.body === null ? null : parseBody(found.body)
    await this.#noteSendTimes(found.deliveries)
    return {
      id: found.id,
      type: found.type,
      tenantId: found.tenantId || null,
      acceptedAt: new Date(found.acceptedAtMs),
      body,
      deliveries: await this.#withAttempts(found.deliveries),
      notMatched: this.#notMatched(found, body),
      pendingDeliveries: found.pendingFanOut,
    }
  }

  async delivery(id: string, scope?: TenantScope): Promise<WebhookDelivery | null> {
    const found = await this.find(id, scope)
    if (found === null) return null
    if (found.state === 'waiting') await this.waitingReason(found)
    return (await this.#withAttempts([found]))[0] ?? null
  }

  /** A delivery of another tenant looks absent. */
  async find(id: string, scope?: TenantScope): Promise<DeliveryFound | null> {
    checkAsked('delivery', id, scope)
    if (parseDeliveryId(id) === null) return null
    const found = await this.#store.findDelivery(id)
    if (found === null) return null
    const tenantId = scopedTenantId(scope?.tenantId)
    return tenantId === '*' || tenantId === found.tenantId ? found : null
  }

  async list(query: DeliveryListQuery): Promise<DeliveryPage> {
    checkOptions(query, listOptions, 'listDeliveries')
    const limit = checkLimit(query.limit)
    const found = await this.#store.listDeliveries(this.#asQuery(query, limit + 1))
    const page = found.slice(0, limit)
    return {
      deliveries: await this.#withAttempts(page),
      nextCursor: found.length > limit ? (page.at(-1)?.id ?? null) : null,
    }
  }

  /** Oldest first, at most a thousand. */
  async blockedKeys(query: BlockedKeyQuery): Promise<BlockedOrderKey[]> {
    checkOptions(query, ['tenantId', 'endpointId'], 'listBlockedKeys')
    const tenantId = scopedTenantId(query.tenantId)
    const found = await this.#store.blockedKeys(
      tenantId === '*' ? null : tenantId,
      this.#endpointKeyOf(query),
      mostBlockedKeys,
    )
    return found.map(({ endpointKey, key, deliveryId, atMs }) => {
      const record = this.#registry.byKey(endpointKey)
      return {
        endpointId: record?.id ?? endpointKey,
        tenantId: record?.tenantId || null,
        key: valueOfOrderKey(key),
        deliveryId,
        since: new Date(atMs),
      }
    })
  }

  async failed(
    endpointId: string | undefined,
    query: DeliveryListQuery,
  ): Promise<FailedDelivery[]> {
    checkOptions(query, failedOptions, 'getFailedDeliveries')
    const limit = checkLimit(query.limit)
    const asked = this.#asQuery(
      { ...query, endpointId, state: ['exhausted', 'rejected'] },
      limit,
      true,
    )
    const deliveries = await this.#withAttempts(await this.#store.listDeliveries(asked))
    return deliveries.filter(isFailed)
  }

  #asQuery(query: DeliveryListQuery, limit: number, skipRetried = false): DeliveryQuery {
    const tenantId = scopedTenantId(query.tenantId)
    const states = checkStates(query.state)
    const range = rangeMs(['from', query.from], ['to', query.to])
    if (query.eventType !== undefined) checkEventType(query.eventType, 'eventType')
    const before = checkCursor(query.cursor)
    return {
      tenantId: tenantId === '*' ? null : tenantId,
      endpointKey: this.#endpointKeyOf(query),
      states,
      eventType: query.eventType ?? null,
      ...range,
      skipRetried,
      before,
      limit,
    }
  }

  /** Of one that is not there nothing is listed: that would read as if nothing of it had failed. */
  #endpointKeyOf({ endpointId, tenantId }: BlockedKeyQuery): string | null {
    if (endpointId === undefined) return null
    checkAsked('endpoint', endpointId, { tenantId })
    return this.#registry.require(endpointId, { tenantId }).key
  }

  async #withAttempts(found: readonly DeliveryFound[]): Promise<WebhookDelivery[]> {
    const attempts = await this.#store.attemptsOf(found)
    return found.map((one) =>
      publicDelivery(one, attempts.get(one.id) ?? [], this.#waitingReason(one)),
    )
  }

  #notMatched(
    event: EventFound,
    body: WebhookEventBody | null,
  ): { endpointId: string; reason: NotMatchedReason }[] {
    const reached = new Set(event.deliveries.map((one) => one.endpointKey))
    return this.#registry
      .records({ tenantId: event.tenantId })
      .filter((endpoint) => !reached.has(endpoint.key) && event.pendingFanOut === 0)
      .map((endpoint) => ({ endpointId: endpoint.id, reason: reasonFor(endpoint, event, body) }))
  }
}

function reasonFor(
  endpoint: EndpointRecord,
  event: EventFound,
  body: WebhookEventBody | null,
): NotMatchedReason {
  if (isSystemEvent(event.type)) return 'system_event'
  if (endpoint.createdAtMs > event.acceptedAtMs) return 'endpoint_registered_later'
  const reason = whyNotMatched(endpoint, event.type, body?.metadata ?? {}, body?.data)
  if (/^(body_)?filter/.test(reason ?? '') && body === null) return 'unknown'
  return reason ?? 'endpoint_changed_later'
}

function parseBody(body: Uint8Array): WebhookEventBody {
  return JSON.parse(new TextDecoder().decode(body)) as WebhookEventBody
}

function publicDelivery(
  found: DeliveryFound,
  attempts: readonly AttemptFound[],
  waits: WaitingReason | null,
): WebhookDelivery {
  return {
    id: found.id,
    eventId: found.eventId,
    eventType: found.eventType,
    endpointId: found.endpointId,
    tenantId: found.tenantId || null,
    state: found.state,
    reason: found.reason,
    round: found.round,
    attemptCount: found.attempts,
    batchId: found.batchId,
    createdAt: new Date(found.createdAtMs),
    nextAttemptAt:
      found.dueAtMs === null || found.dueAtMs >= behindMs ? null : new Date(found.dueAtMs),
    expiresAt: found.expiresAtMs === null ? null : new Date(found.expiresAtMs),
    waiting: waits && {
      for: waits.waitingFor,
      until: waits.untilMs === null ? null : new Date(waits.untilMs),
    },
    settledAt: found.settledAtMs === null ? null : new Date(found.settledAtMs),
    attempts: attempts.map((one) => publicAttempt(one, one.late)),
  }
}

function publicAttempt(record: AttemptRecord, late: boolean): WebhookAttempt {
  return {
    number: record.number,
    startedAt: new Date(record.startedAtMs),
    latencyMs: record.latencyMs,
    outcome: record.outcome,
    httpStatus: record.httpStatus,
    error: record.error,
    responseBody:
      record.responseBody === null ? null : new TextDecoder().decode(record.responseBody),
    endpointVersion: record.endpointVersion,
    late,
  }
}

function isFailed(delivery: WebhookDelivery): delivery is FailedDelivery {
  return (
    (delivery.state === 'exhausted' || delivery.state === 'rejected') &&
    delivery.attempts.length > 0
  )
}

export function checkLimit(limit = 100): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= 1_000) return limit
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`limit\` to be an integer from 1 to 1000, got ${describeValue(limit)}.`,
  )
}

function checkStates(given: unknown): readonly DeliveryState[] | null {
  if (given === undefined) return null
  const asked: readonly unknown[] = Array.isArray(given) ? given : [given]
  const wrong = asked.find((one) => !states.includes(one as string))
  if (asked.length > 0 && wrong === undefined) return asked as DeliveryState[]
  const meant = typeof wrong === 'string' ? closest(wrong, states) : null
  const hint = meant ? `did you mean "${meant}"?` : 'what failed is exhausted or rejected.'
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`state\` to be one or some of ${states.join(', ')}, got ${describeValue(asked.length > 0 ? wrong : given)}; ${hint}`,
  )
}

function checkCursor(cursor: unknown): string | null {
  if (cursor === undefined) return null
  if (typeof cursor === 'string' && parseDeliveryId(cursor) !== null) return cursor
  throw new WebhookError(
    'CURSOR_INVALID',
    `Expected \`cursor\` to be the \`nextCursor\` of a page, got ${describeValue(cursor)}.`,
  )
}
