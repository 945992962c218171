/**
 * The connections of this process: at most so many, made when they are needed, closed when nobody
 * needed them for a while. When one of them fails, those that rest are closed as well: after a restart,
 * a failover or a cut all of them are dead, and each would cost its user a failure or a timeout.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Pool, PoolClient, QueryConfig, QueryResult } from './connection.ts'
import type { OpenClient } from './servers.ts'

const idleMs = 10_000
/** When no further connection can be made, one of those there are comes free; no hurry to try again. */
const growAgainMs = 500
const waitMs = 5_000

interface Waiter {
  readonly resolve: (connection: Pooled) => void
  readonly reject: (error: unknown) => void
  readonly timer: NodeJS.Timeout
}

export class ConnectionPool implements Pool {
  readonly #connect: () => Promise<OpenClient>
  readonly #max: number
  readonly #all = new Set<Pooled>()
  /** The one used last is used next, so that the others get old and go. */
  readonly #idle: Pooled[] = []
  readonly #waiters: Waiter[] = []
  #opening = 0
  #growNotBeforeMs = 0
  #isClosed = false

  constructor(connect: () => Promise<OpenClient>, max: number) {
    this.#connect = connect
    this.#max = max
  }

  connect(): Promise<PoolClient> {
    if (this.#isClosed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const at = this.#waiters.findIndex((waiter) => waiter.timer === timer)
        this.#waiters.splice(at, 1)
        reject(new Error(`none of ${this.#all.size} connections came free within ${waitMs} ms`))
      }, waitMs)
      this.#waiters.push({ resolve, reject, timer })
      this.#serve()
    })
  }

  /** Those in use are closed when they are released. */
  async end(): Promise<void> {
    this.#isClosed = true
    this.#failWaiters(closedError())
    await Promise.all(this.#idle.splice(0).map((one) => this.#close(one)))
  }

  /** Nothing is told: who uses a connection hears of its failure. */
  on(): void {}

  #serve(): void {
    for (;;) {
      const waiter = this.#waiters[0]
      if (waiter === undefined) return
      const connection = this.#idle.pop()
      if (connection === undefined) break
      this.#waiters.shift()
      clearTimeout(waiter.timer)
      connection.rests(false)
      waiter.resolve(connection)
    }
    while (this.#opening < this.#waiters.length && this.#mayGrow()) this.#grow()
  }

  #mayGrow(): boolean {
    const size = this.#all.size + this.#opening
    if (size >= this.#max || this.#isClosed) return false
    return size === 0 || performance.now() >= this.#growNotBeforeMs
  }

  #grow(): void {
    this.#opening += 1
    this.#connect()
      .then(
        (open) => this.#add(open),
        (error: unknown) => {
          this.#opening -= 1
          if (this.#all.size + this.#opening === 0) this.#failWaiters(error)
          else this.#growNotBeforeMs = performance.now() + growAgainMs
        },
      )
      .finally(() => this.#serve())
  }

  #add(open: OpenClient): void {
    this.#opening -= 1
    const connection = new Pooled(open, (isBroken) => this.#released(connection, isBroken))
    if (this.#isClosed) {
      open.destroy()
      return
    }
    this.#all.add(connection)
    const gone = () => {
      this.#forget(connection)
      this.#serve()
    }
    open.client.on('error', gone)
    open.client.on('end', gone)
    this.#rest(connection)
  }

  #released(connection: Pooled, isBroken: boolean): void {
    if (isBroken) {
      this.#forget(connection)
      connection.open.destroy()
      for (const resting of [...this.#idle]) {
        this.#forget(resting)
        resting.open.destroy()
      }
    } else if (!this.#all.has(connection)) return
    else if (this.#isClosed) void this.#close(connection)
    else this.#rest(connection)
    this.#serve()
  }

  #rest(connection: Pooled): void {
    this.#idle.push(connection)
    connection.rests(true, () => void this.#close(connection))
  }

  /** Politely, so that the server writes no "unexpected EOF" into its log. */
  async #close(connection: Pooled): Promise<void> {
    this.#forget(connection)
    const { client, destroy } = connection.open
    const timer = setTimeout(destroy, 1_000)
    await client.end().catch(() => {})
    clearTimeout(timer)
  }

  #forget(connection: Pooled): void {
    connection.rests(false)
    this.#all.delete(connection)
    const at = this.#idle.indexOf(connection)
    if (at !== -1) this.#idle.splice(at, 1)
  }

  #failWaiters(error: unknown): void {
    for (const { reject, timer } of this.#waiters.splice(0)) {
      clearTimeout(timer)
      reject(error)
    }
  }
}

function closedError(): WebhookError {
  return new WebhookError(
    'SERVICE_CLOSED',
    'Expected an open store, got a call after close(); open it again.',
  )
}

class Pooled implements PoolClient {
  readonly open: OpenClient
  readonly release: (destroy?: boolean | Error) => void
  #idleTimer: NodeJS.Timeout | undefined

  constructor(open: OpenClient, released: (isBroken: boolean) => void) {
    this.open = open
    this.release = (destroy) => released(Boolean(destroy))
  }

  get isPooled(): boolean {
    return this.open.isPooled
  }

  query(config: QueryConfig): Promise<QueryResult> {
    return this.open.client.query(config)
  }

  rests(resting: boolean, tooLong: () => void = () => {}): void {
    clearTimeout(this.#idleTimer)
    if (resting) this.#idleTimer = setTimeout(tooLong, idleMs).unref()
  }
}
