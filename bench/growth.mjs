// Does the store on PostgreSQL stay as quick when it is full? `node bench/growth.mjs [--live 10000000]
// [--events 1000000] [--save]`. The tables are filled by the server itself, not through the engine; what
// is measured are the verbs of the store: accept, claim, settle, questions, retention.

import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { postgres } from '@k-msg/webhook/postgres'
import pg from 'pg'
import { describeMachine } from './machine/describe.mjs'
import { startPostgres } from './servers/postgres.mjs'

const { values: options } = parseArgs({
  options: {
    live: { type: 'string', default: '10000000' },
    events: { type: 'string', default: '1000000' },
    churn: { type: 'string', default: '1000000' },
    data: { type: 'string', default: '/tmp' },
    save: { type: 'boolean', default: false },
  },
})
const liveRows = Number(options.live)
const eventRows = Number(options.events)
const churnRows = Number(options.churn)

const dayMs = 86_400_000
const daysKept = 30
const activeLanes = 100
const pausedLanes = 9
const perCycle = 500
const startMs = Math.floor(Date.now() / dayMs) * dayMs
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
const rows = []
let eventNumber = 0

const folder = mkdtempSync(join(options.data, 'kmsg-growth-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
// What a server of 24 GB would be given; durability is the default: fsync and synchronous_commit on.
const flags = ['shared_buffers=4GB', 'max_wal_size=8GB', 'maintenance_work_mem=512MB']
const server = await startPostgres(
  folder,
  flags.flatMap((flag) => ['-c', flag]),
)
const { host: address, port, user, database } = server.connection
const sql = new pg.Client(server.connection)
await sql.connect()
const host = {
  nowMs: () => Date.now(),
  log: (level, message, fields) => level !== 'info' && say(`${level}: ${message}`, fields),
  onFatal: (error) => say('fatal', error),
}
const store = await postgres(`postgres://${user}@${address}:${port}/${database}`).open(host)
try {
  await registerEndpoints()
  await measure('empty, 3 days')
  for (let back = 1; back <= daysKept; back++) await makeDay(startMs - back * dayMs)
  await measure('empty, 33 days')
  await fillEvents()
  await fillLive(0, Math.min(1_000_000, liveRows))
  await measure(`${millions(Math.min(1_000_000, liveRows))} live`)
  await fillLive(Math.min(1_000_000, liveRows), liveRows)
  await measure(`${millions(liveRows)} live`)
  await fillDone()
  await measure(`${millions(liveRows)} live, ${millions(eventRows * 10)} ended`)
  await questions(`${millions(liveRows)} live, ${millions(eventRows * 10)} ended`)
  await behindATransaction()
  await retention()
  const text = report()
  say(`\n${text}`)
  if (options.save) appendFileSync(new URL('RESULTS.md', import.meta.url), `\n${text}`)
} finally {
  await store.close()
  await sql.end()
  await server.stop()
}

// ── the data ─────────────────────────────────────────────────────────────────────────────────────

function keyFloor(ms) {
  let text = ''
  for (let rest = ms; text.length < 10; rest = Math.floor(rest / 32)) {
    text = alphabet[rest % 32] + text
  }
  return text
}

async function makeDay(fromMs) {
  const name = new Date(fromMs).toISOString().slice(0, 10).replaceAll('-', '')
  for (const [table, prefix] of [
    ['event', ''],
    ['done', 'dlv_'],
    ['attempt', 'dlv_'],
  ]) {
    await sql.query(`create table kmsg.${table}_${name} partition of kmsg.${table}
      for values from ('${prefix}${keyFloor(fromMs)}') to ('${prefix}${keyFloor(fromMs + dayMs)}')`)
  }
}

async function registerEndpoints() {
  const keys = [...laneKeys(), ...Array.from({ length: pausedLanes }, (_, i) => `paused0${i}`)]
  for (const key of keys) {
    const atMs = Date.now()
    const record = {
      ...{ key, id: key, tenantId: '', url: 'https://shop.example/hook', events: ['*'], name: '' },
      ...{ description: '', status: key.startsWith('paused') ? 'paused' : 'active' },
      ...{ statusReason: null, statusChangedAtMs: atMs, secrets: [], signatureSchemes: null },
      ...{ filters: {}, bodyFilter: null, retryConfig: {}, headers: {}, tls: null },
      ...{ timeoutMs: null, concurrency: 5, rateLimit: null, batch: false, ordering: null },
      ...{ version: 1, warning: null, createdAtMs: atMs },
      updatedAtMs: atMs,
    }
    const change = { atMs, version: 1, what: 'registered', reason: null, fields: [] }
    await store.saveEndpoint(record, change, null)
  }
}

function laneKeys() {
  return Array.from({ length: activeLanes }, (_, i) => `active${String(i).padStart(2, '0')}`)
}

/** Spread evenly over the days kept, oldest first. */
async function fillEvents() {
  const digit = (i) => `substr('${alphabet}', ((ms >> ${45 - 5 * i}) & 31)::int + 1, 1)`
  const time = Array.from({ length: 10 }, (_, i) => digit(i)).join(' || ')
  await timed(`${eventRows} events written by the server`, () =>
    sql.query(`
      insert into kmsg.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
      select ${time} || lpad(to_hex(i), 14, '0'), '', 'evt_' || i, 'message.sent', ms, 20,
             convert_to(rpad('{"id":"evt_' || i || '"', 400, 'x'), 'UTF8')
        from (select i, ${startMs - daysKept * dayMs}::bigint
                          + (i::bigint * ${daysKept * dayMs} / ${eventRows}) as ms
                from generate_series(0, ${eventRows - 1}) as i) as numbered`),
  )
  await timed('their ids', () =>
    sql.query(`insert into kmsg.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
      select tenant_id, id, key, '\\x00'::bytea, accepted_at_ms from kmsg.event
       where id like 'evt\\_%'`),
  )
}

/** Nine of ten are of paused endpoints and overdue, the rest are retries that are not due yet. */
async function fillLive(from, to) {
  if (to <= from) return
  await timed(`${to - from} live deliveries written by the server`, () =>
    sql.query(`
      insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                             due_at_ms, round, created_at_ms)
      select 'dlv_' || key || '_' || endpoint_key, 'single', 1, key, endpoint_key, 'waiting', 1, 1,
             case when lane < ${pausedLanes} then accepted_at_ms
                  else ${Date.now() + 3_600_000 * 6} end, 1, accepted_at_ms
        from (select key, accepted_at_ms, lane,
                     case when lane < ${pausedLanes} then 'paused0' || lane
                          else 'active' || lpad((n % ${activeLanes})::text, 2, '0') end as endpoint_key
                from (select key, accepted_at_ms, substr(id, 5)::int as n from kmsg.event
                       where id like 'evt\\_%') as numbered
                     cross join generate_series(0, 9) as lane
               where n::bigint * 10 >= ${from} and n::bigint * 10 < ${to}) as made`),
  )
  await timed('vacuum analyze live', () => sql.query('vacuum analyze kmsg.live'))
}

async function fillDone() {
  const made = `
    select 'dlv_' || key || '_' || endpoint_key as id, made.*
      from (select key, accepted_at_ms, lane,
                   'active' || lpad(((n + lane * 7) % ${activeLanes})::text, 2, '0') as endpoint_key
              from (select key, accepted_at_ms, substr(id, 5)::int as n from kmsg.event
                     where id like 'evt\\_%') as numbered
                   cross join generate_series(1, 10) as lane) as made`
  await timed(`${eventRows * 10} ended deliveries`, () =>
    sql.query(`
      insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                             created_at_ms, settled_at_ms, last_started_at_ms, last_latency_ms,
                             last_outcome, last_http_status, last_response_body,
                             last_endpoint_version)
      select id, key, endpoint_key, case when hashtext(id) % 100 = 0 then 'exhausted' else 'delivered' end,
             'status_200', 1, 1, 1, accepted_at_ms, accepted_at_ms + 200, accepted_at_ms, 12.5,
             'accepted', 200, 'ok'::bytea, 1 from (${made}) as rows`),
  )
  await timed('their slots', () =>
    sql.query(`insert into kmsg.delivery_slot (endpoint_key, slot)
      select distinct endpoint_key, substr(id, 1, 12) from kmsg.done
       where id > 'dlv_${keyFloor(startMs - 2 * dayMs)}' on conflict do nothing`),
  )
  await timed('analyze', () => sql.query('analyze'))
}

// ── what is measured ─────────────────────────────────────────────────────────────────────────────

/** `perCycle` events are accepted, claimed from 100 lanes, and settled. */
async function cycle(times, withFloor = true) {
  const nowMs = Date.now()
  const lanes = laneKeys()
  const accepts = Array.from({ length: perCycle }, (_, i) => {
    eventNumber++
    const key = keyFloor(nowMs) + String(eventNumber).padStart(14, '0')
    const id = `new_${eventNumber}`
    const endpointKey = lanes[i % lanes.length]
    return {
      event: {
        ...{ key, tenantId: '', id, type: 'message.sent', acceptedAtMs: nowMs, matched: 1 },
        body: Buffer.from(`{"id":"${id}"${'x'.repeat(380)}`),
        contentHash: Buffer.alloc(32, eventNumber % 251),
      },
      endpointsVersion: null,
      deliveries: [{ id: `dlv_${key}_${endpointKey}`, endpointKey, dueAtMs: nowMs, owned: false }],
      fanOutTo: null,
    }
  })
  const group = { accepts: [], settlements: [], releases: [] }
  await clocked(times, 'accept', () => store.commit({ ...group, accepts }))
  const rooms = lanes.map((endpointKey) => ({
    ...{ endpointKey, limit: perCycle / activeLanes, batch: null },
    ...(withFloor && { headMs: nowMs }),
  }))
  const { claims } = await clocked(times, 'claim', () => store.claim(rooms, Date.now()))
  if (claims.length !== perCycle) throw new Error(`claimed ${claims.length} of ${perCycle}`)
  const settlements = claims.map((claim) => ({
    ...{ deliveryId: claim.deliveryId, endpointKey: claim.endpointKey, tenantId: '' },
    ...{ eventType: 'message.sent', token: claim.token, settledAtMs: Date.now() },
    attempt: {
      ...{ number: claim.attempts + 1, startedAtMs: Date.now(), latencyMs: 12.5 },
      ...{ outcome: 'accepted', httpStatus: 200, error: null, endpointVersion: 1 },
      responseBody: Buffer.from('ok'),
    },
    settlement: { state: 'delivered', reason: 'status_200', effect: null },
  }))
  await clocked(times, 'settle', () => store.commit({ ...group, settlements }))
}

/** A claim of one lane that has nothing due, and of one that has one delivery. */
async function single(times) {
  const rooms = [{ endpointKey: 'active00', limit: 10, batch: null, headMs: Date.now() }]
  await clocked(times, 'claim of one lane, empty', () => store.claim(rooms, Date.now()))
}

async function measure(name, cycles = 100, withFloor = true) {
  for (let i = 0; i < 10; i++) await cycle(new Map(), withFloor)
  const times = new Map()
  for (let i = 0; i < cycles; i++) await cycle(times, withFloor)
  for (let i = 0; i < cycles; i++) await single(times)
  for (const [what, list] of times) note(name, what, list)
}

async function questions(name) {
  const times = new Map()
  const found = await sql.query(`select id from kmsg.done where hashtext(id) % 50000 = 0 limit 50`)
  const all = { tenantId: null, endpointKey: null, fromMs: null, toMs: null, perHour: false }
  const page = {
    ...{ tenantId: null, endpointKey: null, states: null, eventType: null, fromMs: null },
    ...{ toMs: null, skipRetried: false, before: null, limit: 100 },
  }
  for (let i = 0; i < 50; i++) {
    await clocked(times, 'statistics of all time', () => store.statistics(all))
    await clocked(times, 'statistics of one endpoint', () =>
      store.statistics({ ...all, endpointKey: 'active07' }),
    )
    const id = found.rows[i % found.rows.length].id
    await clocked(times, 'a delivery with its attempts', async () => {
      const delivery = await store.findDelivery(id)
      await store.attemptsOf([delivery])
    })
    await clocked(times, 'an event with its 20 deliveries', () =>
      store.findEvent('', `evt_${(i * 19_997) % eventRows}`),
    )
    await clocked(times, 'newest 100 deliveries', () => store.listDeliveries(page))
    await clocked(times, 'newest 100 of one endpoint', () =>
      store.listDeliveries({ ...page, endpointKey: 'active07' }),
    )
    await clocked(times, 'newest 100 failed', () =>
      store.listDeliveries({ ...page, states: ['exhausted', 'rejected'], skipRetried: true }),
    )
    await clocked(times, 'heads of all lanes', () => store.heads())
    if (i < 5) await clocked(times, 'backlog (counts live rows)', () => store.backlog())
  }
  for (const [what, list] of times) note(name, what, list)
}

async function behindATransaction() {
  const other = new pg.Client(server.connection)
  await other.connect()
  await other.query('begin isolation level repeatable read')
  await other.query('select txid_current()')
  const beganMs = Date.now()
  await timed(`${churnRows} deliveries accepted, claimed and settled meanwhile`, async () => {
    for (let n = 0; n < churnRows; n += perCycle) await cycle(new Map())
  })
  say(`the transaction is open for ${Math.round((Date.now() - beganMs) / 1_000)} s`)
  const name = `the same behind a transaction, after ${millions(churnRows)} more`
  await measure(name, 50)
  await measure(`${name}, no floor`, 10, false)
  const times = new Map()
  for (let i = 0; i < 10; i++) await clocked(times, 'heads of all lanes', () => store.heads())
  for (const [what, list] of times) note(name, what, list)
  await other.query('rollback')
  await other.end()
}

async function retention() {
  const perDay = Math.round((eventRows * 10) / daysKept)
  const day = (back) => startMs - back * dayMs
  const deleted = await timed(`delete ${perDay} ended deliveries and attempts of a day`, () =>
    sql.query(`
      with gone as (delete from kmsg.done where id >= 'dlv_${keyFloor(day(2))}'
                       and id < 'dlv_${keyFloor(day(1))}' returning id)
      delete from kmsg.attempt where delivery_id in (select id from gone)`),
  )
  note('retention', `a day of ${perDay} deleted row by row (done, attempt)`, [deleted])
  const vacuumed = await timed('vacuum of both after it', () =>
    sql.query(`vacuum kmsg.done_${stamp(day(2))}, kmsg.attempt_${stamp(day(2))}`),
  )
  note('retention', 'vacuum after it', [vacuumed])
  const held = await held9Of10(day(daysKept))
  const cutoff = day(daysKept - 1)
  const cutoffs = {
    ...{ settledBeforeMs: cutoff, deliveredBodiesBeforeMs: cutoff },
    ...{ failedBodiesBeforeMs: cutoff, eventIdsBeforeMs: cutoff },
  }
  const steps = []
  const during = new Map()
  let isOver = false
  const commits = (async () => {
    while (!isOver) await cycle(during)
  })()
  for (let some = 1; some > 0; ) {
    const beganMs = performance.now()
    some = await store.prune(cutoffs, 500)
    steps.push(performance.now() - beganMs)
  }
  isOver = true
  await commits
  say(`prune: ${steps.length} steps, held back by live rows: ${held}`)
  note('retention', `a day of ${perDay} as a whole: all steps together`, [
    steps.reduce((sum, one) => sum + one, 0),
  ])
  note('retention', 'its steps', steps)
  for (const [what, list] of during) note('retention', `${what} meanwhile`, list)
}

/** Leaves the day of which all goes with a few deliveries that still wait. */
async function held9Of10(fromMs) {
  const { rowCount } = await sql.query(`
    delete from kmsg.live where id >= 'dlv_${keyFloor(fromMs)}' and id < 'dlv_${keyFloor(fromMs + dayMs)}'
       and hashtext(event_key) % 1000 <> 0`)
  return `all but ${rowCount} of its live rows`
}

function stamp(ms) {
  return new Date(ms).toISOString().slice(0, 10).replaceAll('-', '')
}

// ── figures ──────────────────────────────────────────────────────────────────────────────────────

async function clocked(times, what, work) {
  const beganMs = performance.now()
  const result = await work()
  const list = times.get(what) ?? []
  times.set(what, list)
  list.push(performance.now() - beganMs)
  return result
}

async function timed(what, work) {
  const beganMs = performance.now()
  await work()
  const tookMs = performance.now() - beganMs
  say(`${what}: ${(tookMs / 1_000).toFixed(1)} s`)
  return tookMs
}

function note(state, what, list) {
  const sorted = [...list].sort((a, b) => a - b)
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  rows.push([state, what, list.length, show(at(0.5)), show(at(0.99))])
  say(`${state} | ${what} | ${list.length} | ${show(at(0.5))} | ${show(at(0.99))}`)
}

function show(ms) {
  return Number(ms.toPrecision(3)).toString()
}

function millions(count) {
  return count >= 1_000_000 ? `${Number((count / 1_000_000).toPrecision(3))} million` : `${count}`
}

function report() {
  const { date, cpu, memoryGb, system, node, revision } = describeMachine()
  return `## Growth on PostgreSQL, ${date.slice(0, 16).replace('T', ' ')} UTC

- Machine: ${cpu}, ${memoryGb} GB, ${system}; Node ${node}, this repository at ${revision}
- Command: \`node bench/growth.mjs --live ${liveRows} --events ${eventRows} --churn ${churnRows} --save\`
- ${perCycle} events per accept, claim (of ${activeLanes} lanes) and settle; PostgreSQL with ${flags.join(', ')}

| state of the tables | what | n | p50 ms | p99 ms |
| --- | --- | ---: | ---: | ---: |
${rows.map((row) => `| ${row.join(' | ')} |`).join('\n')}
`
}

function say(...what) {
  console.log(new Date().toISOString().slice(11, 19), ...what)
}
