// One contender in a process of its own plays its part of a scenario: events by an absolute schedule
// (open loop), and perhaps a dump of very many at once.

import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../machine/clock.mjs'
import { makeEvent } from '../workload/events.mjs'

process.once('message', async ({ module, setup, part }) => {
  try {
    const { open } = await import(`./${module}.mjs`)
    const contender = await open(setup)
    process.send({ opened: true })
    process.once('message', async () => {
      try {
        process.send({ done: true, ...(await play(contender, part)) })
      } catch (error) {
        process.send({ error: String(error?.stack ?? error) })
      }
    })
    process.on('message', async ({ close }) => {
      if (!close) return
      await contender.close()
      process.exit()
    })
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) })
  }
})
process.on('disconnect', () => process.exit())

/**
 * @param streams `{ endpoint, perSecond }`
 * @param dump `{ endpoint, count, afterMs }`
 * @returns `{ schedule: [id, endpoint, dispatched ms], dumpMs }`
 */
async function play(contender, { name, streams, seconds, dump }) {
  const plan = []
  for (const { endpoint, perSecond } of streams) {
    for (let i = 0; i < perSecond * seconds; i++) {
      // Spread, so that not all streams fire in the same millisecond.
      plan.push([((i + (endpoint % 97) / 97) * 1000) / perSecond, endpoint])
    }
  }
  plan.sort((a, b) => a[0] - b[0])
  const schedule = []
  const start = monotonicMs() + 50
  let dumped = null
  let number = 0
  for (const [atMs, endpoint] of plan) {
    while (start + atMs > monotonicMs()) {
      await sleep(Math.max(0, start + atMs - monotonicMs()))
    }
    if (dump && dumped === null && atMs >= dump.afterMs) dumped = pour(contender, dump, name)
    const event = { ...makeEvent(number++, 1), id: `evt_${name}_${number}` }
    schedule.push([event.id, endpoint, monotonicMs()])
    contender.dispatch(event, endpoint).catch((error) => process.send({ error: String(error) }))
  }
  const dumpMs = await dumped
  return { schedule, dumpMs }
}

/** @returns how long accepting it took */
async function pour(contender, { endpoint, count }, name) {
  const startMs = monotonicMs()
  const events = Array.from({ length: count }, (_, i) => ({
    ...makeEvent(i, 1),
    id: `evt_${name}_dump_${i}`,
  }))
  await contender.dump(events, endpoint)
  return monotonicMs() - startMs
}
