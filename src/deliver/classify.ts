/** From an answer, or from what came instead of one, to an outcome. Pure. */
import { noUsableAddress, type Outcome } from '../model/outcome.ts'
import type { RedirectRule } from './attempt-request.ts'

/**
 * The status decides as soon as the head of the answer is complete. What happens to the body
 * afterwards (cut at the cap, at the deadline or by the receiver) changes nothing: a receiver that
 * said 2xx has the event, and sending it again would only duplicate it.
 *
 * @param status 200 or higher
 * @param retryAfterMs valid `Retry-After`; null when there is none
 */
export function classifyStatus(
  status: number,
  retryAfterMs: number | null,
  redirects: RedirectRule,
): Outcome {
  if (status < 300) return { kind: 'accepted', status, redirected: false }
  if (status < 400) {
    if (redirects === 'success') return { kind: 'accepted', status, redirected: true }
    return { kind: 'refused', status }
  }
  if (status === 410) return { kind: 'gone', status }
  if (status === 429 || (status === 503 && retryAfterMs !== null)) {
    return { kind: 'throttled', status, retryAfterMs }
  }
  if (status === 408 || status >= 500) return { kind: 'faulted', status, retryAfterMs }
  return { kind: 'refused', status }
}

/** True when `Retry-After` has a meaning, so that it is worth looking for. */
export function mayCarryRetryAfter(status: number): boolean {
  return status === 408 || status === 429 || status >= 500
}

/** @param connected whether the request had a connection when the error came */
export function classifyError(error: unknown, connected: boolean): Outcome {
  const code = errorCode(error)
  if (error instanceof BlockedAddressError) return { kind: 'blocked', address: error.address }
  if (error instanceof UnresolvableError) return { kind: 'unreachable', code, at: 'dns' }
  if (error instanceof ProxyError) return { kind: 'unreachable', code, at: 'proxy' }
  if (error instanceof ConnectTimeoutError) {
    return { kind: 'timed-out', phase: error.reached }
  }
  if (!connected && code === 'ETIMEDOUT') return { kind: 'timed-out', phase: 'connect' }
  return { kind: 'unreachable', code }
}

/** What a connection that is being opened waits for: the name, our proxy, or the receiver. */
export type OpeningPhase = 'dns' | 'proxy' | 'connect'

export class BlockedAddressError extends Error {
  readonly code = 'ADDRESS_BLOCKED'
  readonly address: string

  constructor(address: string) {
    super(noUsableAddress)
    this.address = address
  }
}

export class UnresolvableError extends Error {
  readonly code: string

  constructor(cause: NodeJS.ErrnoException | null) {
    super(noUsableAddress, { cause })
    this.code = cause?.code ?? 'ENOTFOUND'
  }
}

export class ConnectTimeoutError extends Error {
  readonly code = 'CONNECT_TIMEOUT'
  readonly reached: OpeningPhase

  constructor(afterMs: number, reached: OpeningPhase) {
    super(`not connected after ${afterMs} ms`)
    this.reached = reached
  }
}

/** The proxy could not be reached (the system's code), or would not open a tunnel (`PROXY_407`). */
export class ProxyError extends Error {
  readonly code: string

  constructor(code: string) {
    super('the proxy opened no tunnel')
    this.code = code
  }
}

/** What no error of the system tells: the other side closed in good order, or before we could look. */
export function closedEarly(): Error {
  return Object.assign(new Error('closed by the other side'), { code: 'ECONNRESET' })
}

function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && code !== '' ? code : 'UNKNOWN'
}
