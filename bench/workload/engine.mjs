// What only an engine with endpoints has: many events in one call, and matching.

import { monotonicMs } from '../machine/clock.mjs'
import { makeEvent } from './events.mjs'
import { Usage } from './usage.mjs'

/**
 * `dispatchEvents(n)` until all is on disk, several times in one process. Each call waits for
 * the deliveries of the one before, so that it has the engine to itself, as it had at first.
 */
export async function acceptMany(contender, progress, { batch, calls, endpoints }) {
  const callsMs = []
  for (let call = 0; call < calls; call++) {
    const events = Array.from({ length: batch }, (_, i) => makeEvent(call * batch + i, endpoints))
    const startMs = monotonicMs()
    await contender.acceptMany(events)
    callsMs.push(monotonicMs() - startMs)
    await progress.reached((call + 1) * batch)
  }
  return { firstMs: callsMs[0], medianMs: callsMs.toSorted((a, b) => a - b)[calls >> 1] }
}

/**
 * Events that each match one of the registered endpoints: the whole cost per event, from the call
 * to the outcome on disk. Matching is a part of it; if it grew with the number of endpoints,
 * the whole would.
 */
export async function matching(contender, progress, { warmUp, batch, endpoints }) {
  const round = async (from, count) => {
    const events = Array.from({ length: count }, (_, i) => makeEvent(from + i, endpoints))
    await contender.acceptMany(events)
    await progress.reached(from + count)
  }
  await round(0, warmUp)
  const usage = new Usage()
  await round(warmUp, batch)
  return usage.per(batch)
}
