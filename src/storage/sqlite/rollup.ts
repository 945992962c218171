/**
 * Statistics of the attempts in one commit, added up in memory and written once each. They come
 * only from attempts that were newly inserted and still owned: an input that is repeated, or late,
 * counts nothing.
 */
import { latencyClass } from '../latency-class.ts'
import type { Connection } from './connection.ts'
import { forManyRows, rowsAtOnce } from './statements.ts'

const anHourMs = 3_600_000
/** The hour of the sums of all time: no real one. */
export const allTime = -1

/** SQLite has one writer; where there are many, each adds to rows of its own. */
const writer = 'local'

const add = `
  insert into rollup (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class,
                      writer, attempts, deliveries, latency_sum_ms)
  values (?, ?, ?, ?, ?, ?, ?, '${writer}', ?, ?, ?)
  on conflict do update set attempts = attempts + excluded.attempts,
                            deliveries = deliveries + excluded.deliveries,
                            latency_sum_ms = latency_sum_ms + excluded.latency_sum_ms`

const addMany = forManyRows(add)

/** Fewer are added at once: that is as quick as to leave them pending. */
const manySums = 64
const mostPending = 16

const leavePending = 'insert into rollup_pending (sums) values (?) returning id'
const allPending = 'select sums from rollup_pending order by id'
const nonePending = 'delete from rollup_pending'

/** The values of `add`. */
type SumRow = [string, number, string, string, string, string, number, number, number, number]
const [attemptsAt, deliveriesAt, latencyAt] = [7, 8, 9] as const

export interface Counted {
  readonly endpointKey: string
  readonly tenantId: string
  readonly eventType: string
  readonly outcome: string
  readonly state: string
  readonly settledAtMs: number
  readonly latencyMs: number
}

/** What one row adds. */
interface Sum {
  readonly endpointKey: string
  readonly hourMs: number
  readonly counted: Counted
  readonly latencyClass: number
  attempts: number
  deliveries: number
  latencySumMs: number
}

/** Every attempt counts in two sums: one of its endpoint, one of all endpoints. */
interface Pair {
  readonly one: Sum
  readonly all: Sum
}

export class Rollup {
  readonly #pairs = new Map<string, Pair>()
  readonly #ofAll = new Map<string, Sum>()

  /** @param deliveries of this type that the attempt carried; it is their latency, each of them */
  count(counted: Counted, attempts: number, deliveries: number): void {
    const { endpointKey, tenantId, eventType, outcome, state, settledAtMs, latencyMs } = counted
    const hourMs = settledAtMs - (settledAtMs % anHourMs)
    const ofClass = latencyClass(latencyMs)
    const key = `${hourMs} ${ofClass} ${state} ${outcome} ${eventType} ${tenantId}`
    let pair = this.#pairs.get(endpointKey + key)
    if (pair === undefined) {
      const all = this.#ofAll.get(key) ?? emptySum('', hourMs, counted, ofClass)
      this.#ofAll.set(key, all)
      pair = { one: emptySum(endpointKey, hourMs, counted, ofClass), all }
      this.#pairs.set(endpointKey + key, pair)
    }
    for (const sum of [pair.one, pair.all]) {
      sum.attempts += attempts
      sum.deliveries += deliveries
      sum.latencySumMs += latencyMs * deliveries
    }
  }

  write(connection: Connection): void {
    const ofOne: SumRow[] = []
    for (const { one } of this.#pairs.values()) ofOne.push(toRow(one, one.hourMs))
    if (ofOne.length < manySums) addNow(connection, ofOne)
    else addLater(connection, ofOne)
    // The two coarser grains: every endpoint in this hour, and everything ever.
    const ofAll: SumRow[] = []
    for (const all of this.#ofAll.values()) {
      ofAll.push(toRow(all, all.hourMs), toRow(all, allTime))
    }
    addNow(connection, ofAll)
  }
}

function addNow(connection: Connection, rows: readonly SumRow[]): void {
  let i = 0
  for (; i + rowsAtOnce <= rows.length; i += rowsAtOnce) {
    connection.run(addMany, ...rows.slice(i, i + rowsAtOnce).flat())
  }
  for (const row of rows.slice(i)) connection.run(add, ...row)
}

/** One row for all of them. What sixteen come to is far less than they have, and is added up here. */
function addLater(connection: Connection, rows: readonly SumRow[]): void {
  const left = connection.get<{ id: number }>(leavePending, JSON.stringify(rows))
  if ((left?.id ?? 0) < mostPending) return
  const together = new Map<string, SumRow>()
  for (const { sums } of connection.all<{ sums: string }>(allPending)) {
    for (const row of JSON.parse(sums) as SumRow[]) {
      const name = row.slice(0, attemptsAt).join('\n')
      const known = together.get(name)
      if (known === undefined) together.set(name, row)
      else {
        known[attemptsAt] += row[attemptsAt]
        known[deliveriesAt] += row[deliveriesAt]
        known[latencyAt] += row[latencyAt]
      }
    }
  }
  addNow(connection, [...together.values()])
  connection.run(nonePending)
}

function emptySum(endpointKey: string, hourMs: number, counted: Counted, ofClass: number): Sum {
  return {
    endpointKey,
    hourMs,
    counted,
    latencyClass: ofClass,
    attempts: 0,
    deliveries: 0,
    latencySumMs: 0,
  }
}

function toRow(sum: Sum, hourMs: number): SumRow {
  const { tenantId, eventType, outcome, state } = sum.counted
  const { endpointKey, latencyClass, attempts, deliveries, latencySumMs } = sum
  const name = [endpointKey, hourMs, tenantId, eventType, outcome, state, latencyClass] as const
  return [...name, attempts, deliveries, latencySumMs]
}
