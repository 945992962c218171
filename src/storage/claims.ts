/** What lanes ask for when they have room, and what they get: deliveries that this process owns. */

export interface LaneRoom {
  readonly endpointKey: string
  readonly limit: number
  readonly batch: { readonly size: number; readonly maxBytes: number } | null
  /** When its first unowned delivery is due, as far as memory knows: a hint where to begin to look. */
  readonly headMs?: number
}

/** A delivery or a batch that this process owns, with all that is needed to send it. */
export interface Claim {
  readonly deliveryId: string
  readonly endpointKey: string
  readonly tenantId: string
  readonly token: number
  /** Attempts made so far; the next one is `attempts + 1`. */
  readonly attempts: number
  /** Never tried, and not made by hand or by a repair: lanes send it before what is not. */
  readonly isFresh: boolean
  /** The event's id, or the batch's. */
  readonly eventId: string
  /** The event's type, or `batch`. */
  readonly eventType: string
  readonly acceptedAtMs: number
  readonly body: Uint8Array
  /** Deliveries of a batch; null for a single one. */
  readonly members: readonly BatchMember[] | null
  /** Since when this process has it, to send it as soon as it can. */
  readonly takenAtMs: number
  /** No attempt may begin after this. */
  readonly expiresAtMs?: number | undefined
  /** Others may wait behind it. */
  readonly ordered?: boolean | undefined
}

export interface BatchMember {
  readonly deliveryId: string
  readonly eventId: string
  readonly eventType: string
}

export interface ClaimResult {
  readonly claims: readonly Claim[]
  /** For every lane asked for: when its next unowned delivery is due, after this claim. */
  readonly heads: readonly LaneHead[]
}

export interface LaneHead {
  readonly endpointKey: string
  /** Null when nothing unowned is left. */
  readonly dueAtMs: number | null
}
