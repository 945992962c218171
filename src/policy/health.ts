/**
 * When an endpoint counts as dead. Every rule about warning and automatic disabling is here. Pure: an
 * endpoint is disabled for a run of nothing but failures that is long (`disableAfterMs`), spread over
 * many hours, has cost at least one delivery all its retries, and was announced a day before.
 */
import type { EndpointHealth } from '../model/health.ts'
import { isDnsTrouble, isProxyTrouble, type Outcome } from '../model/outcome.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** The first warning comes after so many failed deliveries, or so long a run. */
const earlyDeliveries = 3
const earlyAfterMs = hourMs
/** A run of the default length needs failures in so many hours: a few tries prove nothing. */
const mostHours = 10

/** What one attempt says about its endpoint. */
export type Testimony = 'answers' | 'fails' | 'unclear' | 'nothing'

/** Answers of our own machine: it has no way out, or no room for one more socket. */
const ownCodes: ReadonlySet<string> = new Set([
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'EACCES',
  'EPERM',
])
/** Nobody answered: the endpoint may be gone, or our network. */
const silentCodes: ReadonlySet<string> = new Set([
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ETIMEDOUT',
])

/**
 * `unclear` counts as a failure only where another endpoint was reached at that time: then it is not
 * our network. Names that do not resolve, our proxy and the address guard say nothing.
 */
export function testimonyOf(outcome: Outcome): Testimony {
  switch (outcome.kind) {
    case 'accepted':
      return 'answers'
    case 'throttled':
    case 'faulted':
    case 'refused':
    case 'gone':
      return 'fails'
    case 'timed-out':
      if (isDnsTrouble(outcome) || isProxyTrouble(outcome)) return 'nothing'
      return outcome.phase === 'connect' ? 'unclear' : 'fails'
    case 'unreachable':
      if (outcome.at !== undefined || ownCodes.has(outcome.code)) return 'nothing'
      return silentCodes.has(outcome.code) ? 'unclear' : 'fails'
    case 'blocked':
      return 'nothing'
    default:
      return outcome satisfies never
  }
}

export interface HealthRule {
  /** A run of failures of this length disables; null never does. */
  readonly disableAfterMs: number | null
}

export interface FailureNote {
  readonly atMs: number
  /** When the endpoint was last enabled: what was before is forgiven. */
  readonly enabledAtMs: number
  /** Deliveries that ended with it. */
  readonly ended: number
}

export function unknownHealth(endpointKey: string): EndpointHealth {
  return {
    endpointKey,
    revision: 0,
    failingSinceMs: null,
    lastFailedAtMs: 0,
    failedHours: 0,
    failedDeliveries: 0,
    warned: 'no',
    warnedAtMs: 0,
    clearedAtMs: 0,
  }
}

export function afterFailure(
  health: EndpointHealth,
  { atMs, enabledAtMs, ended }: FailureNote,
): EndpointHealth {
  if (atMs < health.clearedAtMs) return health
  const { failingSinceMs } = health
  const goesOn = failingSinceMs !== null && failingSinceMs >= enabledAtMs
  const before = goesOn ? health : unknownHealth(health.endpointKey)
  const isNewHour = hourOf(atMs) > hourOf(before.lastFailedAtMs)
  return {
    ...before,
    revision: health.revision,
    clearedAtMs: health.clearedAtMs,
    failingSinceMs: goesOn ? Math.min(failingSinceMs, atMs) : atMs,
    lastFailedAtMs: Math.max(before.lastFailedAtMs, atMs),
    failedHours: before.failedHours + (isNewHour ? 1 : 0),
    failedDeliveries: before.failedDeliveries + ended,
  }
}

/** The run is over: a success, or another address. */
export function cleared(health: EndpointHealth, atMs: number): EndpointHealth {
  const clearedAtMs = Math.max(health.clearedAtMs, atMs)
  return { ...unknownHealth(health.endpointKey), revision: health.revision, clearedAtMs }
}

/** What is to be done about it: nothing, a warning (given by writing it as `warned`), or the end. */
export type Verdict = 'early' | 'final' | 'disable' | null

export function judge(
  { failingSinceMs, failedHours, failedDeliveries, warned, warnedAtMs }: EndpointHealth,
  { disableAfterMs }: HealthRule,
  nowMs: number,
): Verdict {
  if (failingSinceMs === null) return null
  // Who chose a schedule of a month is given the month: something must have been given up.
  const isProven = failedDeliveries > 0 && failedHours >= hoursNeeded(disableAfterMs ?? 0)
  if (disableAfterMs !== null && isProven) {
    const leadMs = finalLeadMs(disableAfterMs)
    const isOver = nowMs >= failingSinceMs + disableAfterMs
    // Whoever was silent for a while is still told a day before.
    if (warned === 'final') return isOver && nowMs >= warnedAtMs + leadMs ? 'disable' : null
    if (nowMs >= failingSinceMs + disableAfterMs - leadMs) return 'final'
  }
  const isEarly = failedDeliveries >= earlyDeliveries || nowMs >= failingSinceMs + earlyAfterMs
  return warned === 'no' && isEarly ? 'early' : null
}

export function withWarning(
  health: EndpointHealth,
  warned: 'early' | 'final',
  atMs: number,
): EndpointHealth {
  return { ...health, warned, warnedAtMs: atMs }
}

/** The earliest moment at which it can be disabled; null when that is never done. */
export function disableAtMs(
  { failingSinceMs, warned, warnedAtMs }: EndpointHealth,
  { disableAfterMs }: HealthRule,
): number | null {
  if (disableAfterMs === null || failingSinceMs === null) return null
  const announcedMs = warned === 'final' ? warnedAtMs + finalLeadMs(disableAfterMs) : 0
  return Math.max(failingSinceMs + disableAfterMs, announcedMs)
}

/** A row is written for these only: a dead endpoint must not cost a write for every attempt. */
export function isWorthWriting(before: EndpointHealth, after: EndpointHealth): boolean {
  return (
    before.failingSinceMs !== after.failingSinceMs ||
    before.failedHours !== after.failedHours ||
    before.warned !== after.warned ||
    (before.failedDeliveries !== after.failedDeliveries &&
      before.failedDeliveries < earlyDeliveries)
  )
}

function hourOf(ms: number): number {
  return Math.floor(ms / hourMs)
}

/** Never one: one bad hour disables nobody, however short the rule. */
function hoursNeeded(disableAfterMs: number): number {
  return Math.min(mostHours, Math.max(2, Math.floor(disableAfterMs / hourMs / 2)))
}

function finalLeadMs(disableAfterMs: number): number {
  return Math.min(dayMs, disableAfterMs / 2)
}
