/**
 * Statistics of the attempts in one commit, added up in memory and written once each. They come
 * only from attempts that were newly inserted and still owned: an input that is repeated, or late,
 * counts nothing.
 */
import { latencyClass } from '../latency-class.ts'
import type { Connection } from './connection.ts'
import type { SqlValue } from './driver.ts'
import { forManyRows, rowsAtOnce } from './statements.ts'

const hourMs = 3_600_000
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

export interface Counted {
  readonly endpointKey: string
  readonly tenantId: string
  readonly eventType: string
  readonly outcome: string
  readonly state: string
  readonly settledAtMs: number
  readonly latencyMs: number
}

interface Sum {
  readonly endpointKey: string
  readonly hourMs: number
  readonly tenantId: string
  readonly eventType: string
  readonly outcome: string
  readonly state: string
  readonly latencyClass: number
  attempts: number
  deliveries: number
  latencySumMs: number
}

export class Rollup {
  readonly #sums = new Map<string, Sum>()

  /** @param deliveries how many one attempt carried */
  count(counted: Counted, deliveries: number): void {
    const { endpointKey, tenantId, eventType, outcome, state, latencyMs } = counted
    const hour = counted.settledAtMs - (counted.settledAtMs % hourMs)
    this.#add({
      endpointKey,
      hourMs: hour,
      tenantId,
      eventType,
      outcome,
      state,
      latencyClass: latencyClass(latencyMs),
      attempts: 1,
      deliveries,
      latencySumMs: latencyMs,
    })
  }

  write(connection: Connection): void {
    // The two coarser grains: every endpoint in this hour, and everything ever.
    for (const sum of [...this.#sums.values()]) {
      this.#add({ ...sum, endpointKey: '' })
      this.#add({ ...sum, endpointKey: '', hourMs: allTime })
    }
    const rows = [...this.#sums.values()].map(toValues)
    let i = 0
    for (; i + rowsAtOnce <= rows.length; i += rowsAtOnce) {
      connection.run(addMany, ...rows.slice(i, i + rowsAtOnce).flat())
    }
    for (const row of rows.slice(i)) connection.run(add, ...row)
  }

  #add(sum: Sum): void {
    const key = `${sum.endpointKey} ${sum.hourMs} ${sum.latencyClass} ${sum.state} ${sum.outcome} ${sum.eventType} ${sum.tenantId}`
    const known = this.#sums.get(key)
    if (known === undefined) {
      this.#sums.set(key, sum)
      return
    }
    known.attempts += sum.attempts
    known.deliveries += sum.deliveries
    known.latencySumMs += sum.latencySumMs
  }
}

function toValues(sum: Sum): SqlValue[] {
  return [
    ...[sum.endpointKey, sum.hourMs, sum.tenantId, sum.eventType, sum.outcome, sum.state],
    ...[sum.latencyClass, sum.attempts, sum.deliveries, sum.latencySumMs],
  ]
}
