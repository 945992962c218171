// One contender, one measurement, one process: so that "cold" is cold and nobody inherits
// another's heap, JIT or connections. Gets its job as a message, answers with the result.

import { acceptMany, matching } from './engine.mjs'
import { latency } from './latency.mjs'
import { Progress } from './progress.mjs'
import { cold, steady } from './throughput.mjs'

const OPEN_CLOSE_MS = 60_000

const WORKLOADS = { cold, steady, latency, acceptMany, matching }

process.once('message', async (job) => {
  try {
    const result = await run(job)
    process.send(result, () => process.exit())
  } catch (error) {
    process.send(
      {
        error: String(error?.stack ?? error)
          .split('\n', 2)
          .join(' '),
      },
      () => process.exit(1),
    )
  }
})
process.on('disconnect', () => process.exit(1))

async function run({ contender: { module, settings = {} }, workload, setup, options }) {
  const progress = new Progress()
  const { open } = await import(`../contenders/${module}.mjs`)
  const { onDelivered, onError } = progress
  const contender = await soon('open', open({ ...setup, settings, onDelivered, onError }))
  const result = await WORKLOADS[workload](contender, progress, {
    ...options,
    endpoints: setup.endpoints,
    inFlight: setup.inFlight,
  })
  const peakRssMb = process.resourceUsage().maxRSS / 1024
  await soon('close', contender.close())
  return { ...result, peakRssMb, delivered: progress.delivered }
}

/** A contender that cannot start or end is reported as such, not waited for. */
function soon(what, promise) {
  const late = new Promise((_, reject) => {
    const error = new Error(`${what} took more than ${OPEN_CLOSE_MS / 1000} s`)
    setTimeout(() => reject(error), OPEN_CLOSE_MS).unref()
  })
  return Promise.race([promise, late])
}
