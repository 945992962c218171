/**
 * What keeps an endpoint from being sent to for a while, for every process alike. It is stored apart
 * from the endpoint: it changes without anybody changing the endpoint.
 */
export interface EndpointFlow {
  readonly endpointKey: string
  /** Nothing is sent before: the receiver's `Retry-After`. 0 for none. */
  readonly heldUntilMs: number
  readonly breaker: Breaker
  /** The first send time that nobody has taken yet, of an endpoint with a rate limit; else 0. */
  readonly nextSendAtMs: number
}

/**
 * `closed` sends. `open` sends nothing before `untilMs`. `half-open` has one probe under way, of the
 * process that brought it there; without news of it by `untilMs` another may probe.
 */
export type BreakerState = 'closed' | 'open' | 'half-open'

export interface Breaker {
  readonly state: BreakerState
  /** Raised by every change: whoever changes it names the one it saw. */
  readonly epoch: number
  /** 0 while closed. */
  readonly untilMs: number
  /** Times it has opened since it was last closed: each waits longer. */
  readonly openings: number
}

/** At most `limit` requests in any `perMs`, all processes together. */
export interface RateLimit {
  limit: number
  /** In ms. */
  perMs: number
}

export const closedBreaker: Breaker = { state: 'closed', epoch: 0, untilMs: 0, openings: 0 }

/**
 * Until when it is held, by what was known and by what is told: a hold only grows, until a closed
 * breaker of a later epoch says that it was lifted. What is told of an earlier epoch is no news.
 */
export function heldUntil(
  known: Pick<EndpointFlow, 'heldUntilMs' | 'breaker'>,
  told: Pick<EndpointFlow, 'heldUntilMs' | 'breaker'>,
): number {
  if (told.breaker.epoch < known.breaker.epoch) return known.heldUntilMs
  const mayBeLifted = told.breaker.epoch > known.breaker.epoch && told.breaker.state === 'closed'
  return mayBeLifted ? told.heldUntilMs : Math.max(known.heldUntilMs, told.heldUntilMs)
}

/** An endpoint of which nothing is stored. */
export function freeFlow(endpointKey: string): EndpointFlow {
  return { endpointKey, heldUntilMs: 0, breaker: closedBreaker, nextSendAtMs: 0 }
}
