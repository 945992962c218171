// The results as Markdown tables that are also straight on a terminal.

import { CONTENDERS } from '../contenders/list.mjs'
import { show } from './numbers.mjs'
import { targets } from './targets.mjs'

export function report(results, options, machine, capacity, skipped) {
  const parts = [heading(options, machine, capacity)]
  for (const line of skipped) parts.push(`Not measured: ${line}`)
  for (const endpoints of options.endpoints) {
    if (!results.has('cold', endpoints) && !results.has('steady', endpoints)) continue
    parts.push(`### Throughput, ${endpoints === 1 ? 'one endpoint' : `${endpoints} endpoints`}`)
    parts.push(throughput(results, options, endpoints))
  }
  for (const processes of options.processes) {
    if (!results.has(`fleet of ${processes}`, options.fleetEndpoints)) continue
    const many = processes === 1 ? 'One process' : `${processes} processes`
    parts.push(`### ${many} on one store, steady, ${options.fleetEndpoints} endpoints`)
    parts.push(fleet(results, options, processes))
  }
  if (results.has('latency', 1)) {
    parts.push(`### Dispatch to arrival at ${options.latency.perSecond}/s, in ms`)
    parts.push(latency(results, options))
  }
  const reached = targets(results, options)
  if (reached.length > 0) {
    parts.push('### To reach')
    parts.push(
      table(
        ['', 'measured', 'to reach', ''],
        reached.map((row) => [
          row.says,
          `${show(row.value)} ${row.unit}`,
          row.limit,
          row.reached ? 'yes' : '**no**',
        ]),
      ),
    )
  }
  return `${parts.join('\n\n')}\n`
}

function heading(options, machine, capacity) {
  const { perSecond, cpuUs, name } = capacity
  return [
    `## ${machine.date.slice(0, 16).replace('T', ' ')} UTC${options.quick ? ' (quick: not a measurement)' : ''}`,
    '',
    `- Machine: ${machine.cpu}, ${machine.memoryGb} GB, ${machine.system}; other programs kept ${machine.coresUsedByOthers.toFixed(2)} cores busy meanwhile`,
    `- Node ${machine.node}, undici ${machine.undici}, this repository at ${machine.revision}`,
    `- Command: \`${options.command}\``,
    `- Medians of ${options.rounds} alternating rounds; cold ${count(options.coldEvents)} events, steady ${count(options.steadyEvents)} after ${count(options.warmUp)} of warm-up`,
    `- Receiver: ${name}, takes ${show(perSecond)} requests/s at ${show(cpuUs)} µs of CPU each`,
  ].join('\n')
}

function throughput(results, options, endpoints) {
  const rows = chosen(options).map(({ name, says }) => {
    const of = (measurement, field) =>
      show(results.of(measurement, endpoints, name, (values) => values[field]))
    const toLimit = (measurement) =>
      show(
        results.ratio(
          [measurement, endpoints, name],
          [measurement, endpoints, 'limit'],
          (values) => values.perSecond,
        ),
      )
    const cpu = (measurement) =>
      `${of(measurement, 'processCpuUs')} + ${of(measurement, 'serverCpuUs')}`
    return [
      `${name}: ${says}`,
      of('cold', 'perSecond'),
      toLimit('cold'),
      of('cold', 'acceptedPerSecond'),
      cpu('cold'),
      of('steady', 'perSecond'),
      toLimit('steady'),
      cpu('steady'),
      `${of('cold', 'peakRssMb')} + ${of('cold', 'serverPeakMb')}`,
    ]
  })
  const head = ['contender', 'cold /s', '÷ limit', 'accepted /s', 'CPU µs: process + server']
  const rest = [
    'steady /s',
    '÷ limit',
    'CPU µs: process + server',
    'peak MB, cold: process + server',
  ]
  return table([...head, ...rest], rows)
}

function fleet(results, options, processes) {
  const measurement = `fleet of ${processes}`
  const { fleetEndpoints: endpoints } = options
  const rows = chosen(options)
    .filter(({ name }) => name !== 'ours')
    .map(({ name, says }) => {
      const of = (field) =>
        show(results.of(measurement, endpoints, name, (values) => values[field]))
      const toLimit = results.ratio(
        [measurement, endpoints, name],
        [measurement, endpoints, 'limit'],
        (values) => values.perSecond,
      )
      return [
        `${name}: ${says}`,
        of('perSecond'),
        show(toLimit),
        `${of('processCpuUs')} + ${of('serverCpuUs')}`,
        of('roundTrips'),
        of('smallestShare'),
        of('peakRssMb'),
      ]
    })
  const head = ['contender', '/s', '÷ limit', 'CPU µs: processes + server']
  return table([...head, 'round trips each', 'smallest share', 'MB of all'], rows)
}

function latency(results, options) {
  const rows = chosen(options).map(({ name }) => {
    const of = (field) => show(results.of('latency', 1, name, (values) => values[field]))
    return [name, of('p50Ms'), of('p99Ms'), of('maxMs'), of('p99FromDueMs')]
  })
  return table(['contender', 'p50', 'p99', 'greatest', 'p99 from the scheduled time'], rows)
}

const chosen = (options) => CONTENDERS.filter(({ name }) => options.contenders.includes(name))
const count = (value) => value.toLocaleString('en-US')

function table(head, rows) {
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i].length)))
  const line = (cells) => {
    const padded = cells.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
    return `| ${padded.join(' | ')} |`
  }
  const rule = widths.map((width, i) => (i ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}
