// The measurements of one round, in their order. Contenders take turns inside a measurement,
// and the one who begins changes from round to round: what the machine does meanwhile, and
// what the one before left in its caches, meets all of them.

import { CONTENDERS, UNGUARDED } from './contenders/list.mjs'

/**
 * @returns steps `{ measurement, workload, contender, endpoints, receiver, options, env? }`
 */
export function planRound(round, options) {
  const asked = new Set(options.measurements)
  const all = rotate(
    CONTENDERS.filter(({ name }) => options.contenders.includes(name)),
    round,
  )
  const ours = all.filter(({ name }) => name === 'ours')
  const { coldEvents, newConnections, steadyEvents, warmUp, backlog } = options
  const cold = { workload: 'cold', options: { events: coldEvents } }
  const steady = { workload: 'steady', options: { warmUp, backlog, events: steadyEvents } }

  const steps = []
  const add = (measurement, contenders, step) => {
    for (const contender of contenders) {
      steps.push({ receiver: 'throughput', endpoints: 1, ...step, measurement, contender })
    }
  }
  for (const endpoints of options.endpoints) {
    if (asked.has('cold')) add('cold', all, { ...cold, endpoints })
    if (asked.has('steady')) add('steady', all, { ...steady, endpoints })
  }
  if (asked.has('fleet')) {
    for (const processes of options.processes) {
      const fleet = { ...steady, workload: 'fleet', endpoints: options.fleetEndpoints, processes }
      // A file is one process's.
      add(
        `fleet of ${processes}`,
        all.filter(({ name }) => name !== 'ours'),
        fleet,
      )
    }
  }
  if (asked.has('latency')) {
    add('latency', all, { workload: 'latency', receiver: 'latency', options: options.latency })
  }
  if (asked.has('slow-commit')) {
    // Its own run without the delay beside it, so that the two share the moment.
    const env = { KMSG_BENCH_COMMIT_DELAY_MS: String(options.slowCommitMs) }
    add('commit as it is', ours, cold)
    add('slow commit', ours, { ...cold, env })
  }
  if (asked.has('accept')) add('accept', ours, { workload: 'acceptMany', options: options.accept })
  if (asked.has('matching')) {
    for (const registered of [options.matching.few, options.matching.many]) {
      const step = { workload: 'matching', endpoints: registered, addresses: 1 }
      add('matching', ours, { ...step, options: options.matching })
    }
  }
  if (asked.has('guard') && ours.length > 0) {
    const pair = rotate([...ours, UNGUARDED], round)
    const fresh = { workload: 'cold', receiver: 'closing', options: { events: newConnections } }
    add('guard, kept connections', pair, steady)
    add('guard, new connections', pair, fresh)
  }
  return steps
}

function rotate(list, by) {
  const at = by % Math.max(1, list.length)
  return [...list.slice(at), ...list.slice(0, at)]
}
