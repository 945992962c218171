// A store as a process of its own: with a clock of its own, and what it is told by its watcher.
import { manualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import {
  Database,
  type Pool,
  type PoolClient,
  Schema,
} from '../../src/storage/postgres/connection.ts'
import { hintPauseMs } from '../../src/storage/postgres/hints.ts'
import { openStore } from '../../src/storage/postgres/store.ts'
import { pollEveryMs } from '../../src/storage/postgres/watch.ts'
import type { Store, StoreWatcher } from '../../src/storage/storage.ts'
import type { TestHost } from '../storage/fixtures.ts'
import { onServer, type TestSchema } from './schemas.ts'

export const leaseMs = 30_000

interface TimerWatch {
  set: (delayMs: number) => void
}

export class StoreProcess {
  readonly store: Store
  readonly told: string[] = []
  readonly #clock: ReturnType<typeof manualClock>
  /** The timer of its next poll is set. */
  #waits = false
  #polled: (() => void)[] = []

  private constructor(store: Store, clock: ReturnType<typeof manualClock>, timers: TimerWatch) {
    this.store = store
    this.#clock = clock
    timers.set = (delayMs) => {
      if (delayMs <= pollEveryMs && delayMs !== hintPauseMs) this.#waits = true
    }
  }

  /** @param answered holds an answer of the server back for as long as it likes */
  static async start(
    schema: TestSchema,
    host: TestHost,
    answered: (statement: string) => Promise<void> = async () => {},
  ): Promise<StoreProcess> {
    const clock = manualClock()
    const timers: TimerWatch = { set: () => {} }
    const pool = slowly(new pg.Pool({ connectionString: schema.url, max: 3 }), answered)
    const database = new Database({
      pool,
      schema: new Schema(schema.name),
      location: 'the test',
      idleInTransactionMs: 10_000,
      random: Math.random,
    })
    const store = await openStore(database, host, {
      leaseMs,
      clock: {
        steadyMs: clock.nowMs,
        wallMs: clock.nowMs,
        setTimer(callback, delayMs) {
          timers.set(delayMs)
          return clock.setTimer(callback, delayMs)
        },
      },
      listen: null,
      onClose: () => pool.end(),
    })
    const started = new StoreProcess(store, clock, timers)
    await store.watch(started.#watcher())
    return started
  }

  #watcher(): StoreWatcher {
    return {
      endpointsChanged: (version) => this.told.push(`endpoints ${version}`),
      repairs: () => this.told.push('repairs'),
      flowsChanged: (flows) => this.told.push(...flows.map((one) => `flow ${one.endpointKey}`)),
      sharesChanged: () => true,
      marked: (deliveries) => this.told.push(...deliveries.map(({ id }) => `marked ${id}`)),
      intake: () => this.told.push('intake'),
      due: (heads) => {
        for (const { endpointKey: key } of heads) this.told.push(`due ${key}`)
        for (const resolve of this.#polled.splice(0)) resolve()
      },
      lost: () => this.told.push('lost'),
      confirmed: () => this.told.push('confirmed'),
    }
  }

  /** Its time passes second by second, and it does what it does in each. */
  async lives(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 1_000) {
      await this.#isAtRest()
      this.#waits = false
      const polled = new Promise<void>((resolve) => this.#polled.push(resolve))
      this.#clock.advance(1_000)
      await polled
    }
  }

  /** The same where due times are read too seldom to wait for. */
  async polls(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 1_000) {
      await this.#isAtRest()
      this.#waits = false
      this.#clock.advance(1_000)
    }
    await this.#isAtRest()
  }

  async #isAtRest(): Promise<void> {
    while (!this.#waits) await new Promise(setImmediate)
  }

  /** Its clock goes on, but nothing runs: SIGSTOP. */
  sleeps(ms: number): void {
    // Its next poll is due now, and has to be over before anything is judged by it.
    this.#waits = false
    this.#clock.advance(ms)
  }

  /** Its clock goes on while something runs. */
  passes(ms: number): void {
    this.#clock.advance(ms)
  }

  async hears(what: string): Promise<void> {
    while (!this.told.includes(what)) await new Promise(setImmediate)
  }
}

function slowly(inner: pg.Pool, answered: (statement: string) => Promise<void>): Pool {
  // A client is asked about itself once, so it stays the same object.
  const clients = new Map<pg.PoolClient, PoolClient>()
  return {
    async connect() {
      const client = await inner.connect()
      const known = clients.get(client)
      if (known !== undefined) return known
      const slow: PoolClient = {
        processID: (client as { processID?: number }).processID ?? null,
        async query(config) {
          const result = await client.query(config as pg.QueryConfig)
          await answered(config.text)
          return result
        },
        on: (event, listener) => client.on(event, listener),
        release: (destroy) => client.release(destroy),
      }
      clients.set(client, slow)
      return slow
    },
    end: () => inner.end(),
    on: (event, listener) => inner.on(event, listener),
  }
}

export async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return client
}

export async function rowsOf(url: string, statement: string): Promise<Record<string, unknown>[]> {
  return await onServer(url, async (client) => (await client.query(statement)).rows)
}

/** Somebody waits for a row of this schema. */
export async function waitsForLock({ url, name }: TestSchema): Promise<void> {
  const waiting = `select 1 from pg_stat_activity
                    where wait_event_type = 'Lock' and query like '%${name}%'`
  while ((await rowsOf(url, waiting)).length === 0) await new Promise(setImmediate)
}
