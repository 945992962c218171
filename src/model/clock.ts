/** Time and chance, handed in: the engine never asks the machine for either by itself. */

export interface Clock {
  /** Milliseconds of the UTC epoch; never goes backwards while the process lives. */
  nowMs(): number
  /** Calls once after `delayMs` (any size, also above 2^31). Returns what cancels it. */
  setTimer(callback: () => void, delayMs: number): () => void
}

/** A number from [0, 1). */
export type Random = () => number
