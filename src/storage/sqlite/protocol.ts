/** What crosses between the store and its threads. */
import type { ErrorOnWire } from './errors.ts'

export interface ThreadData {
  readonly location: string
  readonly loadFrom: readonly string[]
  /** URL of its code, to start another thread with; `import.meta.url` is not that everywhere. */
  readonly code: string
  /** See leaving.ts. */
  readonly door: SharedArrayBuffer
  readonly job: Job
}

export type Job =
  /** Owns the connection that writes. */
  | { readonly kind: 'serve'; readonly nowMs: number; readonly resume: Resume | null }
  /** One long read on a connection of its own, so that no commit waits for it. */
  | { readonly kind: 'audit' }
  | { readonly kind: 'find'; readonly id: string }
  | { readonly kind: 'backup'; readonly target: string }
  /** Started by the thread that serves. */
  | { readonly kind: 'checkpoint' }

/** For a thread that follows one that died in the same process: what it owned is still ours. */
export interface Resume {
  readonly owner: number
  readonly unansweredClaims: readonly number[]
}

/**
 * Ids count up from 1; 0 is the thread's own word: that it is open, what its job gave, or, once it
 * is open, that something failed which no call asked for.
 */
export type Call = readonly [id: number, verb: string, args: readonly unknown[]]
export type Answer = readonly [id: number, result: unknown, error: ErrorOnWire | null]

export interface Opened {
  readonly owner: number
  readonly description: string
}
