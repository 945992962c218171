/** The parts of a service: those that are handed in, and those its options ask for. */
import type { WebhookConfig } from '../engine/options.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import { checkOptions } from '../model/given.ts'
import { RetryManager } from '../policy/retry-manager.ts'
import { WebhookRegistry } from '../registry/webhook-registry.ts'
import { SecurityManager } from '../security/security-manager.ts'
import { sqlite } from '../storage/sqlite/sqlite.ts'
import type { Storage } from '../storage/storage.ts'
import type { WebhookServiceParts } from './shapes.ts'

/** Each part by what the service calls first: they may come from another copy of this package. */
const shapes = {
  registry: ['attach', 'a WebhookRegistry'],
  dispatcher: ['attempt', 'a WebhookDispatcher'],
  securityManager: ['generateSignature', 'a SecurityManager'],
  retryManager: ['policyFor', 'a RetryManager'],
} as const satisfies Record<keyof WebhookServiceParts, readonly [string, string]>

/** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID */
export function checkParts(parts: WebhookServiceParts): void {
  checkOptions(parts, Object.keys(shapes), "WebhookService's parts")
  for (const [name, [verb, what]] of Object.entries(shapes)) {
    const part: unknown = parts[name as keyof typeof shapes]
    if (part === undefined) continue
    if (typeof (part as Record<string, unknown> | null)?.[verb] === 'function') continue
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the part \`${name}\` to be ${what}, got ${describeValue(part)}.`,
    )
  }
}

export function storageOf(storage: WebhookConfig['storage']): Storage {
  if (storage === undefined) return sqlite()
  return typeof storage === 'string' ? sqlite({ path: storage }) : storage
}

export function retriesOf(config: WebhookConfig): RetryManager {
  return new RetryManager({
    maxRetries: config.maxRetries,
    baseDelayMs: config.retryDelayMs,
    maxDelayMs: config.maxDelayMs,
    backoffMultiplier: config.backoffMultiplier,
    jitter: config.jitter,
    retryScheduleMs: config.retryScheduleMs,
  })
}

export function securityOf(
  { signature }: WebhookConfig,
  { securityManager, dispatcher }: WebhookServiceParts,
): SecurityManager | undefined {
  if (signature === undefined) return securityManager
  if (securityManager === undefined && dispatcher === undefined) {
    return new SecurityManager(signature)
  }
  throw new WebhookError(
    'OPTION_INVALID',
    'Expected `signature` or a SecurityManager (alone or in a dispatcher), got both; leave out one of the two.',
  )
}

/** A dispatcher brings the parts it was built with. */
export function givenRetries(parts: WebhookServiceParts): RetryManager | undefined {
  const given = parts.dispatcher?.retryManager
  return given instanceof RetryManager ? given : undefined
}

export function givenRegistry(parts: WebhookServiceParts): WebhookRegistry | undefined {
  const given = parts.dispatcher?.registry
  return given instanceof WebhookRegistry ? given : undefined
}
