/**
 * Commit groups and claims as they cross the thread: flat arrays of strings and numbers, and all
 * bytes of a group in one piece. Structured clone costs per object, and a small Buffer would drag
 * the whole pool slab behind it across.
 */
import type { EndpointEffect } from '../../model/settlement.ts'
import type { BatchMember, Claim, ClaimResult, LaneHead } from '../claims.ts'
import type {
  Cancellation,
  CommitGroup,
  CommitResult,
  DeliveryTerms,
  NewDelivery,
  SettlementRecord,
} from '../commit-records.ts'

/** Fields per event, delivery, settlement and release in the flat arrays below. */
export const eventWidth = 10
export const deliveryWidth = 5
export const settlementWidth = 19
export const releaseWidth = 4

export interface CommitOnWire {
  /** key, tenant, id, type, accepted at, matched, body length, hash length, deliveries, targets */
  readonly events: (string | number | null)[]
  /** id, endpoint key, due at, owned (0 or 1) or why it ends at once, terms */
  readonly deliveries: (string | number | DeliveryTerms | null)[]
  /** see `flattenSettlement` */
  readonly settlements: (string | number | EndpointEffect | null)[]
  /** id, token, due at, why cancelled */
  readonly releases: (string | number | null)[]
  /** Body and hash of each event, then response bodies of settlements, in order. */
  readonly bytes: Uint8Array
}

export interface CommitResultOnWire {
  /** Null: all were stored. */
  readonly accepts: CommitResult['accepts'] | null
  /** Null: all were written. */
  readonly settlements: CommitResult['settlements'] | null
  /** Null: nothing was. */
  readonly cancelled: readonly Cancellation[] | null
}

export function flattenCommit(group: CommitGroup): CommitOnWire {
  const packer = createPacker(group)
  const events: CommitOnWire['events'] = []
  const deliveries: CommitOnWire['deliveries'] = []
  for (const { event, deliveries: fresh, fanOutTo } of group.accepts) {
    events.push(event.key, event.tenantId, event.id, event.type, Math.round(event.acceptedAtMs))
    events.push(event.matched, packer.add(event.body), packer.add(event.contentHash))
    events.push(fresh.length, fanOutTo === null ? null : flattenTargets(fanOutTo))
    for (const { id, endpointKey, dueAtMs, owned, terms, ended } of fresh) {
      deliveries.push(id, endpointKey, Math.round(dueAtMs))
      deliveries.push(ended ?? (owned ? 1 : 0), terms ?? null)
    }
  }
  const settlements: CommitOnWire['settlements'] = []
  for (const record of group.settlements) flattenSettlement(record, settlements, packer)
  const releases: CommitOnWire['releases'] = []
  for (const { deliveryId, token, dueAtMs, cancelled } of group.releases) {
    releases.push(deliveryId, token, dueAtMs && Math.round(dueAtMs), cancelled ?? null)
  }
  return { events, deliveries, settlements, releases, bytes: packer.bytes }
}

function flattenSettlement(
  record: SettlementRecord,
  into: CommitOnWire['settlements'],
  packer: Packer,
): void {
  const { attempt, settlement } = record
  into.push(record.deliveryId, record.token, record.endpointKey, record.tenantId, record.eventType)
  into.push(Math.round(record.settledAtMs), attempt.number, Math.round(attempt.startedAtMs))
  into.push(Math.max(0, attempt.latencyMs), attempt.outcome, attempt.httpStatus)
  into.push(attempt.error)
  into.push(attempt.responseBody === null ? null : packer.add(attempt.responseBody))
  into.push(attempt.endpointVersion, settlement.state, settlement.reason)
  into.push(settlement.state === 'waiting' ? Math.round(settlement.dueAtMs) : null)
  into.push(settlement.effect, record.ordered === true ? 1 : 0)
}

function flattenTargets(targets: readonly NewDelivery[]): string {
  return JSON.stringify(
    targets.map(({ id, endpointKey, dueAtMs, terms, ended }) => [
      ...[id, endpointKey, Math.round(dueAtMs)],
      ...(terms === undefined && ended === undefined ? [] : [terms ?? null, ended ?? null]),
    ]),
  )
}

interface Packer {
  /** @returns the length, which is what crosses beside the bytes */
  add(bytes: Uint8Array): number
  readonly bytes: Uint8Array
}

function createPacker({ accepts, settlements }: CommitGroup): Packer {
  let size = 0
  for (const { event } of accepts) size += event.body.length + event.contentHash.length
  for (const { attempt } of settlements) size += attempt.responseBody?.length ?? 0
  const bytes = new Uint8Array(size)
  let end = 0
  return {
    bytes,
    add(part) {
      bytes.set(part, end)
      end += part.length
      return part.length
    },
  }
}

/** Hands out the bytes of a group piece by piece, as views, in the order they were packed. */
export class ByteReader {
  readonly #bytes: Uint8Array
  #end = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  take(length: number): Uint8Array {
    const start = this.#end
    this.#end += length
    return this.#bytes.subarray(start, this.#end)
  }
}

export function unflattenResult(group: CommitGroup, wire: CommitResultOnWire): CommitResult {
  return {
    accepts: wire.accepts ?? group.accepts.map(() => stored),
    settlements: wire.settlements ?? group.settlements.map(() => 'written'),
    ...(wire.cancelled !== null && { cancelled: wire.cancelled }),
  }
}

const stored = { kind: 'stored' } as const

/**
 * delivery, endpoint, tenant, token, attempts, fresh (0 or 1), event id, type, accepted at, body,
 * members, expires, ordered (0 or 1)
 */
export const claimWidth = 13

export interface ClaimResultOnWire {
  readonly claims: (string | number | Uint8Array | readonly BatchMember[] | null)[]
  readonly heads: readonly LaneHead[]
}

export function unflattenClaims(
  { claims: flat, heads }: ClaimResultOnWire,
  takenAtMs: number,
): ClaimResult {
  const claims: Claim[] = []
  for (let i = 0; i < flat.length; i += claimWidth) {
    claims.push({
      deliveryId: flat[i] as string,
      endpointKey: flat[i + 1] as string,
      tenantId: flat[i + 2] as string,
      token: flat[i + 3] as number,
      attempts: flat[i + 4] as number,
      isFresh: flat[i + 5] === 1,
      eventId: flat[i + 6] as string,
      eventType: flat[i + 7] as string,
      acceptedAtMs: flat[i + 8] as number,
      body: flat[i + 9] as Uint8Array,
      members: flat[i + 10] as readonly BatchMember[] | null,
      takenAtMs,
      expiresAtMs: (flat[i + 11] as number | null) ?? undefined,
      ordered: flat[i + 12] === 1 ? true : undefined,
    })
  }
  return { claims, heads }
}
