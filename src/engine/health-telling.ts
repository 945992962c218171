/** What a run of failures means outside: facts, log lines, system events, and the end of it. */
import type { DeliveryState } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointHealth } from '../model/health.ts'
import type { Facts } from '../observe/facts.ts'
import { type Logger, loggableUrl } from '../observe/log.ts'
import { disableAtMs, type HealthRule } from '../policy/health.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { Store } from '../storage/storage.ts'
import { failingSince, HealthKeeper } from './health-keeper.ts'
import type { SystemEvents } from './system-events.ts'

export interface HealthParts {
  readonly store: Store
  readonly options: HealthRule
  readonly registry: WebhookRegistry
  readonly facts: Facts
  readonly logger: Logger
}

export function createHealthKeeper(
  parts: HealthParts,
  system: SystemEvents,
  during: (work: Promise<unknown>) => void,
): HealthKeeper {
  const { store, registry, logger, options: rule } = parts
  return new HealthKeeper({
    store,
    rule,
    logger,
    during,
    endpoint: (key) => registry.byKey(key),
    warn: (endpoint, health) => tellFailing(parts, system, endpoint, health),
    recovered: (endpoint, run) => tellRecovered(parts, system, endpoint, run),
    async disable(endpoint, health) {
      const reason = `disabled by rule: ${failingSince(health)}`
      if (!(await registry.disableActive(endpoint.key, reason))) return
      const { id, url } = endpoint
      logger.warn({ endpoint: id, url: loggableUrl(url), reason }, 'endpoint.disabled')
      const { lastFailedAtMs } = health
      await system.tell('disabled', endpoint, lastFailedAtMs, { reason, ...runOf(health) })
    },
  })
}

async function tellFailing(
  { facts, logger, options: rule }: HealthParts,
  system: SystemEvents,
  endpoint: EndpointRecord,
  health: EndpointHealth,
): Promise<void> {
  const stage = health.warned === 'final' ? 'final' : 'early'
  const atMs = disableAtMs(health, rule)
  const disableAt = atMs === null ? null : new Date(atMs)
  const { id, url } = endpoint
  const said = { endpoint: id, url: loggableUrl(url), stage, since: failingSince(health) }
  logger.warn({ ...said, disable_at: disableAt?.toISOString() }, 'endpoint.failing')
  facts.tell('endpoint.failing', { ...whose(endpoint), stage, ...runOf(health), disableAt })
  await system.tell('failing', endpoint, health.warnedAtMs, { stage, ...runOf(health), disableAt })
}

async function tellRecovered(
  { facts, logger }: HealthParts,
  system: SystemEvents,
  endpoint: EndpointRecord,
  run: EndpointHealth,
): Promise<void> {
  logger.info({ endpoint: endpoint.id }, 'endpoint.recovered')
  facts.tell('endpoint.recovered', { ...whose(endpoint), ...runOf(run) })
  await system.tell('recovered', endpoint, run.lastFailedAtMs, runOf(run))
}

function whose({ id, tenantId }: EndpointRecord): { endpointId: string; tenantId: string | null } {
  return { endpointId: id, tenantId: tenantId || null }
}

function runOf(health: EndpointHealth): { since: Date; failedDeliveries: number } {
  return {
    since: new Date(health.failingSinceMs ?? 0),
    failedDeliveries: health.failedDeliveries,
  }
}

/** Given up without success; what is cancelled says nothing about the endpoint. */
export function isFailedEnd(state: DeliveryState): boolean {
  return state === 'exhausted' || state === 'rejected'
}
