/**
 * A process of a fleet, as its database sees it: it can stop for a while (nothing of it runs, and its
 * clock goes on), die with its transactions open, and lose answers or whole statements on the way.
 */
import type { Storage } from '@k-msg/webhook'
import type { ManualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import type { Clock } from '../../src/model/clock.ts'
import {
  Database,
  type QueryConfig,
  type QueryResult,
  Schema,
} from '../../src/storage/postgres/connection.ts'
import { ConnectionPool } from '../../src/storage/postgres/pool.ts'
import {
  type Client,
  type ClientClass,
  type OpenClient,
  Servers,
} from '../../src/storage/postgres/servers.ts'
import { openStore } from '../../src/storage/postgres/store.ts'

const never = new Promise<never>(() => {})

export class Machine {
  /** Probability that a statement, or its answer, is lost together with the connection. */
  faults = 0
  /** Statements whose answer is not there yet. */
  underWay = 0
  isDead = false
  /** When it was last stopped or cut off. */
  troubledMs = Number.NEGATIVE_INFINITY
  readonly clock: Clock
  readonly #world: ManualClock
  readonly #random: () => number
  readonly #open = new Set<OpenClient>()
  #stopped: { promise: Promise<void>; resolve: () => void } | null = null

  constructor(world: ManualClock, random: () => number) {
    this.#world = world
    this.#random = random
    this.clock = {
      nowMs: () => world.nowMs(),
      setTimer: (callback, delayMs) => world.setTimer(() => void this.runs(callback), delayMs),
    }
  }

  get isStopped(): boolean {
    return this.#stopped !== null
  }

  /** Nothing that it does now proves anything about one that is well. */
  note(): void {
    if (this.isDead || this.isStopped || this.faults > 0) this.troubledMs = this.#world.nowMs()
  }

  /** SIGSTOP. */
  stop(): void {
    if (this.#stopped !== null) return
    let resolve = () => {}
    const promise = new Promise<void>((done) => {
      resolve = done
    })
    this.#stopped = { promise, resolve }
    this.note()
  }

  /** SIGCONT. */
  go(): void {
    this.note()
    this.#stopped?.resolve()
    this.#stopped = null
  }

  /** SIGKILL. */
  die(): void {
    this.isDead = true
    for (const { destroy } of this.#open) destroy()
  }

  /** Now, when it is not stopped; never, when it is dead. */
  runs(callback: () => void): void {
    if (this.isDead) return
    if (this.#stopped === null) callback()
    else void this.#stopped.promise.then(() => this.runs(callback))
  }

  async #isRunning(): Promise<void> {
    while (this.#stopped !== null) await this.#stopped.promise
    if (this.isDead) await never
  }

  /** @param listens hears NOTIFY; polls only otherwise */
  storage(url: string, schema: string, leaseMs: number, listens: boolean): Storage {
    return {
      kind: 'postgres',
      open: async (host) => {
        const servers = new Servers(pg.Client as unknown as ClientClass, [url], () => {})
        const connect = async () => this.#wrap(await servers.connect())
        const pool = new ConnectionPool(async () => {
          await this.#isRunning()
          return await connect()
        }, 4)
        const database = new Database({
          pool,
          schema: new Schema(schema),
          location: 'the test',
          idleInTransactionMs: Math.floor(leaseMs / 2),
          random: Math.random,
        })
        return await openStore(database, host, {
          leaseMs,
          clock: {
            steadyMs: () => this.#world.nowMs(),
            wallMs: () => this.#world.nowMs(),
            setTimer: (callback, delayMs) => this.clock.setTimer(callback, delayMs),
          },
          listen: listens ? connect : null,
          onClose: () => pool.end(),
        })
      },
    }
  }

  #wrap(open: OpenClient): OpenClient {
    const { client, destroy, isPooled } = open
    this.#open.add(open)
    const gone = () => this.#open.delete(open)
    client.on('end', gone)
    if (this.isDead) destroy()
    const query = async (config: QueryConfig): Promise<QueryResult> => {
      await this.#isRunning()
      this.underWay += 1
      try {
        const isLost = this.#random() < this.faults
        if (isLost && this.#random() < 0.4) {
          destroy()
          throw new Error('Connection terminated unexpectedly')
        }
        const result = await client.query(config)
        await this.#isRunning()
        if (isLost) {
          destroy()
          throw new Error('Connection terminated unexpectedly')
        }
        return result
      } finally {
        this.underWay -= 1
      }
    }
    const wrapped: Client = {
      get processID() {
        return client.processID ?? null
      },
      connect: () => client.connect(),
      end: () => client.end(),
      query,
      on: (event: string, listener: (argument: never) => void) =>
        client.on(event as 'error', (argument) => this.runs(() => listener(argument as never))),
    }
    return { client: wrapped, isPooled, destroy }
  }
}
