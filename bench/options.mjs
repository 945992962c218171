// The command line of the bench.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CONTENDERS } from './contenders/list.mjs'

export const MEASUREMENTS = [
  'cold',
  'steady',
  'fleet',
  'latency',
  'slow-commit',
  'accept',
  'matching',
  'guard',
]

const HELP = `npm --prefix bench start -- [options]

  --events N         measured events of a throughput run (50,000)
  --rounds N         alternating rounds; results are medians (3)
  --only a,b         contenders: ${CONTENDERS.map(({ name }) => name).join(', ')}
  --measure a,b      ${MEASUREMENTS.join(', ')}
  --endpoints 1,100  how many endpoints share the events (both)
  --processes 1,2,4  of a fleet: several processes on one store (all)
  --slow-commit MS   how much slower each commit is in the measurement of that name (5)
  --full             300,000 events in the steady runs
  --quick            a few minutes that show that all of it runs; its figures mean nothing
  --data DIR         where the contenders keep their data; must be a disk (bench/.data)
  --save             append the result to bench/RESULTS.md
`

export function readOptions(args) {
  const values = parse(args)
  if (values.help) {
    process.stdout.write(HELP)
    process.exit(0)
  }
  const quick = values.quick ?? false
  const events = count('events', values.events, quick ? 3000 : 50_000)
  return {
    quick,
    coldEvents: events,
    // Each takes a connection of its own there, and a port for a while after.
    newConnections: Math.min(events, 20_000),
    steadyEvents: values.full ? 300_000 : events,
    warmUp: quick ? 1000 : 20_000,
    backlog: 5000,
    inFlight: 100,
    rounds: count('rounds', values.rounds, quick ? 1 : 3),
    contenders: chosen(
      'only',
      values.only,
      CONTENDERS.map(({ name }) => name),
    ),
    measurements: chosen('measure', values.measure, MEASUREMENTS),
    endpoints: chosen('endpoints', values.endpoints, ['1', '100']).map(Number),
    processes: chosen('processes', values.processes, ['1', '2', '4']).map(Number),
    fleetEndpoints: 10,
    slowCommitMs: count('slow-commit', values['slow-commit'], 5),
    latency: { perSecond: 500, seconds: quick ? 3 : 20, warmUpSeconds: quick ? 1 : 5 },
    accept: { batch: quick ? 1000 : 10_000, calls: 5 },
    matching: {
      warmUp: quick ? 1000 : 10_000,
      batch: quick ? 1000 : 10_000,
      few: 10,
      many: 10_000,
    },
    data: join(
      values.data ?? fileURLToPath(new URL('.data', import.meta.url)),
      `run-${process.pid}`,
    ),
    save: values.save ?? false,
    command: ['npm --prefix bench start', ...(args.length > 0 ? ['--', ...args] : [])].join(' '),
  }
}

function parse(args) {
  const text = { type: 'string' }
  const flag = { type: 'boolean' }
  try {
    const { values } = parseArgs({
      args,
      options: {
        events: text,
        rounds: text,
        only: text,
        measure: text,
        endpoints: text,
        processes: text,
        'slow-commit': text,
        full: flag,
        quick: flag,
        data: text,
        save: flag,
        help: flag,
      },
    })
    return values
  } catch (error) {
    return refuse(`${error.message}\n\n${HELP}`)
  }
}

function count(name, text, otherwise) {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  return refuse(`Expected --${name} to be a positive whole number, got "${text}".`)
}

function chosen(name, text, known) {
  if (text === undefined) return known
  const names = text.split(',')
  const stranger = names.find((one) => !known.includes(one))
  if (stranger === undefined) return known.filter((one) => names.includes(one))
  return refuse(`Expected --${name} to name some of ${known.join(', ')}; got "${stranger}".`)
}

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exit(2)
}
