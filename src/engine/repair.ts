/** Repairs by hand: making a delivery due now, and saying why that cannot be. */

import type { WebhookDelivery } from '../model/delivery.ts'
import { WebhookError } from '../model/errors.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { DeliveryFound } from '../storage/storage.ts'
import type { Engine } from './engine.ts'
import type { Queries } from './queries.ts'

export interface RepairTools {
  readonly engine: Engine
  readonly queries: Queries
  readonly registry: WebhookRegistry
  readonly nowMs: number
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
      `Expected a delivery that waits or has ended and whose body is kept, got ${JSON.stringify(id)}, which is ${result.kind}.`,
    )
  }
  // As it is before it is sent: what becomes of it, getDelivery tells.
  const retried = await queries.delivery(result.deliveryId, { tenantId: '*' }).finally(look)
  if (retried === null) throw unknownDelivery(result.deliveryId)
  return retried
}

/**
 * Lets go on what waits behind a delivery that failed at the head of its key. It stays failed.
 *
 * @throws WebhookError DELIVERY_NOT_FOUND
 */
export async function skipDelivery(
  { engine, queries, nowMs }: RepairTools,
  id: string,
  scope: TenantScope | undefined,
): Promise<void> {
  const found = await queries.find(id, scope)
  if (found === null || !(await engine.store.releaseOrder(found.endpointKey, id, nowMs))) {
    throw new WebhookError(
      'DELIVERY_NOT_FOUND',
      `Expected the id of a failed delivery that holds up its key, got ${JSON.stringify(id)}; \`getFailedDeliveries\` lists what failed.`,
    )
  }
  engine.scheduler.stored(found.endpointKey, nowMs)
}

function refuseUnsendable(registry: WebhookRegistry, found: DeliveryFound): void {
  const endpoint = registry.byKey(found.endpointKey)
  if (endpoint === undefined) {
    throw new WebhookError(
      'ENDPOINT_NOT_FOUND',
      `Expected endpoint "${found.endpointId}" to be there, but it was removed; register it again and dispatch the event under a new id.`,
    )
  }
  if (endpoint.status === 'disabled') {
    throw new WebhookError(
      'ENDPOINT_DISABLED',
      `Expected endpoint "${found.endpointId}" to be enabled, but it is disabled (${endpoint.statusReason ?? 'no reason given'}); enable it with \`resumeEndpoint\` first.`,
    )
  }
}

function unknownDelivery(id: string): WebhookError {
  return new WebhookError(
    'DELIVERY_NOT_FOUND',
    `Expected the id of a delivery, got ${JSON.stringify(id)}; \`listDeliveries\` lists them.`,
  )
}
