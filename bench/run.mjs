// The bench: all contenders, alternating, on one receiver. See README.md.

import { appendFileSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { buildPackage } from './machine/build.mjs'
import { startScript } from './machine/child.mjs'
import { monotonicMs } from './machine/clock.mjs'
import { describeMachine, isInMemory } from './machine/describe.mjs'
import { machineCpuMs, treeCpuMs } from './machine/processes.mjs'
import { latencies, measure } from './measure.mjs'
import { readOptions } from './options.mjs'
import { planRound } from './plan.mjs'
import { nginxIsInstalled, startNginx } from './receiver/nginx.mjs'
import { startNodeReceiver } from './receiver/node.mjs'
import { show } from './report/numbers.mjs'
import { Results } from './report/results.mjs'
import { report } from './report/tables.mjs'
import { Absent } from './servers/absent.mjs'

const options = readOptions(process.argv.slice(2))
const machine = describeMachine()
const results = new Results()
const skipped = new Map()
let failures = 0

mkdirSync(options.data, { recursive: true })
// Also after Ctrl-C. What a dying server still writes makes a directory come back once.
process.once('exit', () => rmSync(options.data, { recursive: true, force: true, maxRetries: 3 }))
if (isInMemory(options.data)) {
  say(`${options.data} is in memory: commits there cost nothing. Choose a disk with --data.`)
  process.exit(2)
}
if (options.contenders.includes('ours')) {
  const problem = buildPackage()
  if (problem) skip('ours', problem)
}
const receivers = await startReceivers()
try {
  const capacity = await receiverCapacity(receivers.throughput)
  const coresUsedByOthers = watchOthers()
  for (let round = 0; round < options.rounds; round++) {
    for (const step of planRound(round, options)) {
      if (!skipped.has(step.contender.name)) await carryOut(round, step)
    }
  }
  const reasons = [...skipped].map(([name, reason]) => `${name}: ${reason}`)
  machine.coresUsedByOthers = coresUsedByOthers()
  const text = report(results, options, machine, capacity, reasons)
  say(`\n${text}`)
  if (options.save) save(text)
} finally {
  await receivers.throughput.stop()
  await receivers.latency.stop()
  await receivers.closing.stop()
}
process.exit(failures > 0 ? 1 : 0)

async function startReceivers() {
  const count = Math.max(...options.endpoints, options.fleetEndpoints)
  const latency = await startNodeReceiver(1, { noteArrivals: true })
  const closing = await startNodeReceiver(1, { close: true })
  if (nginxIsInstalled()) {
    return { latency, closing, throughput: await startNginx(join(options.data, 'nginx'), count) }
  }
  say('nginx is not installed (npm --prefix bench run servers): a Node process receives instead.')
  return { latency, closing, throughput: await startNodeReceiver(count) }
}

/** Cores that programs other than the bench kept busy: what makes a run worth little. */
function watchOthers() {
  const used = () => machineCpuMs() - treeCpuMs(process.pid)
  const startMs = monotonicMs()
  const before = used()
  return () => Math.max(0, used() - before) / (monotonicMs() - startMs)
}

async function receiverCapacity(receiver) {
  const before = await receiver.received()
  const cpuMs = treeCpuMs(receiver.pid)
  const script = startScript(new URL('./receiver/capacity.mjs', import.meta.url))
  const durationMs = options.quick ? 1000 : 5000
  const { perSecond } = await script.ask({ url: receiver.urls[0], durationMs }, 60_000)
  const requests = (await receiver.received()) - before
  const cpuUs = ((treeCpuMs(receiver.pid) - cpuMs) * 1000) / requests
  say(`receiver ${receiver.name}: ${show(perSecond)} requests/s, ${show(cpuUs)} µs of CPU each`)
  return { name: receiver.name, perSecond, cpuUs }
}

async function carryOut(round, step) {
  const { contender, measurement, endpoints } = step
  const label = `round ${round + 1}/${options.rounds}  ${measurement}, ${endpoints} endpoint${endpoints > 1 ? 's' : ''}, ${contender.name}`
  try {
    if (step.workload === 'latency') await receivers.latency.arrivals()
    const result = await measure(step, receivers, options)
    if (step.workload === 'latency') {
      Object.assign(result, latencies(result.schedule, await receivers.latency.arrivals()))
      delete result.schedule
    }
    results.add(round, step, result)
    say(`${label}: ${summary(result)}`)
  } catch (error) {
    if (error instanceof Absent) return skip(contender.name, error.message)
    failures++
    say(`${label}: FAILED: ${error.message}`)
  }
}

function summary(result) {
  if (result.p50Ms) return `p50 ${show(result.p50Ms)} ms, p99 ${show(result.p99Ms)} ms`
  if (result.firstMs) return `first ${show(result.firstMs)} ms, median ${show(result.medianMs)} ms`
  const cpu = `${show(result.processCpuUs)} + ${show(result.serverCpuUs)} µs of CPU`
  return `${show(result.perSecond)}/s, ${cpu}`
}

function skip(name, reason) {
  skipped.set(name, reason)
  say(`skipped ${name}: ${reason}`)
}

function save(text) {
  const file = new URL('RESULTS.md', import.meta.url)
  if (!existsSync(file)) appendFileSync(file, '# Results\n')
  appendFileSync(file, `\n${text}`)
  say('appended to bench/RESULTS.md')
}

function say(line) {
  process.stdout.write(`${line}\n`)
}
