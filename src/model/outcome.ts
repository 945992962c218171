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
  | { kind: 'timed-out'; phase: 'dns' | 'proxy' | 'connect' | 'headers' }
  /**
   * Connection refused, reset, DNS, TLS. `code` is the system's: `ECONNREFUSED`, `ENOTFOUND`, …;
   * `at` says where it ended when that was on the way to the receiver, not at it.
   */
  | { kind: 'unreachable'; code: string; at?: 'dns' | 'proxy' }
  /** The address guard refused the target; nothing was sent. */
  | { kind: 'blocked'; address: string }

export type OutcomeKind = Outcome['kind']

export function outcomeStatus(outcome: Outcome): number | null {
  return 'status' in outcome ? outcome.status : null
}

/**
 * One text for names that do not resolve and for names that lead to a private network: customers read
 * it, and which names exist inside is none of their business.
 */
export const noUsableAddress =
  'the host has no address that may be used: its name does not resolve, or leads to a network that is not allowed (see `allowedNetworks`)'

/**
 * True when the name could not be resolved. It may be our name server that is down, so it never
 * counts towards disabling an endpoint.
 */
export function isDnsTrouble(outcome: Outcome): boolean {
  if (outcome.kind === 'unreachable') return outcome.at === 'dns'
  return outcome.kind === 'timed-out' && outcome.phase === 'dns'
}

/**
 * True when our own egress proxy was in the way. One that was reached and does not answer is not
 * meant: it may be waiting for the receiver, which has to be left alone then.
 */
export function isProxyTrouble(outcome: Outcome): boolean {
  if (outcome.kind === 'unreachable') return outcome.at === 'proxy'
  return outcome.kind === 'timed-out' && outcome.phase === 'proxy'
}

/** What `outcomeError` keeps from customers and operators need: for the log, never for a field. */
export function outcomeCause(outcome: Outcome): string | undefined {
  if (outcome.kind === 'blocked') return `address ${outcome.address}`
  if (!isDnsTrouble(outcome)) return undefined
  return outcome.kind === 'unreachable' ? `dns ${outcome.code}` : 'dns, out of time'
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
      return isDnsTrouble(outcome) ? noUsableAddress : `timed out (${outcome.phase})`
    case 'unreachable':
      return isDnsTrouble(outcome) ? noUsableAddress : `could not be reached (${outcome.code})`
    case 'blocked':
      return noUsableAddress
    default:
      return outcome satisfies never
  }
}
