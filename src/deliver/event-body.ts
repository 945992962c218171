/** The body of an event that is sent without having been accepted by a service. */
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEvent, WebhookEventBody } from '../model/event.ts'
import { checkEventType, idPattern } from '../model/names.ts'

/** @throws WebhookError EVENT_ID_INVALID, EVENT_TYPE_INVALID, EVENT_TIMESTAMP_INVALID, EVENT_DATA_INVALID */
export function eventBody(event: WebhookEvent): Uint8Array {
  if (typeof event.id !== 'string' || !idPattern.test(event.id)) {
    throw new WebhookError(
      'EVENT_ID_INVALID',
      `Expected the event's \`id\` to be 1 to 256 characters of A-Z, a-z, 0-9, _ and - (a dot would break its signature), got ${describeValue(event.id)}.`,
    )
  }
  checkEventType(event.type)
  const timestamp = new Date(event.timestamp)
  if (Number.isNaN(timestamp.getTime())) {
    throw new WebhookError(
      'EVENT_TIMESTAMP_INVALID',
      `Expected \`timestamp\` to be a valid Date or an RFC 3339 text, got ${describeValue(event.timestamp)}.`,
    )
  }
  const body: WebhookEventBody = {
    id: event.id,
    type: event.type,
    timestamp: timestamp.toISOString(),
    data: event.data ?? null,
    metadata: event.metadata ?? {},
    version: event.version ?? '1.0',
  }
  try {
    return Buffer.from(JSON.stringify(body))
  } catch (cause) {
    throw new WebhookError(
      'EVENT_DATA_INVALID',
      'Expected `data` and `metadata` to be what JSON can carry, got a value that it cannot.',
      { cause },
    )
  }
}
