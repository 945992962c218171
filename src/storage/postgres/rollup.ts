/**
 * Which rows of the sums this process adds to. Every commit makes a new version of them, and behind a
 * transaction that is open for long no old one may be cleared away: after a thousand commits a lookup
 * goes through a thousand versions. So after some commits the process goes on with rows of their own,
 * and adds what it leaves to its lasting ones.
 */
import type { Database } from './connection.ts'

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
