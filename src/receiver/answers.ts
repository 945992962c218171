/**
 * What a receiver answers. The status decides what a sender does next: 2xx ends the delivery, 4xx
 * ends it as refused, 5xx has it repeated. So whatever is our own fault is a 5xx: nothing may be lost
 * because a secret was not set or a parser stood in front.
 */
import { type VerificationErrorCode, WebhookVerificationError } from './verification-error.ts'

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
export const busy: ReceiverAnswer = {
  ...problem(503, 'EVENT_IN_PROGRESS', 'The event is being handled by another request.'),
  headers: { ...json, 'retry-after': '1' },
}

export const failed = problem(500, 'EVENT_NOT_HANDLED', 'The event was not handled; send it again.')

export function tooLarge(maxBodyBytes: number): ReceiverAnswer {
  return problem(413, 'BODY_TOO_LARGE', `Expected a body of at most ${maxBodyBytes} bytes.`)
}

export function unusable(code: string, message: string): ReceiverAnswer {
  return problem(400, code, message)
}

const statuses: { readonly [Code in VerificationErrorCode]?: 400 | 401 } = {
  HEADER_MISSING: 401,
  TIMESTAMP_TOO_OLD: 401,
  TIMESTAMP_TOO_NEW: 401,
  SIGNATURE_INVALID: 401,
  HEADER_INVALID: 400,
  TIMESTAMP_INVALID: 400,
  BODY_INVALID: 400,
}

export function toResponse({ status, headers, body }: ReceiverAnswer): Response {
  return new Response(JSON.stringify(body), { status, headers })
}

/** @returns null when the request is not to blame */
export function refusal(error: unknown): ReceiverAnswer | null {
  if (!(error instanceof WebhookVerificationError)) return null
  const status = statuses[error.code]
  return status === undefined ? null : problem(status, error.code, error.message)
}

function problem(status: ReceiverAnswer['status'], code: string, message: string): ReceiverAnswer {
  return { status, headers: json, body: { error: { code, message } } }
}
