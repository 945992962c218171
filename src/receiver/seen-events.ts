/**
 * Which events were handled. A sender repeats an event whose answer it did not get, and an attacker
 * one that he has recorded; its id tells. Ids have to be kept longer than the sender's schedule plus
 * what is ever replayed by hand.
 *
 * Handling an event and remembering it are two steps, and a process may die between them: then the
 * event comes again. What must not happen twice still needs a transaction or a key of its own.
 */

export interface SeenEvents {
  /**
   * Claims an event. `done`: it was handled. `busy`: another request is handling it and has not said
   * how that ended. Of two calls at one time only one may get the claim.
   */
  begin(eventId: string): Promise<SeenClaim | 'busy' | 'done'>
}

export interface SeenClaim {
  done(): Promise<void>
  /** Handling failed: the next request for it gets a claim. */
  failed(): Promise<void>
}

export interface SeenOptions {
  /** How long a handled event is remembered. Default 30 days. */
  keepMs?: number | undefined
  /**
   * A handler that has not ended by then is taken for dead, and the next request runs it again.
   * Default 60 s, twice as long as our sender waits for an answer.
   */
  claimMs?: number | undefined
  /** Wall clock; handed in by tests. */
  nowMs?: (() => number) | undefined
}

export const defaultKeepMs = 30 * 86_400_000
export const defaultClaimMs = 60_000

/**
 * For one process; forgets at its end.
 *
 * @param options `maxEvents`: how many are remembered, the oldest going first; default 100,000
 */
export function seenInMemory({
  keepMs = defaultKeepMs,
  claimMs = defaultClaimMs,
  nowMs = Date.now,
  maxEvents = 100_000,
}: SeenOptions & { maxEvents?: number | undefined } = {}): SeenEvents {
  const entries = new Map<string, { done: boolean; untilMs: number }>()
  return {
    async begin(eventId) {
      const atMs = nowMs()
      const known = entries.get(eventId)
      if (known && known.untilMs > atMs) return known.done ? 'done' : 'busy'
      const entry = { done: false, untilMs: atMs + claimMs }
      // Taken out first, so that the map stays in order of age.
      entries.delete(eventId)
      entries.set(eventId, entry)
      for (const oldest of entries.keys()) {
        if (entries.size <= maxEvents) break
        entries.delete(oldest)
      }
      return {
        async done() {
          entry.done = true
          entry.untilMs = nowMs() + keepMs
        },
        async failed() {
          // Not what another request has claimed since.
          if (entries.get(eventId) === entry) entries.delete(eventId)
        },
      }
    },
  }
}
