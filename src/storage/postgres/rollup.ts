/**
 * Statistics of the attempts in one commit, and which rows of the sums this process adds them to. Every
 * commit makes a new version of those rows, and behind a transaction that is open for long no old one
 * may be cleared away: after a thousand commits a lookup goes through a thousand versions. So after
 * some commits the process goes on with rows of their own, and adds what it leaves to its lasting ones.
 */
import type { Database } from './connection.ts'

const anHourMs = 3_600_000

/** How the rows of `written` (settle.ts) are added up. */
export interface Counts {
  readonly rows: string
  readonly eventType: string
  readonly attempts: string
  readonly deliveries: string
  readonly latency: string
}

export const ofSingles: Counts = {
  rows: 'written',
  eventType: 'event_type',
  attempts: 'count(*)',
  deliveries: 'count(*)',
  latency: 'sum(latency_ms)',
}

/** A batch is one attempt, counted with the type of its first member; each type has its members. */
export const ofMembers: Counts = {
  rows: `written left join lateral (
    select each.value ->> 2 as member_type, count(*) as members, min(each.n) = 1 as is_first
      from kmsg.batch cross join json_array_elements(members) with ordinality as each (value, n)
     where batch.id = written.id group by 1) as batched on true`,
  eventType: 'coalesce(member_type, event_type)',
  attempts: 'count(*) filter (where is_first is not false)',
  deliveries: 'sum(coalesce(members, 1))',
  latency: 'sum(latency_ms * coalesce(members, 1))',
}

/** Sums of everything that was written, in the three grains. `$21`: see `RollupWriter.next`. */
export const addSums = (
  counts: Counts,
) => `insert into kmsg.rollup as r (endpoint_key, hour_ms, tenant_id, event_type, outcome, state,
                                  latency_class, writer, attempts, deliveries, latency_sum_ms)
    select grain.key, grain.hour_ms, tenant_id, event_type, outcome, end_state, latency_class,
           $21::int, sum(attempts), sum(deliveries), sum(latency_sum_ms)
      from (select settled_for, settled_at_ms - settled_at_ms % ${anHourMs} as hour_ms, tenant_id,
                   ${counts.eventType} as event_type, outcome, end_state, latency_class,
                   ${counts.attempts} as attempts, ${counts.deliveries} as deliveries,
                   ${counts.latency} as latency_sum_ms
              from ${counts.rows} group by 1, 2, 3, 4, 5, 6, 7) as counted
           cross join lateral (values (settled_for, hour_ms), ('', hour_ms), ('', -1))
             as grain (key, hour_ms)
     group by 1, 2, 3, 4, 5, 6, 7 order by 1, 2, 3, 4, 5, 6, 7
    on conflict (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, writer)
       do update set attempts = r.attempts + excluded.attempts,
                     deliveries = r.deliveries + excluded.deliveries,
                     latency_sum_ms = r.latency_sum_ms + excluded.latency_sum_ms`

/** Numbers of one worker's slot: the first is of its lasting rows. */
const numbersPerSlot = 1_000
const commitsPerNumber = 256

/** Readers add up all rows of a sum, so it does not matter to them when this happens. */
const keep = `
  with loose as (
    delete from kmsg.rollup
     where writer % ${numbersPerSlot} <> 0 and writer between $1::int and $1::int + ${numbersPerSlot - 1}
       and writer <> $2::int
    returning *
  )
  insert into kmsg.rollup as r (endpoint_key, hour_ms, tenant_id, event_type, outcome, state,
                                latency_class, writer, attempts, deliveries, latency_sum_ms)
  select endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, $1::int,
         sum(attempts), sum(deliveries), sum(latency_sum_ms)
    from loose group by 1, 2, 3, 4, 5, 6, 7 order by 1, 2, 3, 4, 5, 6, 7
  on conflict (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, writer)
     do update set attempts = r.attempts + excluded.attempts,
                   deliveries = r.deliveries + excluded.deliveries,
                   latency_sum_ms = r.latency_sum_ms + excluded.latency_sum_ms`

export class RollupWriter {
  readonly #database: Database
  readonly #slot: () => number
  #number = 1
  #commits = 0
  #keeping: Promise<void> | null = null

  constructor(database: Database, slot: () => number) {
    this.#database = database
    this.#slot = slot
  }

  /** The writer of the sums of one commit. */
  next(): number {
    this.#commits += 1
    if (this.#commits > commitsPerNumber && this.#keeping === null) {
      this.#commits = 0
      this.#number = (this.#number % (numbersPerSlot - 1)) + 1
      this.#keeping = this.#keep().finally(() => {
        this.#keeping = null
      })
    }
    return this.#first + this.#number
  }

  /** Nothing of it is under way any more. */
  async stop(): Promise<void> {
    await this.#keeping
  }

  get #first(): number {
    return this.#slot() * numbersPerSlot
  }

  /** What stays loose, because it failed or a commit was slow, is kept the next time. */
  async #keep(): Promise<void> {
    await this.#database
      .read((connection) => connection.run(keep, this.#first, this.#first + this.#number))
      .catch(() => {})
  }
}
