/** One HTTP request of a delivery. */
import type { OutcomeKind } from './outcome.ts'

export interface WebhookAttempt {
  /** Counted from 1. */
  number: number
  startedAt: Date
  /** From the start of the attempt to the last byte read, in ms. */
  latencyMs: number
  outcome: OutcomeKind
  httpStatus: number | null
  /** One sentence; null for a success. */
  error: string | null
  /** The first bytes of the answer, as text. */
  responseBody: string | null
  /** The version of the endpoint whose url, headers and secret were used. */
  endpointVersion: number
  /** True when it was recorded after another process had taken the delivery over. */
  late: boolean
}

/** An attempt as the engine hands it to the store. Bytes of receivers stay bytes. */
export interface AttemptRecord {
  readonly number: number
  readonly startedAtMs: number
  readonly latencyMs: number
  readonly outcome: OutcomeKind
  readonly httpStatus: number | null
  readonly error: string | null
  readonly responseBody: Uint8Array | null
  readonly endpointVersion: number
}
