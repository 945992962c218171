// cold: a fresh process is handed all events at once.
// steady: after a warm-up, a backlog that is kept between bounds.
//
// Contenders that store something have `accept(items)`, those that only send have `send`.

import { endpointOf, makeEvent } from './events.mjs'
import { Usage } from './usage.mjs'

/** Events per accept: a caller who has many hands them over in chunks, not one by one. */
const CHUNK = 500

export async function cold(contender, progress, { events, endpoints, inFlight, serverPid }) {
  const usage = new Usage(serverPid, contender.roundTrips)
  const feeding = contender.send
    ? loops(contender, progress, { until: events, endpoints, inFlight })
    : feed(contender, progress, { until: events, endpoints, backlog: Number.POSITIVE_INFINITY })
  const accepted = feeding.then(() => usage.per(events).perSecond)
  await Promise.all([feeding, progress.reached(events)])
  return { ...usage.per(events), ...(contender.accept && { acceptedPerSecond: await accepted }) }
}

export async function steady(contender, progress, options) {
  const { warmUp, events, endpoints, inFlight, backlog, serverPid } = options
  const until = warmUp + events
  const feeding = contender.send
    ? loops(contender, progress, { until, endpoints, inFlight })
    : feed(contender, progress, { until, endpoints, backlog })
  feeding.catch(progress.onError)
  // The load goes on while the clock starts: nothing drains in between.
  await progress.reached(warmUp)
  const usage = new Usage(serverPid, contender.roundTrips)
  const before = progress.delivered
  await progress.reached(until)
  return usage.per(until - before)
}

/** The share of one process of several: every `of`-th event, from `index` on. */
export async function feedShare(contender, progress, share) {
  const { index, of, until, endpoints, inFlight, backlog, onSent } = share
  if (contender.send) {
    let next = index
    const loop = async () => {
      while (next < until) {
        const { event, endpoint } = item(next, endpoints)
        next += of
        await contender.send(event, endpoint)
        onSent()
      }
    }
    return Promise.all(Array.from({ length: inFlight }, loop))
  }
  for (let from = 0; from < until; from += CHUNK * of) {
    const size = Math.min(CHUNK, Math.ceil((until - index - from) / of))
    await contender.accept(
      Array.from({ length: size }, (_, i) => item(from + index + i * of, endpoints)),
    )
    await progress.reached(from + CHUNK * of - backlog)
  }
}

async function feed(contender, progress, { until, endpoints, backlog }) {
  for (let accepted = 0; accepted < until; ) {
    const size = Math.min(CHUNK, until - accepted)
    const items = Array.from({ length: size }, (_, i) => item(accepted + i, endpoints))
    await contender.accept(items)
    accepted += size
    await progress.reached(accepted - backlog)
  }
}

async function loops(contender, progress, { until, endpoints, inFlight }) {
  let next = 0
  const loop = async () => {
    while (next < until) {
      const { event, endpoint } = item(next++, endpoints)
      await contender.send(event, endpoint)
      progress.onDelivered(1)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, loop))
}

function item(index, endpoints) {
  return { event: makeEvent(index, endpoints), endpoint: endpointOf(index, endpoints) }
}
