// Carries out one step of the plan: a fresh server, a fresh process, a fresh directory.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { runFleet } from './fleet.mjs'
import { startScript } from './machine/child.mjs'
import { treeMemoryMb } from './machine/processes.mjs'
import { percentile } from './report/numbers.mjs'
import { startPostgres } from './servers/postgres.mjs'
import { startRedis } from './servers/redis.mjs'

const SERVERS = { redis: startRedis, postgres: startPostgres }

/** No measurement takes this long; one that does hangs. */
const LIMIT_MS = 15 * 60_000

/**
 * @param receivers `{ throughput, latency }`
 * @returns what the workload reports, with `serverPeakMb` where there is a server
 * @throws Absent when the machine lacks the contender's server
 */
export async function measure(step, receivers, { data, inFlight }) {
  const directory = join(data, step.contender.name)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const receiver = receivers[step.receiver]
  let server
  let memory
  try {
    const { kind, flags } = step.contender.server ?? {}
    server = await SERVERS[kind]?.(join(directory, 'server'), flags)
    // Reading a server's memory map takes it a moment: not while latencies are measured.
    if (server && step.workload !== 'latency') memory = watchMemory(server.pid)
    const before = await receiver.received()
    const carryOut = step.processes ? runFleet : inOwnProcess
    const result = await carryOut(step, {
      urls: receiver.urls.slice(0, step.addresses ?? step.endpoints),
      endpoints: step.endpoints,
      directory,
      inFlight,
      connection: server?.connection,
      serverPid: server?.pid,
    })
    const extra = (await receiver.received()) - before - result.delivered
    if (extra !== 0) throw new Error(`the receiver saw ${extra} more requests than were delivered`)
    if (memory) result.serverPeakMb = memory.peakMb()
    return result
  } finally {
    memory?.stop()
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function inOwnProcess({ contender, workload, options, env }, setup) {
  const script = startScript(new URL('./workload/main.mjs', import.meta.url), env)
  try {
    const { serverPid } = setup
    return await script.ask(
      { contender, workload, setup, options: { ...options, serverPid } },
      LIMIT_MS,
    )
  } finally {
    await script.stop()
  }
}

/** Joins what was dispatched with what arrived; both are in ms of one clock. */
export function latencies(schedule, arrivals) {
  const arrivedAt = new Map()
  for (const [id, atMs] of arrivals) if (!arrivedAt.has(id)) arrivedAt.set(id, atMs)
  const fromDispatch = []
  const fromDue = []
  for (const [id, dueMs, dispatchedMs] of schedule) {
    if (!arrivedAt.has(id)) throw new Error(`event ${id} did not arrive`)
    fromDispatch.push(arrivedAt.get(id) - dispatchedMs)
    fromDue.push(arrivedAt.get(id) - dueMs)
  }
  return {
    p50Ms: percentile(fromDispatch, 0.5),
    p99Ms: percentile(fromDispatch, 0.99),
    maxMs: percentile(fromDispatch, 1),
    p99FromDueMs: percentile(fromDue, 0.99),
  }
}

function watchMemory(pid) {
  let peak = 0
  const look = () => {
    peak = Math.max(peak, treeMemoryMb(pid))
  }
  const timer = setInterval(look, 1000)
  return {
    peakMb: () => {
      look()
      return peak
    },
    stop: () => clearInterval(timer),
  }
}
