/** The grammar of ids, event types and tenants: one place, so that every door agrees. */
import { describeValue, WebhookError } from './errors.ts'
import { WebhookEventType } from './event.ts'
import { closest } from './suggest.ts'

/** No dot: a Standard Webhooks signature joins id, timestamp and body with dots. */
export const idPattern = /^[A-Za-z0-9_-]{1,256}$/

const eventTypePattern = /^[a-z0-9_]+(?:\.[a-z0-9_]+)*$/
const maxEventTypeLength = 128
const knownTypes: ReadonlySet<string> = new Set(Object.values(WebhookEventType))
const knownPatterns: ReadonlySet<string> = new Set(
  [...knownTypes].map((type) => type.replace(/[^.]+$/, '*')),
)

/** @param name of the field or option, for the sentence @throws WebhookError EVENT_TYPE_INVALID */
export function checkEventType(type: unknown, name = 'type'): asserts type is string {
  if (isEventType(type)) return
  throw new WebhookError(
    'EVENT_TYPE_INVALID',
    `Expected \`${name}\` to be a name of a-z, 0-9 and _, its parts joined by dots as in "message.sent", at most ${maxEventTypeLength} characters, got ${describeValue(type)}${inLowerCase(type, isEventType)}.`,
  )
}

/** An exact type, `message.*` or `*`. @throws WebhookError EVENT_TYPE_INVALID */
export function checkEventPattern(pattern: unknown, name: string): asserts pattern is string {
  if (isPattern(pattern)) return
  throw new WebhookError(
    'EVENT_TYPE_INVALID',
    `Expected \`${name}\` to list types of a-z, 0-9 and _ such as "message.sent", "message.*" or "*", at most ${maxEventTypeLength} characters, got ${describeValue(pattern)} among them${inLowerCase(pattern, isPattern)}.`,
  )
}

/** What to do, where that is plain. */
function inLowerCase(type: unknown, fits: (type: unknown) => boolean): string {
  if (typeof type !== 'string' || !fits(type.toLowerCase())) return ''
  return `; write it in lower case, "${type.toLowerCase()}"`
}

function isEventType(type: unknown): boolean {
  return (
    typeof type === 'string' && type.length <= maxEventTypeLength && eventTypePattern.test(type)
  )
}

function isPattern(pattern: unknown): boolean {
  const isGroup = typeof pattern === 'string' && pattern.endsWith('.*')
  return pattern === '*' || isEventType(isGroup ? pattern.slice(0, -2) : pattern)
}

/**
 * @param type of an event, or a pattern of an endpoint
 * @returns the known one that was probably meant; null when it is known or quite its own
 */
export function nearMissOfKnownType(type: string): string | null {
  const known = type.endsWith('.*') ? knownPatterns : knownTypes
  return known.has(type) ? null : closest(type, [...known])
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
