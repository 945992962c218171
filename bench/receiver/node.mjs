// The receiver of the latency runs (it notes when each event arrived), of runs in which every request
// takes a new connection (it closes after each answer), and of the throughput runs where nginx is
// absent.

import { startScript } from '../machine/child.mjs'

export async function startNodeReceiver(count, { noteArrivals = false, close = false } = {}) {
  const script = startScript(new URL('./node-process.mjs', import.meta.url))
  const { ports } = await script.ask({ listen: count, noteArrivals, close }, 10_000)
  return {
    name: 'node',
    pid: script.pid,
    urls: ports.map((port) => `http://127.0.0.1:${port}/hook`),
    received: async () => (await script.ask({ report: 'count' }, 10_000)).count,
    /** Arrivals since the last call: `[event id, monotonic ms]`, one per request. */
    arrivals: async () => (await script.ask({ report: 'arrivals' }, 10_000)).arrivals,
    stop: script.stop,
  }
}
