/** Repairs by hand, one delivery or one backlog at a time; and saying why something cannot be. */

import type { WebhookDelivery } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEventType } from '../model/event.ts'
import { checkAsked, checkId, checkOptions } from '../model/given.ts'
import { parseDeliveryId } from '../model/ids.ts'
import { dateMs } from '../model/moment.ts'
import { checkEventPattern, scopedTenantId } from '../model/names.ts'
import { typeMatches } from '../policy/match.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { DeliveryFound } from '../storage/questions.ts'
import type { RetryResult } from '../storage/repairs.ts'
import type { Engine } from './engine.ts'
import type { Queries } from './queries.ts'

export interface RepairTools {
  readonly engine: Engine
  readonly queries: Queries
  readonly registry: WebhookRegistry
  readonly nowMs: number
}

/** Which deliveries of an endpoint `cancelPending` ends; all that wait by default. */
export interface CancelPendingQuery extends TenantScope {
  /** Exact types, `message.*`, or `*`. */
  types?: readonly WebhookEventType[] | undefined
  /** By the time the event was accepted: before (exclusive). */
  until?: Date | undefined
}

/** Why a delivery was cancelled by `cancelDelivery` and `cancelPending`. */
const byRequest = 'by_request'
const cancelStep = 1_000

const whyNotRetriable: Readonly<Record<Exclude<RetryResult['kind'], 'moved' | 'created'>, string>> =
  {
    'in-flight': 'which is being sent at this moment; wait for its outcome',
    'behind another of its key':
      'which waits behind another of its key; retry or skip that one, see `listBlockedKeys`',
    'body-gone':
      'whose body was erased or removed by retention; dispatch the event again under a new id',
    unknown: 'which is gone, or whose endpoint has just been disabled or removed',
  }

/**
 * @throws WebhookError DELIVERY_NOT_FOUND, DELIVERY_NOT_RETRIABLE, ENDPOINT_DISABLED,
 *   ENDPOINT_NOT_FOUND
 */
export async function retryDelivery(
  { engine, queries, registry, nowMs }: RepairTools,
  id: string,
  scope: TenantScope | undefined,
): Promise<WebhookDelivery> {
  const found = await queries.find(id, scope)
  if (found === null) throw unknownDelivery(id)
  refuseUnsendable(registry, found)
  // Done or not, when no answer comes: to look costs little, and nobody else would.
  const look = () => engine.scheduler.stored(found.endpointKey, nowMs)
  const result = await engine.store.retryDelivery(id, nowMs).catch((error: unknown) => {
    look()
    throw error
  })
  if (!('deliveryId' in result)) {
    throw new WebhookError(
      'DELIVERY_NOT_RETRIABLE',
      `Expected a delivery that can be sent now, got ${JSON.stringify(id)}, ${whyNotRetriable[result.kind]}.`,
    )
  }
  // As it is before it is sent: what becomes of it, getDelivery tells.
  const retried = await queries.delivery(result.deliveryId, { tenantId: '*' }).finally(look)
  if (retried === null) throw unknownDelivery(result.deliveryId)
  return retried
}

/** @throws WebhookError DELIVERY_NOT_FOUND, DELIVERY_NOT_CANCELLABLE */
export async function cancelDelivery(
  { engine, queries }: RepairTools,
  id: string,
  scope: TenantScope | undefined,
): Promise<WebhookDelivery> {
  const found = await queries.find(id, scope)
  if (found === null) throw unknownDelivery(id)
  const result = await engine.cancelling.cancel(id, found, byRequest)
  if (result === 'in-batch' || result === 'ended') {
    const why =
      result === 'in-batch'
        ? `${JSON.stringify(id)} of the sealed batch ${found.batchId}, whose bytes never change`
        : `${JSON.stringify(id)}, which has ended`
    throw new WebhookError(
      'DELIVERY_NOT_CANCELLABLE',
      `Expected a delivery that waits or is in flight on its own, got ${why}; \`cancelPending\` ends whole batches.`,
    )
  }
  const cancelled = await queries.delivery(id, { tenantId: '*' })
  if (cancelled === null) throw unknownDelivery(id)
  return cancelled
}

/**
 * Ends what waits for an endpoint, in steps. What is in flight goes on.
 *
 * @returns how many deliveries ended
 * @throws WebhookError ENDPOINT_NOT_FOUND, OPTION_INVALID, EVENT_TYPE_INVALID
 */
export async function cancelPending(
  tools: RepairTools,
  endpointId: string,
  query: CancelPendingQuery,
): Promise<number> {
  const { engine, registry } = tools
  checkId('endpoint', endpointId)
  const chosen = checkPending(query)
  const endpoint = registry.find(endpointId, query)
  if (endpoint === undefined) throw unknownEndpoint(endpointId)
  // What memory holds is owned, so it has to go back first, and nothing may be claimed meanwhile.
  return await engine.cancelling.whileSuspended(endpoint.key, () =>
    chosen.types === null && chosen.untilMs === null
      ? cancelAll(tools, endpoint)
      : cancelChosen(tools, endpoint, chosen),
  )
}

interface Chosen {
  readonly types: readonly string[] | null
  readonly untilMs: number | null
}

async function cancelAll({ engine, nowMs }: RepairTools, endpoint: EndpointRecord) {
  let count = 0
  for (;;) {
    const ids = await engine.store.cancelDeliveries(endpoint.key, byRequest, nowMs, cancelStep)
    engine.cancelling.tell(ids, endpoint.id, byRequest)
    count += ids.length
    if (ids.length === 0) return count
  }
}

/** Types are judged here and nowhere else; a sealed batch stays whole. */
async function cancelChosen(
  { engine, nowMs }: RepairTools,
  endpoint: EndpointRecord,
  { types, untilMs }: Chosen,
): Promise<number> {
  let count = 0
  let before: string | null = null
  do {
    const page: DeliveryFound[] = await engine.store.listDeliveries({
      tenantId: endpoint.tenantId,
      endpointKey: endpoint.key,
      states: ['waiting'],
      eventType: null,
      fromMs: null,
      toMs: untilMs,
      skipRetried: false,
      before,
      limit: cancelStep,
    })
    const ids = page
      .filter(({ batchId }) => batchId === null)
      .filter(({ eventType }) => types?.some((one) => typeMatches(one, eventType)) ?? true)
      .map(({ id }) => id)
    const results = await engine.store.cancelSome(ids, byRequest, nowMs)
    const ended = ids.filter((_, i) => results[i] === 'cancelled')
    engine.cancelling.tell(ended, endpoint.id, byRequest)
    count += ended.length
    before = page.length === cancelStep ? (page.at(-1)?.id ?? null) : null
  } while (before !== null)
  return count
}

function checkPending(query: CancelPendingQuery): Chosen {
  checkOptions(query, ['tenantId', 'types', 'until'], 'cancelPending')
  const { types, until } = query
  // A choice that came to nothing is a mistake, and must not end more than was meant.
  if (types !== undefined && (!Array.isArray(types) || types.length === 0)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`types\` to be a non-empty list such as ['message.*'], got ${describeValue(types)}.`,
    )
  }
  for (const pattern of types ?? []) checkEventPattern(pattern, 'types')
  return { types: types ?? null, untilMs: dateMs('until', until) }
}

/**
 * Lets go on what waits behind a delivery that failed at the head of its key. It stays failed.
 *
 * @throws WebhookError DELIVERY_NOT_FOUND
 */
export async function skipDelivery(
  { engine, registry, nowMs }: RepairTools,
  id: string,
  scope: TenantScope | undefined,
): Promise<void> {
  checkAsked('delivery', id, scope)
  const tenantId = scopedTenantId(scope?.tenantId)
  // By the id alone: a key is let go on even where nothing is left of what holds it up.
  const endpoint = registry.byKey(parseDeliveryId(id)?.endpointKey ?? '')
  const isHis = endpoint && (tenantId === '*' || tenantId === endpoint.tenantId)
  if (!isHis || !(await engine.store.releaseOrder(endpoint.key, id, nowMs))) {
    throw new WebhookError(
      'DELIVERY_NOT_FOUND',
      `Expected the id of a failed delivery that holds up its key, got ${JSON.stringify(id)}; \`listBlockedKeys\` lists them.`,
    )
  }
  engine.scheduler.stored(endpoint.key, nowMs)
}

function refuseUnsendable(registry: WebhookRegistry, found: DeliveryFound): void {
  const endpoint = registry.byKey(found.endpointKey)
  if (endpoint === undefined) {
    throw new WebhookError(
      'ENDPOINT_NOT_FOUND',
      `Expected endpoint "${found.endpointId}" to be there, but it was removed; register it again and dispatch the event under a new id.`,
    )
  }
  refuseDisabled(endpoint)
}

/** @throws WebhookError ENDPOINT_DISABLED */
export function refuseDisabled({ id, status, statusReason }: EndpointRecord): void {
  if (status !== 'disabled') return
  throw new WebhookError(
    'ENDPOINT_DISABLED',
    `Expected endpoint "${id}" to be enabled, but it is disabled (${statusReason ?? 'no reason given'}); enable it with \`enableEndpoint\` first.`,
  )
}

export function unknownEndpoint(id: string): WebhookError {
  return new WebhookError(
    'ENDPOINT_NOT_FOUND',
    `Expected the id of a registered endpoint, got ${JSON.stringify(id)}; register it first with \`registerEndpoint\`.`,
  )
}

function unknownDelivery(id: string): WebhookError {
  return new WebhookError(
    'DELIVERY_NOT_FOUND',
    `Expected the id of a delivery, got ${JSON.stringify(id)}; \`listDeliveries\` lists them.`,
  )
}
