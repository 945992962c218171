/** Is this event to be sent to this endpoint again, or at last? Pure, and says why not. */
import { behindMs } from '../model/delivery.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Candidate, RepairCriteria, RepairKind } from '../model/repair.ts'
import { isSystemEvent, typeMatches, whyFiltered, whyNotMatched } from './match.ts'

/** `unwanted` is not what was asked for; every other word is, and why it cannot be. */
export type RepairChoice =
  | 'take'
  | 'unwanted'
  | 'in_flight'
  | 'already_due'
  | 'not_yet_tried'
  | 'behind_another'
  | 'already_there'
  | 'body_gone'

type Receiver = Pick<EndpointRecord, 'status' | 'events' | 'filters'> &
  Partial<Pick<EndpointRecord, 'bodyFilter'>>

export function chooseForRepair(
  kind: RepairKind,
  criteria: RepairCriteria,
  endpoint: Receiver,
  candidate: Candidate,
  nowMs: number,
): RepairChoice {
  const { types } = criteria
  if (types !== null && !types.some((one) => typeMatches(one, candidate.eventType))) {
    return 'unwanted'
  }
  return kind === 'backfill'
    ? chooseMissing(criteria, endpoint, candidate)
    : chooseAgain(kind, criteria, candidate, nowMs)
}

/** Whether an event's body decides if a backfill wants it. */
export function needsBody(
  { metadata }: RepairCriteria,
  { filters, bodyFilter }: Receiver,
): boolean {
  return metadata !== null || Object.keys(filters).length > 0 || bodyFilter != null
}

function chooseAgain(
  kind: RepairKind,
  { states }: RepairCriteria,
  { delivery, hasBody }: Candidate,
  nowMs: number,
): RepairChoice {
  if (delivery === null) return 'unwanted'
  const { state, attempts, dueAtMs } = delivery
  if (state === 'waiting' || state === 'delivering') {
    // What was never tried has not failed.
    if (!states.includes('waiting') || (kind === 'retry' && attempts === 0)) return 'unwanted'
    if (state === 'delivering') return 'in_flight'
    // To send it now would be the inversion.
    if (dueAtMs !== null && dueAtMs >= behindMs) return 'behind_another'
    if (dueAtMs !== null && dueAtMs <= nowMs) return 'already_due'
    // It goes out by itself, and where it has a `deliverAt`, not before that.
    return attempts === 0 ? 'not_yet_tried' : 'take'
  }
  if (!states.includes(state)) return 'unwanted'
  return hasBody ? 'take' : 'body_gone'
}

function chooseMissing(
  criteria: RepairCriteria,
  endpoint: Receiver,
  { eventType, isThere, delivery, hasBody, body }: Candidate,
): RepairChoice {
  if (isSystemEvent(eventType)) return 'unwanted'
  if (!endpoint.events.some((one) => typeMatches(one, eventType))) return 'unwanted'
  // One that is there and still wanted was cut off.
  if (isThere && delivery === null) return 'already_there'
  if (!hasBody) return 'body_gone'
  const { metadata = {}, data } = parsed(body)
  if (whyNotMatched(endpoint, eventType, metadata, data) !== null) return 'unwanted'
  if (criteria.metadata !== null && whyFiltered(criteria.metadata, metadata) !== null) {
    return 'unwanted'
  }
  return 'take'
}

interface Matched {
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly data?: unknown
}

function parsed(body: Uint8Array | null): Matched {
  return body === null ? {} : (JSON.parse(new TextDecoder().decode(body)) as Matched)
}
