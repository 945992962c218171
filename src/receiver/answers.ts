/**
 * What a receiver answers. The status decides what a sender does next: 2xx ends the delivery, 4xx
 * ends it as refused, 5xx has it repeated. So whatever is our own fault is a 5xx: nothing may be lost
 * because a secret was not set or a parser stood in front.
 */
import { WebhookVerificationError } from './verification-error.ts'

/** An answer without a framework. */
export interface ReceiverAnswer {
  readonly status: 200 | 400 | 401 | 413 | 500 | 503
  readonly headers: Readonly<Record<string, string>>
  readonly body: { received: number } | { error: { code: string; message: string } }
}

export function handled(count: number): ReceiverAnswer {
  return { status: 200, headers: json, body: { received: count } }
}

const json = { 'content-type': 'application/json' }

/** One second: a sender may hold back everything for this endpoint for as long as we say. */
export const busy = problem(503, 'EVENT_IN_PROGRESS', 'Being handled.', {
  'retry-after': '1',
})

export const unhandled = problem(400, 'EVENT_TYPE_UNHANDLED', 'No handler is for it.')

export const failed = problem(500, 'EVENT_NOT_HANDLED', 'Send it again.')

const refusals: [status: 400 | 401 | 413, codes: RegExp][] = [
  [401, /^(HEADER_MISSING|SIGNATURE|TIMESTAMP_TOO)/],
  [400, /^(HEADER|TIMESTAMP|BODY|EVENT)_INVALID/],
  [413, /TOO_LARGE/],
]

export function toResponse({ status, headers, body }: ReceiverAnswer): Response {
  return new Response(JSON.stringify(body), { status, headers })
}

/** @returns null when the request is not to blame */
export function refusal(error: unknown): ReceiverAnswer | null {
  if (!(error instanceof WebhookVerificationError)) return null
  const { code, message } = error
  const found = refusals.find(([, codes]) => codes.test(code))
  return found ? problem(found[0], code, message) : null
}

function problem(
  status: ReceiverAnswer['status'],
  code: string,
  message: string,
  headers?: Record<string, string>,
): ReceiverAnswer {
  return { status, headers: { ...json, ...headers }, body: { error: { code, message } } }
}
