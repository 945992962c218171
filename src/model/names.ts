/** The grammar of ids, event types and tenants: one place, so that every door agrees. */
import { describeValue, WebhookError } from './errors.ts'
import { WebhookEventType } from './event.ts'
import { closest } from './suggest.ts'

/** No dot: a Standard Webhooks signature joins id, timestamp and body with dots. */
export const idPattern = /^[A-Za-z0-9_-]{1,256}$/

const eventTypePattern = /^[a-z0-9_]+(?:\.[a-z0-9_]+)*$/
const maxEventTypeLength = 128
const knownTypes: ReadonlySet<string> = new Set(Object.values(WebhookEventType))

/** @throws WebhookError EVENT_TYPE_INVALID */
export function checkEventType(type: unknown): asserts type is string {
  if (
    typeof type === 'string' &&
    type.length <= maxEventTypeLength &&
    eventTypePattern.test(type)
  ) {
    return
  }
  throw new WebhookError(
    'EVENT_TYPE_INVALID',
    `Expected \`type\` to be a dotted name of a-z, 0-9 and _ such as "message.sent", at most ${maxEventTypeLength} characters, got ${describeValue(type)}.`,
  )
}

/** An exact type, `message.*` or `*`. @throws WebhookError EVENT_TYPE_INVALID */
export function checkEventPattern(pattern: unknown): asserts pattern is string {
  if (pattern === '*') return
  if (typeof pattern === 'string' && pattern.endsWith('.*')) checkEventType(pattern.slice(0, -2))
  else checkEventType(pattern)
}

/** @returns the known type that was probably meant; null when the type is known or quite its own */
export function nearMissOfKnownType(type: string): string | null {
  if (knownTypes.has(type)) return null
  return closest(type, [...knownTypes])
}

/**
 * Whose data a question is about: '' for those without a tenant, '*' for everybody's.
 *
 * @throws WebhookError TENANT_ID_INVALID, also for what would only look like the text it becomes
 */
export function scopedTenantId(tenantId: unknown): string {
  if (tenantId === '*' || tenantId === '' || tenantId === undefined || tenantId === null) {
    return tenantId ?? ''
  }
  checkTenantId(tenantId)
  return tenantId as string
}

/** @throws WebhookError TENANT_ID_INVALID */
export function checkTenantId(tenantId: unknown): asserts tenantId is string | undefined {
  if (tenantId === undefined) return
  if (typeof tenantId === 'string' && idPattern.test(tenantId)) return
  throw new WebhookError(
    'TENANT_ID_INVALID',
    `Expected \`tenantId\` to be 1 to 256 characters of A-Z, a-z, 0-9, _ and -, got ${describeValue(tenantId)}; leave it out for no tenant.`,
  )
}
