/** What `health()` says: how writing goes, and whether sending keeps up. */
import type { Engine } from '../engine/engine.ts'
import { WebhookError } from '../model/errors.ts'
import type { Backlog } from '../storage/questions.ts'
import type { ServiceBacklog, ServiceHealth } from './shapes.ts'

export function healthUnopened(
  status: 'starting' | 'degraded' | 'closed',
  failedToOpen: Error | null,
): ServiceHealth {
  const nothing = { storage: null, backlog: null, encryption: null }
  return { status, trouble: troubleOf(failedToOpen), ...nothing, requestsUnderWay: 0 }
}

export async function healthOf(engine: Engine, nowMs: number): Promise<ServiceHealth> {
  const { store, scheduler, encryption } = engine
  // A store that cannot be asked is what health is asked about.
  const backlog = await store.backlog().catch((error: Error) => error)
  const unasked = backlog instanceof Error ? backlog : null
  const trouble = engine.trouble ?? store.damage ?? unasked
  const { newestKeyId: key, outdated } = encryption
  return {
    status: trouble === null ? 'ok' : 'degraded',
    storage: { description: store.description, location: store.location },
    trouble: troubleOf(trouble),
    backlog: backlog instanceof Error ? null : withAge(backlog, engine, nowMs),
    requestsUnderWay: scheduler.active,
    encryption: key === null ? null : { key, endpointsLeft: outdated.size },
  }
}

/** In the store, or taken from it and still in memory. */
function withAge(backlog: Backlog, { options, scheduler }: Engine, nowMs: number): ServiceBacklog {
  // Under a limit of the service each endpoint has one, and no process could send sooner.
  const storedMs = options.endpointRateLimit === null ? backlog.oldestDueAtMs : null
  const oldestMs = Math.min(storedMs ?? Number.POSITIVE_INFINITY, scheduler.waitingSinceMs)
  return { ...backlog, oldestDueAgeMs: Math.max(0, nowMs - oldestMs) }
}

function troubleOf(error: Error | null): ServiceHealth['trouble'] {
  if (error === null) return null
  return { code: error instanceof WebhookError ? error.code : error.name, message: error.message }
}
