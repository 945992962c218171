/**
 * What stands behind the registry while a service runs: changes of endpoints go to the store
 * encrypted, and what is in force is followed by lanes, health and whoever listens.
 */
import type { WebhookDispatcher } from '../deliver/dispatcher.ts'
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Facts } from '../observe/facts.ts'
import type { Logger } from '../observe/log.ts'
import type { RegistryBacking } from '../registry/backing.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { Scheduler } from '../schedule/scheduler.ts'
import { type EndpointChange, liftsFlow } from '../storage/endpoints.ts'
import type { Store } from '../storage/storage.ts'
import type { EndpointEncryption } from './endpoint-encryption.ts'
import type { HealthKeeper } from './health-keeper.ts'
import { warnOfNewSecret } from './notices.ts'
import type { ServiceOptions } from './options.ts'
import { tellBreaker, tellEndpointChange } from './tell.ts'

export interface RegistryBackingTools {
  readonly store: Store
  readonly options: Pick<ServiceOptions, 'enableSecurity' | 'secretKey' | 'rotationOverlapMs'>
  readonly dispatcher: WebhookDispatcher
  readonly encryption: EndpointEncryption
  readonly registry: WebhookRegistry
  readonly scheduler: Scheduler
  readonly health: HealthKeeper
  readonly clock: Clock
  readonly facts: Facts
  readonly logger: Logger
  /** What waits for this endpoint, which is disabled or gone, must be ended. */
  readonly orphaned: (endpointKey: string) => void
  /** Resolves when all of that is ended. */
  readonly endWaiting: (endpointKey: string) => Promise<void>
}

export function createRegistryBacking(tools: RegistryBackingTools): RegistryBacking {
  const { store, options, dispatcher, encryption, clock } = tools
  return {
    needsSecret: options.enableSecurity,
    sharedSecret: options.secretKey,
    rotationOverlapMs: options.rotationOverlapMs,
    schemes: dispatcher.securityManager.schemes,
    async save(record, change, seenVersion) {
      const isWritten = await store.saveEndpoint(encryption.seal(record), change, seenVersion)
      if (isWritten) encryption.settled(record.key)
      if (isWritten && liftsFlow(record, change)) await noteLifted(tools, record)
      return isWritten
    },
    endWaiting: tools.endWaiting,
    async isHeldUp(endpointKey) {
      const flow = await store.findFlow(endpointKey)
      if (flow === null) return false
      return flow.heldUntilMs > clock.nowMs() || flow.breaker.state !== 'closed'
    },
    async changedSince(version) {
      const changed = await store.changedEndpoints(version)
      return { ...changed, endpoints: encryption.openAll(changed.endpoints) }
    },
    async remove(record, change) {
      await store.removeEndpoint(record.key, change)
      encryption.settled(record.key)
    },
    changed: (record, change) => followChange(tools, record, change),
  }
}

/** Changes after which something can be due that was not. */
const mayMakeDue = new Set(['status', 'ordering'])

/** It is written and in force. */
function followChange(
  tools: RegistryBackingTools,
  record: EndpointRecord,
  change: EndpointChange,
): void {
  const { registry, scheduler, health, clock, facts, logger, orphaned } = tools
  warnOfNewSecret(logger, record, change)
  if (change.what === 'removed') registry.flows.remove(record.key)
  scheduler.refresh(record.key)
  // Not before the lane has the endpoint as it is now: the next request must not go to the old address.
  if (liftsFlow(record, change)) scheduler.flowChanged(registry.flows.get(record.key))
  if (record.status === 'disabled') orphaned(record.key)
  // Memory forgot what a disabled endpoint had in the store; not all of it need be ended yet.
  // What had to wait for its turn, or for what failed, may be due.
  else if (record.status === 'active' && change.fields.some((field) => mayMakeDue.has(field))) {
    scheduler.stored(record.key, clock.nowMs())
  }
  if (change.fields.includes('url')) health.clear(record.key, change.atMs)
  tellEndpointChange(facts, record, change)
}

/** As the store has made it. Where it cannot be read, the endpoint is sent to when its time is over. */
async function noteLifted(tools: RegistryBackingTools, endpoint: EndpointRecord): Promise<void> {
  const { store, registry, logger } = tools
  try {
    const flow = await store.findFlow(endpoint.key)
    if (flow === null) return
    const before = registry.flows.get(endpoint.key).breaker
    const { breaker } = registry.flows.note(flow)
    if (before.state !== 'closed' && breaker.state === 'closed')
      tellBreaker(tools, endpoint, breaker)
  } catch (error) {
    logger.warn({ error: String(error) }, 'what was lifted of an endpoint cannot be read')
  }
}
