/**
 * What an outcome means for its delivery and its endpoint. Every rule about retries, `Retry-After`,
 * 410 and redirects is here and nowhere else. Pure: no clock, no dice, no I/O.
 */
import type { Random } from '../model/clock.ts'
import { type Outcome, outcomeError } from '../model/outcome.ts'
import type { EndpointEffect, Settlement } from '../model/settlement.ts'
import { nextDelayMs, type RetryPolicy } from './retry-policy.ts'

/** A receiver may ask for no less and no more time than this. */
export const retryAfterBounds = { minMs: 1_000, maxMs: 86_400_000 } as const

/**
 * @param attempt 1-based number of the attempt that brought this outcome
 * @param random a number from [0, 1), used for jitter
 * @param expiresAtMs no attempt may begin at this moment or after it
 */
export function settle(
  attempt: number,
  outcome: Outcome,
  policy: RetryPolicy,
  nowMs: number,
  random: Random,
  expiresAtMs: number | null = null,
): Settlement {
  const settlement = settleUnlimited(attempt, outcome, policy, nowMs, random)
  if (settlement.state !== 'waiting' || expiresAtMs === null) return settlement
  if (settlement.dueAtMs < expiresAtMs) return settlement
  // The next attempt would come too late: nobody has to wait for it to find that out.
  return { state: 'cancelled', reason: 'expired', effect: settlement.effect }
}

function settleUnlimited(
  attempt: number,
  outcome: Outcome,
  policy: RetryPolicy,
  nowMs: number,
  random: Random,
): Settlement {
  switch (outcome.kind) {
    case 'accepted':
      return {
        state: 'delivered',
        reason: outcome.redirected ? `redirect_${outcome.status}` : 'accepted',
        effect: outcome.redirected ? redirectWarning(outcome.status) : null,
      }
    case 'throttled':
    case 'faulted':
      return retryOrExhaust(attempt, outcome, outcome.retryAfterMs, policy, nowMs, random)
    case 'timed-out':
    case 'unreachable':
      return retryOrExhaust(attempt, outcome, null, policy, nowMs, random)
    case 'refused':
      return { state: 'rejected', reason: `status_${outcome.status}`, effect: null }
    case 'gone':
      return {
        state: 'rejected',
        reason: 'gone',
        effect: { kind: 'disable', reason: 'the receiver answered 410 Gone' },
      }
    case 'blocked':
      // Another try cannot make a private address public; a person must act.
      return { state: 'rejected', reason: 'address_blocked', effect: null }
    default:
      return outcome satisfies never
  }
}

/** Outcomes that another attempt may change. */
export function isRetried(outcome: Outcome): boolean {
  switch (outcome.kind) {
    case 'throttled':
    case 'faulted':
    case 'timed-out':
    case 'unreachable':
      return true
    case 'accepted':
    case 'refused':
    case 'gone':
    case 'blocked':
      return false
    default:
      return outcome satisfies never
  }
}

function retryOrExhaust(
  attempt: number,
  outcome: Outcome,
  retryAfterMs: number | null,
  policy: RetryPolicy,
  nowMs: number,
  random: Random,
): Settlement {
  const askedMs = retryAfterMs === null ? 0 : clampRetryAfter(retryAfterMs)
  const effect: EndpointEffect | null =
    retryAfterMs === null ? null : { kind: 'hold', untilMs: nowMs + askedMs }
  const delayMs = nextDelayMs(policy, attempt, random)
  const reason = outcomeError(outcome) ?? outcome.kind
  if (delayMs === null) return { state: 'exhausted', reason, effect }
  // Retry-After is a floor that jitter never shortens.
  return { state: 'waiting', reason, dueAtMs: nowMs + Math.max(delayMs, askedMs), effect }
}

function clampRetryAfter(ms: number): number {
  return Math.min(Math.max(ms, retryAfterBounds.minMs), retryAfterBounds.maxMs)
}

function redirectWarning(status: number): EndpointEffect {
  return {
    kind: 'warn',
    warning: `Answers ${status} and is not followed: the event counts as delivered, but nobody may have read it. Register the address it redirects to, or set \`redirects: 'failure'\`.`,
  }
}
