/** What crosses between the store and its thread. */
import type { ErrorOnWire } from './errors.ts'

export interface ThreadData {
  readonly location: string
  readonly nowMs: number
  readonly loadFrom: readonly string[]
  /** See `OpenOptions`: set for a thread that follows a dead one. */
  readonly resume: { readonly owner: number; readonly unansweredClaims: readonly number[] } | null
}

/** Ids count up from 1; 0 is the thread's word that it is open. */
export type Call = readonly [id: number, verb: string, args: readonly unknown[]]
export type Answer = readonly [id: number, result: unknown, error: ErrorOnWire | null]

export interface Opened {
  readonly owner: number
  readonly description: string
}
