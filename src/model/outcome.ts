/** What one attempt taught us. Policy decides from this, never from text. */

export type Outcome =
  /** 2xx (or 3xx where redirects count as success). */
  | { kind: 'accepted'; status: number; redirected: boolean }
  /** 429, or 503 with `Retry-After`: the receiver asks for time. */
  | { kind: 'throttled'; status: number; retryAfterMs: number | null }
  /** 408 and 5xx. */
  | { kind: 'faulted'; status: number; retryAfterMs: number | null }
  /** Any other 4xx, and 3xx where redirects count as failure. */
  | { kind: 'refused'; status: number }
  /** 410: the receiver wants nothing more. */
  | { kind: 'gone'; status: number }
  /** Once the head of an answer is there its status decides, however its body ends. */
  | { kind: 'timed-out'; phase: 'connect' | 'headers' }
  /** Connection refused, reset, DNS, TLS. `code` is the system's: `ECONNREFUSED`, `ENOTFOUND`, … */
  | { kind: 'unreachable'; code: string }
  /** The address guard refused the target; nothing was sent. */
  | { kind: 'blocked'; address: string }

export type OutcomeKind = Outcome['kind']

export function outcomeStatus(outcome: Outcome): number | null {
  return 'status' in outcome ? outcome.status : null
}

/** One line for people: `HTTP 503`, `timed out while waiting for headers`. Null for a success. */
export function outcomeError(outcome: Outcome): string | null {
  switch (outcome.kind) {
    case 'accepted':
      return null
    case 'throttled':
    case 'faulted':
    case 'refused':
    case 'gone':
      return `HTTP ${outcome.status}`
    case 'timed-out':
      return `timed out (${outcome.phase})`
    case 'unreachable':
      return `could not be reached (${outcome.code})`
    case 'blocked':
      return 'the address is not allowed (see `allowedNetworks`)'
    default:
      return outcome satisfies never
  }
}
