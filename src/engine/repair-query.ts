/** What bulk repairs are asked with and answered with: options checked, records made readable. */
import type { EndState } from '../model/delivery.ts'
import type { EndpointFilters } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEventType } from '../model/event.ts'
import { checkId, checkOptions } from '../model/given.ts'
import { rangeMs } from '../model/moment.ts'
import { checkEventPattern } from '../model/names.ts'
import type { RepairCriteria, RepairKind, RepairState } from '../model/repair.ts'
import type { TenantScope } from '../registry/webhook-registry.ts'
import type { RepairRecord } from '../storage/repairs.ts'

/** What every repair of many deliveries takes. */
export interface RepairOptions extends TenantScope {
  /** Only counts: nothing is queued. */
  dryRun?: boolean | undefined
  /** Deliveries queued per second at most. 1 to 1000, default 100. */
  maxPerSecond?: number | undefined
}

/** Filters of `retryFailed` and `replay`. */
export interface ReplayQuery extends RepairOptions {
  endpointId: string
  /** By the time the event was accepted: from (inclusive), all by default. */
  since?: Date | undefined
  /** To (exclusive); now by default. */
  until?: Date | undefined
  /** Exact types, `message.*`, or `*`. */
  types?: readonly WebhookEventType[] | undefined
  /**
   * `retryFailed`: exhausted, rejected, and waiting after a failed attempt. `replay`: delivered too,
   * but nothing that was never tried. `'cancelled'` only when it is named.
   */
  states?: readonly (EndState | 'waiting')[] | undefined
}

/** What `backfill` takes: events that the endpoint would get as it is now. */
export interface BackfillQuery extends RepairOptions {
  /** By the time the event was accepted: from (inclusive). */
  since: Date
  /** To (exclusive); now by default. */
  until?: Date | undefined
  /** Beside the endpoint's own types and filters. */
  filter?:
    | { types?: readonly WebhookEventType[] | undefined; metadata?: EndpointFilters | undefined }
    | undefined
}

/** A repair of many deliveries; it runs in the background and goes on after a restart. */
export interface Repair {
  id: string
  kind: RepairKind
  endpointId: string
  tenantId: string | null
  state: RepairState
  /** Why it failed or was cancelled. */
  reason: string | null
  maxPerSecond: number
  /** Found so far that fit. */
  matched: number
  /** Of these: made due, each under its event's id. */
  queued: number
  /** The rest, by reason: `in_flight`, `already_due`, `not_yet_tried`, `already_there`, `body_gone`, … */
  skipped: Readonly<Record<string, number>>
  createdAt: Date
  endedAt: Date | null
}

/** What a repair would do. */
export interface RepairPreview {
  dryRun: true
  /** Deliveries it would queue. */
  count: number
  /** False: there is more than was looked through. */
  isComplete: boolean
  /** What fits and cannot be queued, by reason. */
  skipped: Readonly<Record<string, number>>
  /** The first ten. */
  sample: { eventId: string; eventType: WebhookEventType; acceptedAt: Date }[]
}

export interface CheckedRepair {
  readonly kind: RepairKind
  readonly endpointId: string
  readonly criteria: RepairCriteria
  readonly maxPerSecond: number
  readonly dryRun: boolean
  readonly scope: TenantScope
}

const common = ['tenantId', 'dryRun', 'maxPerSecond', 'since', 'until'] as const
const replayOptions: readonly string[] = [...common, 'endpointId', 'types', 'states']
const backfillOptions: readonly string[] = [...common, 'filter']
const statesOf = {
  retry: ['exhausted', 'rejected', 'waiting'],
  replay: ['delivered', 'exhausted', 'rejected', 'waiting'],
} as const
const allStates: readonly unknown[] = [...statesOf.replay, 'cancelled']

const defaultPerSecond = 100
const mostPerSecond = 1_000

/** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID, OPTION_OUT_OF_RANGE, EVENT_TYPE_INVALID */
export function checkReplay(
  kind: 'retry' | 'replay',
  query: ReplayQuery,
  nowMs: number,
): CheckedRepair {
  const what = kind === 'retry' ? 'retryFailed' : 'replay'
  checkOptions(query ?? null, replayOptions, what)
  checkId('endpoint', query.endpointId)
  const { states = statesOf[kind] } = query
  if (
    !Array.isArray(states) ||
    states.length === 0 ||
    !states.every((state) => allStates.includes(state))
  ) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`states\` to list some of ${allStates.join(', ')}, got ${describeValue(states)}.`,
    )
  }
  const criteria = { ...range(query, nowMs), types: typesOf(query.types), states, metadata: null }
  return { kind, endpointId: query.endpointId, criteria, ...optionsOf(query) }
}

/** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID, OPTION_OUT_OF_RANGE, EVENT_TYPE_INVALID */
export function checkBackfill(
  endpointId: string,
  query: BackfillQuery,
  nowMs: number,
): CheckedRepair {
  checkId('endpoint', endpointId)
  checkOptions(query ?? null, backfillOptions, 'backfill')
  if (query.since === undefined) {
    throw new WebhookError(
      'OPTION_INVALID',
      'Expected `since` to be a Date, got nothing; `new Date(0)` is everything that is kept.',
    )
  }
  const { filter = {} } = query
  checkOptions(filter, ['types', 'metadata'], "backfill's `filter`")
  const metadata = filter.metadata === undefined ? null : checkMetadata(filter.metadata)
  const criteria = { ...range(query, nowMs), types: typesOf(filter.types), states: [], metadata }
  return { kind: 'backfill', endpointId, criteria, ...optionsOf(query) }
}

function optionsOf(query: RepairOptions): Pick<CheckedRepair, 'maxPerSecond' | 'dryRun' | 'scope'> {
  const { maxPerSecond = defaultPerSecond, dryRun = false, tenantId } = query
  if (!Number.isInteger(maxPerSecond) || maxPerSecond < 1 || maxPerSecond > mostPerSecond) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`maxPerSecond\` to be an integer from 1 to ${mostPerSecond}, got ${describeValue(maxPerSecond)}.`,
    )
  }
  // A dry run that was meant must not become a real one.
  if (typeof dryRun !== 'boolean') {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`dryRun\` to be true or false, got ${describeValue(dryRun)}.`,
    )
  }
  return { maxPerSecond, dryRun, scope: { tenantId } }
}

function range(
  { since, until }: { since?: Date | undefined; until?: Date | undefined },
  nowMs: number,
): { sinceMs: number; untilMs: number } {
  const { fromMs, toMs } = rangeMs(['since', since], ['until', until])
  // What was accepted in this very millisecond is there already.
  return { sinceMs: fromMs ?? 0, untilMs: toMs ?? Math.floor(nowMs) + 1 }
}

function typesOf(types: unknown): readonly string[] | null {
  if (types === undefined) return null
  if (!Array.isArray(types) || types.length === 0) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`types\` to be a non-empty list such as ['message.*'], got ${describeValue(types)}.`,
    )
  }
  for (const pattern of types) checkEventPattern(pattern, 'types')
  return types as string[]
}

function checkMetadata(metadata: unknown): EndpointFilters {
  const isFilter =
    typeof metadata === 'object' &&
    metadata !== null &&
    Object.values(metadata).every(
      (wanted) =>
        wanted === undefined ||
        (Array.isArray(wanted) && wanted.length > 0 && wanted.every(isPlain)),
    )
  if (isFilter) return metadata as EndpointFilters
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`filter.metadata\` to be an object of non-empty lists such as { providerId: ['iwinv'] }, got ${describeValue(metadata)}.`,
  )
}

function isPlain(value: unknown): boolean {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

export function publicRepair(record: RepairRecord): Repair {
  return {
    id: record.id,
    kind: record.kind,
    endpointId: record.endpointId,
    tenantId: record.tenantId || null,
    state: record.state,
    reason: record.reason,
    maxPerSecond: record.maxPerSecond,
    matched: record.matched,
    queued: record.queued,
    skipped: record.skipped,
    createdAt: new Date(record.createdAtMs),
    endedAt: record.endedAtMs === null ? null : new Date(record.endedAtMs),
  }
}
