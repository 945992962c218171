// What the engine is to reach, each as a question to the results.

const rate = (values) => values.perSecond
const cpu = (values) => values.processCpuUs + values.serverCpuUs
const BEST_QUEUES = ['bullmq-best', 'pg-boss-best', 'graphile-best']

/** @returns rows `{ says, value, unit, limit, reached }`; `reached` is undefined if not measured */
export function targets(results, options) {
  const rows = []
  const atLeast = (says, value, limit, unit = '×') =>
    rows.push({ says, value, unit, limit: `≥ ${limit}`, reached: known(value, value >= limit) })
  const atMost = (says, value, limit, unit) =>
    rows.push({ says, value, unit, limit: `≤ ${limit}`, reached: known(value, value <= limit) })

  for (const endpoints of options.endpoints) {
    const to = (measurement, other, read) =>
      results.ratio([measurement, endpoints, 'ours'], [measurement, endpoints, other], read)
    const at = endpoints === 1 ? '1 endpoint' : `${endpoints} endpoints`
    atLeast(`steady, ${at}: ours ÷ limit`, to('steady', 'limit', rate), 0.75)
    atLeast(`cold, ${at}: ours ÷ limit`, to('cold', 'limit', rate), 0.65)
    for (const measurement of ['steady', 'cold']) {
      atLeast(`${measurement}, ${at}: ours ÷ fetch`, to(measurement, 'fetch', rate), 7)
      for (const queue of BEST_QUEUES) {
        atLeast(`${measurement}, ${at}: ours ÷ ${queue}`, to(measurement, queue, rate), 2)
        atMost(`${measurement}, ${at}: CPU ours ÷ ${queue}`, to(measurement, queue, cpu), 0.5, '×')
      }
    }
  }
  fleetTargets(results, options, atLeast, atMost)
  const latency = (field) => results.of('latency', 1, 'ours', (values) => values[field])
  atMost('500/s: p50 from dispatch to arrival', latency('p50Ms'), 1, 'ms')
  atMost('500/s: p99 from dispatch to arrival', latency('p99Ms'), 10, 'ms')
  const slowed = results.ratio(['slow commit', 1, 'ours'], ['commit as it is', 1, 'ours'], rate)
  atLeast(`cold, every commit ${options.slowCommitMs} ms slower: share kept`, slowed, 0.6)
  const { batch } = options.accept
  for (const [field, which] of [
    ['firstMs', 'first call of a process'],
    ['medianMs', 'median of 5 calls'],
  ]) {
    const ms = results.of('accept', 1, 'ours', (values) => values[field])
    atMost(`dispatchEvents of ${batch.toLocaleString('en-US')}, ${which}`, ms, 250, 'ms')
  }
  for (const which of ['kept connections', 'new connections']) {
    const measurement = `guard, ${which}`
    const kept = results.ratio([measurement, 1, 'ours'], [measurement, 1, 'unguarded'], rate)
    atLeast(`guard on ÷ off, ${which}`, kept, 0.95)
  }
  const { few, many } = options.matching
  const grown = results.ratio(['matching', many, 'ours'], ['matching', few, 'ours'], cpu)
  const says = `CPU per event, ${many.toLocaleString('en-US')} ÷ ${few} endpoints registered`
  atMost(says, grown, 2, '×')
  return rows.filter(({ value }) => value !== undefined)
}

/** One process on PostgreSQL, and several. */
function fleetTargets(results, { endpoints: counts, processes, fleetEndpoints }, atLeast, atMost) {
  const measured = [
    ...counts.map((n) => ['steady', n, `steady, ${n === 1 ? '1 endpoint' : `${n} endpoints`}`]),
    ...processes.map((n) => [
      `fleet of ${n}`,
      fleetEndpoints,
      n === 1 ? '1 process' : `${n} processes`,
    ]),
  ]
  for (const [measurement, endpoints, says] of measured) {
    const to = (other) =>
      results.ratio([measurement, endpoints, 'ours-pg'], [measurement, endpoints, other], rate)
    const of = (field) => results.of(measurement, endpoints, 'ours-pg', (values) => values[field])
    atLeast(`${says}: ours-pg ÷ limit`, to('limit'), 0.6)
    for (const queue of BEST_QUEUES) atLeast(`${says}: ours-pg ÷ ${queue}`, to(queue), 1.6)
    atMost(`${says}: CPU of PostgreSQL per delivery`, of('serverCpuUs'), 25, 'µs')
    atMost(`${says}: round trips per delivery`, of('roundTrips'), 0.02, '')
  }
}

const known = (value, reached) => (value === undefined ? undefined : reached)
