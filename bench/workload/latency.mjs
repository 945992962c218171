// Open loop: events are dispatched by an absolute schedule, however slow the answers are.
// The receiver notes arrivals; both clocks are CLOCK_MONOTONIC.

import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../machine/clock.mjs'
import { endpointOf, makeEvent } from './events.mjs'

/**
 * @returns `[event id, due ms, dispatched ms]` for every event after the warm-up
 *
 * Timers of Node fire up to a millisecond late and then in a burst. Both times are kept: from
 * `dispatched` is what the contender adds, from `due` also what a stalled process adds.
 */
export async function latency(
  contender,
  progress,
  { perSecond, seconds, warmUpSeconds, endpoints },
) {
  const total = (seconds + warmUpSeconds) * perSecond
  const measuredFrom = warmUpSeconds * perSecond
  const schedule = []
  const start = monotonicMs() + 10
  for (let i = 0; i < total; ) {
    const dueMs = start + (i * 1000) / perSecond
    const waitMs = dueMs - monotonicMs()
    if (waitMs > 0) {
      await sleep(waitMs)
      continue
    }
    const event = makeEvent(i, endpoints)
    if (i >= measuredFrom) schedule.push([event.id, dueMs, monotonicMs()])
    dispatch(contender, progress, event, endpointOf(i, endpoints))
    i++
  }
  await progress.reached(total)
  return { schedule }
}

function dispatch(contender, progress, event, endpoint) {
  const done = contender.send
    ? contender.send(event, endpoint).then(() => progress.onDelivered(1))
    : contender.accept([{ event, endpoint }])
  done.catch(progress.onError)
}
