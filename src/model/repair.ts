/** Repairs of many deliveries of one endpoint: after an outage, on request, for a new endpoint. */
import type { DeliveryState, EndState } from './delivery.ts'
import type { EndpointFilters } from './endpoint.ts'

/** `retry`: what failed. `replay`: what has ended or waits. `backfill`: events it never got. */
export type RepairKind = 'retry' | 'replay' | 'backfill'
export type RepairState = 'running' | 'done' | 'cancelled' | 'failed'

export interface RepairCriteria {
  /** By the time the event was accepted: from (inclusive), to (exclusive). */
  readonly sinceMs: number
  readonly untilMs: number
  /** Types as an endpoint names them; null: all. */
  readonly types: readonly string[] | null
  /** Of deliveries that are there; none for a backfill. */
  readonly states: readonly (EndState | 'waiting')[]
  /** Of a backfill, beside the endpoint's own filters. */
  readonly metadata: EndpointFilters | null
}

/** An event, and what the endpoint has of it. */
export interface Candidate {
  readonly eventKey: string
  readonly eventId: string
  readonly eventType: string
  readonly acceptedAtMs: number
  /** It has a delivery of this event, or one is being made. */
  readonly isThere: boolean
  /** The newest round; of a backfill only one that was cut off, see `cutOff` in storage/repairs.ts. */
  readonly delivery: CandidateDelivery | null
  readonly hasBody: boolean
  readonly body: Uint8Array | null
}

export interface CandidateDelivery {
  readonly id: string
  readonly state: DeliveryState
  readonly attempts: number
  readonly dueAtMs: number | null
}
