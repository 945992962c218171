/** The body of an event: checked and serialised once. What leaves here is signed and sent as it is. */
import { describeValue, WebhookError } from './errors.ts'
import type { WebhookEvent, WebhookEventBody, WebhookEventMetadata } from './event.ts'
import { momentInWords, momentMs } from './moment.ts'
import { checkEventType, idPattern } from './names.ts'

export interface SerialisedEvent {
  /** The whole body as text. */
  readonly body: string
  /** What must be the same when an id is used again: data, metadata and version. */
  readonly content: string
  readonly metadata: WebhookEventMetadata
}

/**
 * @throws WebhookError EVENT_INVALID, EVENT_ID_INVALID, EVENT_TYPE_INVALID,
 *   EVENT_TIMESTAMP_INVALID, EVENT_DATA_INVALID
 */
export function serialiseEvent(event: WebhookEvent): SerialisedEvent {
  const { id, type } = event
  if (typeof id !== 'string' || !idPattern.test(id)) {
    throw new WebhookError(
      'EVENT_ID_INVALID',
      `Expected the event's \`id\` to be 1 to 256 characters of A-Z, a-z, 0-9, _ and - (a dot would break its signature), got ${describeValue(id)}; a UUID is fine.`,
    )
  }
  checkEventType(type)
  const timestamp = rfc3339(event.timestamp)
  const metadata = event.metadata ?? {}
  if (typeof metadata !== 'object' || Array.isArray(metadata)) {
    throw new WebhookError(
      'EVENT_INVALID',
      `Expected \`metadata\` to be an object such as { providerId: 'iwinv' }, got ${describeValue(metadata)}.`,
    )
  }
  const version = event.version ?? '1.0'
  if (typeof version !== 'string' || version.length > 64) {
    throw new WebhookError(
      'EVENT_INVALID',
      `Expected \`version\` to be a text such as "1.0", got ${describeValue(version)}.`,
    )
  }
  const body = bodyOf({ id, type, timestamp, data: event.data, metadata, version })
  const content = body.slice(headLength({ id, type, timestamp }))
  // Matching may come later than this, and the caller may have changed his object by then.
  return { body, content, metadata: { ...metadata } }
}

/** One object in one go, and its fields singly only to say which of them JSON cannot carry. */
function bodyOf(fields: WebhookEventBody): string {
  const { data, metadata } = fields
  let body: string
  try {
    body = JSON.stringify(fields)
  } catch (cause) {
    requireJson(data, 'data')
    requireJson(metadata, 'metadata')
    throw notCarried('data', cause)
  }
  // What JSON has nothing for, it leaves out.
  if (!body.startsWith(',"data":', headLength(fields))) requireJson(data, 'data')
  if (typeof metadata.toJSON === 'function') requireJson(metadata, 'metadata')
  return body
}

/** What comes before the data. None of it needs escaping. */
function headLength({ id, type, timestamp }: Pick<WebhookEventBody, 'id' | 'type' | 'timestamp'>) {
  return '{"id":"","type":"","timestamp":""'.length + id.length + type.length + timestamp.length
}

function rfc3339(timestamp: unknown): string {
  const ms = momentMs(timestamp)
  if (Number.isNaN(ms)) {
    throw new WebhookError(
      'EVENT_TIMESTAMP_INVALID',
      `Expected \`timestamp\` to be ${momentInWords}, got ${describeValue(timestamp)}.`,
    )
  }
  return (timestamp instanceof Date ? timestamp : new Date(ms)).toISOString()
}

function requireJson(value: unknown, field: string): void {
  let json: string | undefined
  try {
    json = JSON.stringify(value)
  } catch (cause) {
    throw notCarried(field, cause)
  }
  if (json !== undefined) return
  throw new WebhookError(
    'EVENT_DATA_INVALID',
    `Expected \`${field}\` to be what JSON can carry, got ${describeValue(value)}; use null for nothing.`,
  )
}

function notCarried(field: string, cause: unknown): WebhookError {
  const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
  return new WebhookError(
    'EVENT_DATA_INVALID',
    `Expected \`${field}\` to be what JSON can carry, got a value that it cannot: ${why}. Give a BigInt as a text, and leave out what refers to itself.`,
    { cause },
  )
}
