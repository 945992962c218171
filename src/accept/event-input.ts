/**
 * The door for events: validates one, serialises its body once, hashes its content. What leaves
 * here is what will be signed and sent, byte for byte.
 */
import { createHash } from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { checkEventType, checkTenantId, idPattern } from '../model/names.ts'
import { unknownOption } from '../model/suggest.ts'

export interface EventRules {
  /** Largest body in bytes. */
  readonly maxPayloadBytes: number
  /** Null allows every type. */
  readonly enabledEvents: ReadonlySet<string> | null
}

/** A checked event: its body as sent, and what matching and storing need. */
export interface CheckedEvent {
  readonly id: string
  readonly type: string
  readonly tenantId: string
  readonly metadata: Readonly<Record<string, unknown>>
  readonly body: Uint8Array
  readonly contentHash: Uint8Array
}

const fields = ['id', 'type', 'timestamp', 'data', 'metadata', 'version', 'tenantId'] as const
const fieldSet: ReadonlySet<string> = new Set(fields)

/**
 * @throws WebhookError EVENT_INVALID, EVENT_ID_INVALID, EVENT_TYPE_INVALID, EVENT_TYPE_DISABLED,
 *   EVENT_TIMESTAMP_INVALID, EVENT_DATA_INVALID, EVENT_TOO_LARGE, TENANT_ID_INVALID
 */
export function checkEvent(event: WebhookEvent, rules: EventRules): CheckedEvent {
  if (typeof event !== 'object' || event === null) {
    throw new WebhookError(
      'EVENT_INVALID',
      `Expected an event { id, type, timestamp, data }, got ${describeValue(event)}.`,
    )
  }
  for (const name in event) {
    if (!fieldSet.has(name)) throw unknownOption(name, fields, 'a field of an event')
  }
  const { id, type, tenantId } = event
  if (typeof id !== 'string' || !idPattern.test(id)) {
    throw new WebhookError(
      'EVENT_ID_INVALID',
      `Expected the event's \`id\` to be 1 to 256 characters of A-Z, a-z, 0-9, _ and - (a dot would break its signature), got ${describeValue(id)}.`,
    )
  }
  checkEventType(type)
  checkTenantId(tenantId)
  if (rules.enabledEvents !== null && !rules.enabledEvents.has(type)) {
    throw new WebhookError(
      'EVENT_TYPE_DISABLED',
      `Expected a type listed in \`enabledEvents\`, got "${type}"; add it there, or leave \`enabledEvents\` out to allow every type.`,
    )
  }
  return { id, type, tenantId: tenantId ?? '', ...serialise(event, rules.maxPayloadBytes) }
}

function serialise(
  event: WebhookEvent,
  maxBytes: number,
): Pick<CheckedEvent, 'metadata' | 'body' | 'contentHash'> {
  const timestamp = rfc3339(event.timestamp)
  const metadata = event.metadata ?? {}
  if (typeof metadata !== 'object' || Array.isArray(metadata)) {
    throw new WebhookError(
      'EVENT_INVALID',
      `Expected \`metadata\` to be an object, got ${describeValue(metadata)}.`,
    )
  }
  const version = event.version ?? '1.0'
  if (typeof version !== 'string' || version.length > 64) {
    throw new WebhookError(
      'EVENT_INVALID',
      `Expected \`version\` to be a text such as "1.0", got ${describeValue(version)}.`,
    )
  }
  const dataJson = toJson(event.data, 'data')
  // What follows `data` in the body, together with the type, is the content that must be the same
  // when an id is dispatched again.
  const rest = `,"data":${dataJson},"metadata":${toJson(metadata, 'metadata')},"version":${JSON.stringify(version)}}`
  const body = Buffer.from(
    `{"id":"${event.id}","type":"${event.type}","timestamp":"${timestamp}"${rest}`,
  )
  if (body.length > maxBytes) {
    throw new WebhookError(
      'EVENT_TOO_LARGE',
      `Expected a body of at most ${maxBytes} bytes (\`maxPayloadBytes\`), got ${body.length}; send a reference instead of the content.`,
    )
  }
  const contentHash = createHash('sha256').update(event.type).update(rest).digest()
  return { metadata, body, contentHash }
}

function rfc3339(timestamp: unknown): string {
  const date =
    timestamp instanceof Date
      ? timestamp
      : typeof timestamp === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(timestamp)
        ? new Date(timestamp)
        : null
  if (date === null || Number.isNaN(date.getTime())) {
    throw new WebhookError(
      'EVENT_TIMESTAMP_INVALID',
      `Expected \`timestamp\` to be a valid Date or an RFC 3339 text such as "2026-01-31T09:00:00Z", got ${describeValue(timestamp)}.`,
    )
  }
  return date.toISOString()
}

function toJson(value: unknown, field: string): string {
  let json: string | undefined
  try {
    json = JSON.stringify(value)
  } catch (cause) {
    throw new WebhookError(
      'EVENT_DATA_INVALID',
      `Expected \`${field}\` to be what JSON can carry, got a value that it cannot: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`,
      { cause },
    )
  }
  if (json === undefined) {
    throw new WebhookError(
      'EVENT_DATA_INVALID',
      `Expected \`${field}\` to be what JSON can carry, got ${describeValue(value)}; use null for nothing.`,
    )
  }
  return json
}

/**
 * Are these two bodies the same event, whatever the order of their keys and the timestamp? Asked
 * only when the hashes differ, which is rare.
 */
export function sameContent(a: Uint8Array, b: Uint8Array): boolean {
  return canonicalContent(a) === canonicalContent(b)
}

function canonicalContent(body: Uint8Array): string {
  const { type, data, metadata, version } = JSON.parse(Buffer.from(body).toString()) as Record<
    string,
    unknown
  >
  return JSON.stringify([type, data, metadata, version], (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)))
      : value,
  )
}
