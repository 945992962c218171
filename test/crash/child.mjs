/**
 * The process that dies: the built package, plain JavaScript, on a file. What it was told of every
 * event goes to a ledger outside its data, line by line, so that no kill can take it back.
 *
 *   node child.mjs '{"mode": "load" | "steps" | "finish", …}'
 */
import { openSync, readFileSync, writeSync } from 'node:fs'
import { dieAt, watchedDispatcher, watchedStorage } from './failpoints.mjs'

const options = JSON.parse(process.argv[2])
/** Another build when it is to be shown that a bug would be found. */
const { WebhookDispatcher, WebhookService, sqlite } = await import(
  options.package ?? '../../dist/index.js'
)
const { dataFile, ledgerFile, inFlightFile, url, prefix } = options
const ledger = openSync(ledgerFile, 'a')
/** What is sent and not yet known to be written: the parent reads it after a kill. */
const inFlight = { fd: openSync(inFlightFile, 'w'), count: 0, bytes: Buffer.alloc(4) }
let pruned = () => {}
const prunedOnce = new Promise((resolve) => {
  pruned = resolve
})
const reach = dieAt(options.crashAt ?? null, options.nth ?? 1)
let events = 0

function countInFlight(change) {
  inFlight.count += change
  inFlight.bytes.writeInt32LE(inFlight.count)
  writeSync(inFlight.fd, inFlight.bytes, 0, 4, 0)
}

const Dispatcher = watchedDispatcher(WebhookDispatcher, reach, () => countInFlight(1))
const dispatcher = new Dispatcher()
const storage = watchedStorage(sqlite({ path: dataFile }), reach, (verb, [group], result) => {
  if (verb === 'prune' && result === 0) pruned()
  if (verb !== 'commit') return
  const ended = group.settlements.length + group.releases.length
  if (ended > 0) countInFlight(-ended)
})

/** Retention begins a minute after the start; here it begins at once when it is to be tested. */
const clock = {
  nowMs: () => Date.now(),
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, options.pruneAtOnce && delayMs === 60_000 ? 50 : delayMs)
    return () => clearTimeout(timer)
  },
}

const service = new WebhookService(
  {
    storage,
    clock,
    allowedNetworks: ['127.0.0.0/8'],
    secretKey: options.secret,
    logger: false,
    retryScheduleMs: Array(20).fill(20),
    batchSize: 5,
    batchTimeoutMs: 30,
    ...options.config,
  },
  { dispatcher },
)

/** The id says the kind, so that the ledger can be judged without asking the product. */
function event(kind = 'message') {
  events += 1
  const id = `${kind}_${prefix}_${events}`
  return { id, type: `${kind}.sent`, timestamp: new Date(), data: { number: events } }
}

/** `+ id` before it is handed over, `= id` once it is accepted. */
async function publish(some) {
  writeSync(ledger, some.map(({ id }) => `+ ${id}\n`).join(''))
  const receipts = await service.dispatchEvents(some)
  writeSync(ledger, receipts.map(({ eventId }) => `= ${eventId}\n`).join(''))
  return receipts
}

async function register() {
  await service.registerEndpoint({ id: 'healthy', url: `${url}/healthy`, events: ['message.*'] })
  await service.registerEndpoint({ id: 'flaky', url: `${url}/flaky`, events: ['message.*'] })
  const batched = { id: 'batched', url: `${url}/batched`, events: ['message.*'], batch: true }
  await service.registerEndpoint(batched)
}

/** Publishers that keep at most so many events on their way, until the process is killed. */
async function load() {
  await register()
  process.stdout.write('ready\n')
  if (options.exitAfterMs) setTimeout(() => process.exit(0), options.exitAfterMs)
  const publishers = Array.from({ length: options.publishers ?? 8 }, async (_, lane) => {
    for (;;) {
      const some = Array.from({ length: lane === 0 ? 10 : 1 }, () => event())
      const all = Promise.all(some.map(({ id }) => deliveredTo(id)))
      await publish(some)
      await all
    }
  })
  await Promise.all(publishers)
}

const waiting = new Map()
service.on('delivery.delivered', ({ eventId, endpointId }) => {
  if (endpointId === 'healthy') waiting.get(eventId)?.()
  waiting.delete(eventId)
})

function deliveredTo(eventId) {
  return new Promise((resolve) => {
    waiting.set(eventId, resolve)
  })
}

let repairEnded = () => {}
service.on('repair.done', () => repairEnded())

async function repairsEnded() {
  for (;;) {
    const next = new Promise((resolve) => {
      repairEnded = resolve
    })
    const repairs = await service.listRepairs()
    if (repairs.every(({ state }) => state !== 'running')) return repairs
    await next
  }
}

const steps = {
  register,
  publish: () => publish(Array.from({ length: 12 }, () => event())),
  /** More than is sent one by one before an endpoint is paused. */
  publishMany: () => publish(Array.from({ length: 500 }, () => event())),
  /** As many endpoints as make an event too wide for one transaction. */
  async registerWide() {
    for (let i = 0; i < 2_100; i += 1) {
      const wide = { id: `wide_${i}`, url: `${url}/wide_${i}`, events: ['wide.*'] }
      await service.registerEndpoint(wide)
    }
  },
  wide: () => publish([event('wide')]),
  drain: () => service.drain(),
  async pauseAndResume() {
    await service.pauseEndpoint('healthy')
    await service.resumeEndpoint('healthy')
  },
  /** An endpoint with more waiting deliveries than are ended in one step. */
  async doomed() {
    const doomed = { id: 'doomed', url: `${url}/doomed`, events: ['doomed.*'], status: 'paused' }
    await service.registerEndpoint(doomed)
    await publish(Array.from({ length: 1_200 }, () => event('doomed')))
    await service.removeEndpoint('doomed')
    await service.drain()
  },
  async retry() {
    const { deliveries } = await service.listDeliveries({ endpointId: 'healthy' })
    await service.retryDelivery(deliveries[0].id)
  },
  /** In three steps, while events go on coming. */
  async replay() {
    await service.replay({ endpointId: 'healthy', maxPerSecond: 50 })
    await repairsEnded()
  },
  /** One that waits for its next attempt: the endpoint fails each delivery once. */
  async cancelOne() {
    await steps.publish()
    const { deliveries } = await service.listDeliveries({ endpointId: 'flaky' })
    await service.cancelDelivery(deliveries[0].id).catch(({ code }) => {
      if (code !== 'DELIVERY_NOT_CANCELLABLE') throw new Error(code)
    })
  },
  erase: () => service.eraseEvents({ ids: [`message_${prefix}_1`, `message_${prefix}_2`] }),
  backup: () => service.backup(`${dataFile}.${process.pid}.backup`),
  prune: () => prunedOnce,
}

async function runSteps() {
  await service.ready()
  for (const step of options.steps) await steps[step]()
  await service.close()
  await dispatcher.close()
}

/** What became of everything that was accepted, as the product sees it. */
async function finish() {
  for (const { id, status } of await service.listEndpoints()) {
    if (status === 'paused') await service.resumeEndpoint(id)
  }
  const repairs = await repairsEnded()
  await service.drain()
  const lines = readFileSync(ledgerFile, 'utf8').split('\n')
  const accepted = lines.filter((line) => line.startsWith('= ')).map((line) => line.slice(2))
  const unended = []
  const forgotten = []
  for (const id of new Set(accepted)) {
    const found = await service.getEvent(id)
    if (found === null) forgotten.push(id)
    for (const { state, reason } of found?.deliveries ?? []) {
      if (['waiting', 'delivering'].includes(state) || reason === null) unended.push(id)
    }
  }
  const { problems, counts } = await service.audit()
  const { backlog } = await service.health()
  await service.close()
  await dispatcher.close()
  process.stdout.write(
    `${JSON.stringify({ unended, forgotten, problems, counts, backlog, repairs })}\n`,
  )
}

await { load, steps: runSteps, finish }[options.mode]()
