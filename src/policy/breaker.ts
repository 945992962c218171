/**
 * When an endpoint is left alone because it fails, and how it comes back. Pure: a breaker in, a
 * breaker out; that two processes do not both change it is up to the store (compare and set by
 * `epoch`). A breaker never ends a delivery and never uses up an attempt.
 */
import type { Breaker } from '../model/flow.ts'
import { isDnsTrouble, isProxyTrouble, type Outcome } from '../model/outcome.ts'

export const breakerRules = {
  /** It opens after so many failures in a row … */
  failures: 20,
  /** … that took at least so long: a burst of requests that fail together is one failure. */
  overMs: 10_000,
  openMs: 30_000,
  maxOpenMs: 300_000,
} as const

/** Longer than an attempt may take: then the process that probes is gone. */
const probeMarginMs = 5_000

/**
 * What an outcome says of the endpoint itself. `up`: it answers, whatever it answers. `neither`: our
 * DNS, our proxy or our guard kept us from it, or it is up and asks for time, which `Retry-After` and
 * rate limits are for.
 */
export function verdictOf(outcome: Outcome): 'up' | 'down' | 'neither' {
  switch (outcome.kind) {
    case 'accepted':
    case 'refused':
    case 'gone':
      return 'up'
    case 'faulted':
      return 'down'
    case 'timed-out':
    case 'unreachable':
      return isDnsTrouble(outcome) || isProxyTrouble(outcome) ? 'neither' : 'down'
    case 'throttled':
    case 'blocked':
      return 'neither'
    default:
      return outcome satisfies never
  }
}

/** Failures in a row, as one process saw them. */
export interface FailureRun {
  readonly count: number
  /** When the first of them ended. */
  readonly sinceMs: number
}

export const noFailures: FailureRun = { count: 0, sinceMs: 0 }

export function afterFailure(run: FailureRun, nowMs: number): FailureRun {
  return run.count === 0 ? { count: 1, sinceMs: nowMs } : { ...run, count: run.count + 1 }
}

export function mustOpen(run: FailureRun, nowMs: number): boolean {
  return run.count >= breakerRules.failures && nowMs - run.sinceMs >= breakerRules.overMs
}

/** Opens it, from closed or because the probe failed. */
export function opened(breaker: Breaker, nowMs: number): Breaker {
  const openings = breaker.openings + 1
  const { openMs, maxOpenMs } = breakerRules
  const lengthMs = Math.min(openMs * 2 ** Math.min(openings - 1, 20), maxOpenMs)
  return { state: 'open', epoch: breaker.epoch + 1, untilMs: nowMs + lengthMs, openings }
}

/** The probe told nothing of the endpoint: as long again, not longer. */
export function reopened(breaker: Breaker, nowMs: number): Breaker {
  return opened({ ...breaker, openings: Math.max(0, breaker.openings - 1) }, nowMs)
}

/** There was nothing to probe with: the next one to have something may. */
export function unprobed(breaker: Breaker, nowMs: number): Breaker {
  return { ...breaker, state: 'open', epoch: breaker.epoch + 1, untilMs: nowMs }
}

/** @param timeoutMs longest time of an attempt */
export function halfOpened(breaker: Breaker, nowMs: number, timeoutMs: number): Breaker {
  const untilMs = nowMs + timeoutMs + probeMarginMs
  return { ...breaker, state: 'half-open', epoch: breaker.epoch + 1, untilMs }
}

export function closed(breaker: Breaker): Breaker {
  return { state: 'closed', epoch: breaker.epoch + 1, untilMs: 0, openings: 0 }
}

/** A probe may be sent. */
export function mayProbe(breaker: Breaker, nowMs: number): boolean {
  return breaker.state !== 'closed' && breaker.untilMs <= nowMs
}

/**
 * Requests at the same time after recovery: one, and twice as many with every round of as many
 * successes: 1, 2, 4, …
 */
export interface SlowStart {
  readonly limit: number
  /** Successes still missing at this limit. */
  readonly missing: number
}

export const firstStep: SlowStart = { limit: 1, missing: 1 }

/** @returns null when `concurrency` is reached: it is over */
export function afterSuccess(step: SlowStart, concurrency: number): SlowStart | null {
  if (step.missing > 1) return { ...step, missing: step.missing - 1 }
  const limit = step.limit * 2
  return limit >= concurrency ? null : { limit, missing: limit }
}
