// Flow: what bad endpoints and greedy tenants do to the others. Each scenario with `ours` and with
// one BullMQ queue under the same load. See README.md.

import { appendFileSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildPackage } from '../machine/build.mjs'
import { startScript } from '../machine/child.mjs'
import { describeMachine } from '../machine/describe.mjs'
import { percentile, show } from '../report/numbers.mjs'
import { startPostgres } from '../servers/postgres.mjs'
import { startRedis } from '../servers/redis.mjs'

const SECONDS = 20
const ARRIVE_WITHIN_MS = 120_000
const DATA = fileURLToPath(new URL(`../.data/flow-${process.pid}`, import.meta.url))

const { values } = parseArgs({
  options: { save: { type: 'boolean' }, only: { type: 'string' }, contender: { type: 'string' } },
})
const contenders = (values.contender ?? 'ours,bullmq').split(',')
const problem = buildPackage()
if (problem) throw new Error(problem)
process.once('exit', () => rmSync(DATA, { recursive: true, force: true, maxRetries: 3 }))

const healthy = (count, perSecond, from = 0) =>
  Array.from({ length: count }, (_, i) => ({ endpoint: from + i, perSecond }))

const SCENARIOS = {
  hang: {
    says: 'one endpoint hangs for 15 s at 100 events/s, beside 99 at 5/s each',
    async run(contender) {
      const alone = await measure(contender, { hangs: none(100), streams: healthy(99, 5) })
      const beside = await measure(contender, {
        hangs: [...none(99), true],
        streams: [...healthy(99, 5), { endpoint: 99, perSecond: 100 }],
      })
      const p99 = ({ latencies }) => percentile(latencies, 0.99)
      return {
        'p99 of the 99 without it': ms(p99(alone)),
        'with it': ms(p99(beside)),
        ratio: show(p99(beside) / p99(alone)),
        'greatest with it': ms(percentile(beside.latencies, 1)),
        'did not arrive': beside.missing,
      }
    },
  },
  half: {
    says: 'half of 100 endpoints hang for 15 s, 40 events/s each, so 2,000/s for those that answer',
    async run(contender) {
      const hangs = [...none(50), ...none(50).map(() => true)]
      const all = await measure(contender, { hangs: none(100), streams: healthy(100, 40) })
      const half = await measure(contender, { hangs, streams: healthy(100, 40) })
      const rate = ({ arrivedInTime }) => arrivedInTime / SECONDS / 50
      return {
        'to a healthy one, all healthy': `${show(rate(all))}/s`,
        'half hanging': `${show(rate(half))}/s`,
        'share kept': show(rate(half) / rate(all)),
        'p99 of the healthy': ms(percentile(half.latencies, 0.99)),
        'did not arrive': half.missing,
      }
    },
  },
  dump: {
    says: 'one tenant hands over 200,000 events at once, 20 others 5/s each',
    async run(contender) {
      const result = await measure(contender, {
        hangs: none(21),
        tenants: true,
        streams: healthy(20, 5),
        dump: { endpoint: 20, count: 200_000, afterMs: 2_000 },
      })
      return {
        'p50 of the others': ms(percentile(result.latencies, 0.5)),
        p99: ms(percentile(result.latencies, 0.99)),
        greatest: ms(percentile(result.latencies, 1)),
        'accepting the dump took': `${show(result.dumpMs / 1000)} s`,
        'did not arrive': result.missing,
      }
    },
  },
  outage: {
    says: 'nothing can be reached for 60 s while 20,000 events arrive for 20 endpoints; retries every 5 s',
    async run(contender) {
      const result = await measure(contender, {
        hangs: none(20),
        streams: healthy(20, 50),
        outageMs: 60_000,
        retryDelayMs: 5_000,
      })
      const perSecond = binned(result.arrivals, 1000)
      return {
        'highest rate after it': `${show(Math.max(...perSecond))}/s`,
        'in the first second': `${show(perSecond[0] ?? 0)}/s`,
        'all delivered after': `${show(result.lastMs / 1000)} s`,
        'did not arrive': result.missing,
      }
    },
  },
  rate: {
    says: 'an endpoint that may get 10 a second, three processes with 100 events each',
    processes: 3,
    async run(contender) {
      const result = await measure(contender, {
        hangs: none(1),
        streams: [{ endpoint: 0, perSecond: 5 }],
        processes: 3,
        ratePerSecond: 10,
      })
      const times = result.arrivals.map(([, atMs]) => atMs).sort((a, b) => a - b)
      let most = 0
      for (let from = 0, to = 0; to < times.length; to++) {
        while (times[to] - times[from] >= 1000) from++
        most = Math.max(most, to - from + 1)
      }
      return { 'most in any second': most, 'did not arrive': result.missing }
    },
  },
}

const lines = []
for (const [name, { says, run }] of Object.entries(SCENARIOS)) {
  if (values.only && !values.only.split(',').includes(name)) continue
  lines.push(`### ${name}: ${says}\n`)
  const rows = []
  for (const contender of contenders) {
    try {
      rows.push([contender, await run(contender)])
    } catch (error) {
      rows.push([contender, { failed: String(error.message).split('\n', 1)[0] }])
    }
    process.stdout.write(`${name}, ${contender}: ${JSON.stringify(rows.at(-1)[1])}\n`)
  }
  const columns = [...new Set(rows.flatMap(([, figures]) => Object.keys(figures)))]
  lines.push(`| | ${columns.join(' | ')} |`, `|---|${columns.map(() => '---:').join('|')}|`)
  for (const [contender, figures] of rows) {
    lines.push(`| ${contender} | ${columns.map((column) => figures[column] ?? '–').join(' | ')} |`)
  }
  lines.push('')
}
const machine = describeMachine()
const text = [
  `## ${machine.date.slice(0, 16).replace('T', ' ')} UTC: flow`,
  '',
  `- Machine: ${machine.cpu}, ${machine.memoryGb} GB, ${machine.system}; Node ${machine.node}; this repository at ${machine.revision}`,
  `- Command: \`npm --prefix bench run flow${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}\``,
  `- ${SECONDS} s each, open loop; latency from dispatch to arrival`,
  '',
  ...lines,
].join('\n')
process.stdout.write(`\n${text}\n`)
if (values.save) appendFileSync(new URL('../RESULTS.md', import.meta.url), `\n${text}`)
process.exit()

/** @returns what arrived of the streams of endpoints that answer */
async function measure(contender, load) {
  const { hangs, streams, tenants, dump, outageMs = 0, processes = 1, retryDelayMs = 5_000 } = load
  const directory = join(DATA, contender)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const onPostgres = contender === 'ours' && processes > 1
  const server =
    contender === 'bullmq'
      ? await startRedis(join(directory, 'server'))
      : onPostgres
        ? await startPostgres(join(directory, 'server'))
        : null
  const receiver = startScript(new URL('./endpoints.mjs', import.meta.url))
  const players = []
  try {
    const { ports } = await receiver.ask({ listen: hangs }, 10_000)
    const endpoints = ports.map((port, i) => ({
      url: `http://127.0.0.1:${port}/hook`,
      ...(tenants && { tenantId: `tenant-${i}` }),
    }))
    const setup = { endpoints, directory, connection: server?.connection, retryDelayMs }
    if (load.ratePerSecond) setup.ratePerSecond = load.ratePerSecond
    for (let i = 0; i < processes; i++) {
      const player = startScript(new URL('./play.mjs', import.meta.url))
      players.push(player)
      const part = { name: `p${i}`, streams, seconds: SECONDS, dump }
      await player.ask({ module: contender, setup, part }, 60_000)
    }
    if (outageMs) await receiver.ask({ outage: true }, 10_000)
    const playing = players.map((player) => player.ask({ go: true }, 10 * 60_000))
    if (outageMs) {
      await sleep(outageMs)
      await receiver.ask({ outage: false }, 10_000)
    }
    const endMs = Number(process.hrtime.bigint()) / 1e6
    const parts = await Promise.all(playing)
    const schedule = parts.flatMap((part) => part.schedule)
    const arrivals = await untilArrived(receiver, schedule, hangs)
    return {
      ...judged(schedule, arrivals, hangs),
      dumpMs: parts[0].dumpMs,
      arrivals,
      lastMs: lastOf(arrivals) - endMs,
    }
  } finally {
    for (const player of players) await player.stop()
    await receiver.stop()
    await server?.stop()
  }
}

async function untilArrived(receiver, schedule, hangs) {
  const arrivals = []
  const wanted = new Set(schedule.filter(([, endpoint]) => !hangs[endpoint]).map(([id]) => id))
  const startMs = Date.now()
  while (wanted.size > 0 && Date.now() - startMs < ARRIVE_WITHIN_MS) {
    for (const arrival of (await receiver.ask({ report: true }, 10_000)).arrivals) {
      arrivals.push(arrival)
      wanted.delete(arrival[0])
    }
    await sleep(100)
  }
  return arrivals
}

function judged(schedule, arrivals, hangs) {
  const arrivedAt = new Map()
  for (const [id, atMs] of arrivals) if (!arrivedAt.has(id)) arrivedAt.set(id, atMs)
  const latencies = []
  let missing = 0
  let arrivedInTime = 0
  const endMs = schedule.reduce((most, [, , atMs]) => Math.max(most, atMs), 0) + 1_000
  for (const [id, endpoint, dispatchedMs] of schedule) {
    if (hangs[endpoint]) continue
    const atMs = arrivedAt.get(id)
    if (atMs === undefined) missing++
    else latencies.push(atMs - dispatchedMs)
    if (atMs !== undefined && atMs <= endMs && endpoint < 50) arrivedInTime++
  }
  return { latencies, missing, arrivedInTime }
}

function binned(arrivals, widthMs) {
  const first = arrivals.reduce((least, [, atMs]) => Math.min(least, atMs), Infinity)
  const bins = []
  for (const [, atMs] of arrivals) {
    const bin = Math.floor((atMs - first) / widthMs)
    bins[bin] = (bins[bin] ?? 0) + 1
  }
  return Array.from(bins, (count) => count ?? 0)
}

function lastOf(arrivals) {
  return arrivals.reduce((most, [, atMs]) => Math.max(most, atMs), 0)
}

function none(count) {
  return Array(count).fill(false)
}

function ms(value) {
  return `${show(value)} ms`
}
