/** The door for events: validates one, and serialises its body once. */
import { createHash, hash } from 'node:crypto'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { serialiseEvent } from '../model/event-body.ts'
import { momentInWords, momentMs } from '../model/moment.ts'
import { checkTenantId } from '../model/names.ts'
import { unknownOption } from '../model/suggest.ts'
import type { DispatchTimes } from '../storage/commit-records.ts'

export interface EventRules {
  /** Largest body in bytes. */
  readonly maxPayloadBytes: number
  /** Null allows every type. */
  readonly enabledEvents: ReadonlySet<string> | null
}

/**
 * A checked event: its body as sent, and what matching and storing need. Still as text: of many events
 * none may be stored before all are checked, so checking does nothing that can be done beside storing.
 */
export interface CheckedEvent {
  readonly id: string
  readonly type: string
  readonly tenantId: string
  readonly metadata: Readonly<Record<string, unknown>>
  /** The whole body. */
  readonly text: string
  /** The part of it that must be the same when the id is used again. */
  readonly content: string
  /** When it may be sent, where its dispatch says so. */
  readonly times?: DispatchTimes | undefined
}

/** What `dispatchEvent` takes beside the event. */
export interface TimesInput {
  deliverAt?: Date | string | undefined
  expiresAt?: Date | string | undefined
}

const longestAheadMs = 366 * 86_400_000

/**
 * @returns undefined when neither is given
 * @throws WebhookError OPTION_INVALID, OPTION_OUT_OF_RANGE
 */
export function checkTimes(
  { deliverAt, expiresAt }: TimesInput,
  nowMs: number,
): DispatchTimes | undefined {
  if (deliverAt === undefined && expiresAt === undefined) return undefined
  const deliverAtMs = timeMs('deliverAt', deliverAt)
  const expiresAtMs = timeMs('expiresAt', expiresAt)
  if ((deliverAtMs ?? 0) > nowMs + longestAheadMs) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`deliverAt\` to be within 366 days, got ${new Date(deliverAtMs ?? 0).toISOString()}.`,
    )
  }
  if (expiresAtMs !== undefined && expiresAtMs <= Math.max(nowMs, deliverAtMs ?? 0)) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`expiresAt\` to be in the future and after \`deliverAt\`, got ${new Date(expiresAtMs).toISOString()}.`,
    )
  }
  return { deliverAtMs, expiresAtMs }
}

function timeMs(name: string, moment: unknown): number | undefined {
  if (moment === undefined) return undefined
  const ms = momentMs(moment)
  if (!Number.isNaN(ms)) return ms
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`${name}\` to be ${momentInWords}, got ${describeValue(moment)}.`,
  )
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
  const { type, tenantId } = event
  checkTenantId(tenantId)
  const { body: text, content, metadata } = serialiseEvent(event)
  if (rules.enabledEvents !== null && !rules.enabledEvents.has(type)) {
    throw new WebhookError(
      'EVENT_TYPE_DISABLED',
      `Expected a type listed in \`enabledEvents\`, got "${type}"; add it there, or leave \`enabledEvents\` out to allow every type.`,
    )
  }
  checkSize(text, rules.maxPayloadBytes)
  return { id: event.id, type, tenantId: tenantId ?? '', metadata, text, content }
}

/** No character takes more than three bytes, so that most texts need not be measured. */
function checkSize(text: string, maxBytes: number): void {
  if (text.length * 3 <= maxBytes) return
  const bytes = Buffer.byteLength(text)
  if (bytes <= maxBytes) return
  throw new WebhookError(
    'EVENT_TOO_LARGE',
    `Expected a body of at most ${maxBytes} bytes (\`maxPayloadBytes\`), got ${bytes}; send a reference instead of the content.`,
  )
}

/** A checked event as it is stored and sent. */
export function encodeEvent({ type, text, content }: CheckedEvent): {
  body: Uint8Array
  contentHash: Uint8Array
} {
  return { body: Buffer.from(text), contentHash: sha256(type + content) }
}

/** @throws WebhookError EVENT_INVALID */
export function checkIsList(events: unknown): void {
  if (Array.isArray(events)) return
  throw new WebhookError(
    'EVENT_INVALID',
    `Expected a list of events, got ${describeValue(events)}; for a single one use \`dispatchEvent\`.`,
  )
}

/**
 * In one shot and as text: 0.8 µs, against 3.2 µs for a Hash object that returns a buffer of its own.
 * The bytes then come from the pool.
 */
const sha256: (text: string) => Uint8Array =
  typeof hash === 'function'
    ? (text) => Buffer.from(hash('sha256', text, 'base64'), 'base64')
    : (text) => createHash('sha256').update(text).digest()

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

/** As it is sent. */
export function parsedBody(body: Uint8Array): {
  metadata?: Record<string, unknown>
  data?: unknown
} {
  return JSON.parse(Buffer.from(body).toString())
}
