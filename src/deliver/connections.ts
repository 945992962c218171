/**
 * Keeps connections alive between attempts: per target (origin and TLS identity), reused last in
 * first out, bounded in all. Each was vetted when it was opened, and none is used for long after. A
 * connection carries one request at a time, so there are never more of them to an endpoint than the
 * scheduler allows requests.
 */
import type { SetTimer } from './attempt-request.ts'
import type { Connect } from './connect.ts'
import { Connection } from './connection.ts'
import type { Target } from './prepare.ts'

/** Somebody who needs a connection. */
export interface ConnectionUser {
  readonly target: Target
  /** Called once, at once or when there is room. */
  use(connection: PooledConnection): void
}

interface Pool {
  readonly target: Target
  readonly idle: PooledConnection[]
  open: number
  lastUse: number
}

/** A connection and what the pool knows of it. */
export class PooledConnection extends Connection {
  readonly pool: Pool
  readonly openedAtMs: number
  isIdle = false
  /** By the monotonic clock, while it is idle. */
  idleUntilMs = 0

  constructor(pool: Pool, openedAtMs: number, connect: Connect, lost: () => void) {
    super(pool.target, connect, lost)
    this.pool = pool
    this.openedAtMs = openedAtMs
  }
}

export interface ConnectionsOptions {
  readonly connect: Connect
  readonly maxConnections: number
  readonly idleMs: number
  readonly monotonicMs: () => number
  readonly setTimer: SetTimer
}

/**
 * A busy connection never becomes idle, and would go on to an address that its name has left long
 * ago. After so long the name is resolved, and its addresses are checked, again.
 */
const maxAgeMs = 300_000

/** A receiver's `Keep-Alive` counts from its last byte, which was some time on the way. */
const keepAliveMarginMs = 2_000

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #pools = new Map<string, Pool>()
  readonly #waiting = new Set<ConnectionUser>()
  /** Connections that carry a request or could. */
  #open = 0
  #idle = 0
  /** Given up, socket not closed yet. */
  #closing = 0
  #uses = 0
  #serving = false
  #closed: (() => void) | null = null
  /** When idle connections are looked at next; Infinity when there is none. */
  #sweepAtMs = Number.POSITIVE_INFINITY
  #cancelSweep = (): void => {}

  constructor(options: ConnectionsOptions) {
    this.#options = options
  }

  get open(): number {
    return this.#open
  }

  take(user: ConnectionUser): void {
    const idle = this.#takeIdle(user.target)
    if (idle !== undefined) {
      user.use(idle)
    } else if (this.#hasRoom()) {
      if (this.#open >= this.#options.maxConnections) this.#dropLeastUsed()
      user.use(this.#connect(user.target))
    } else {
      this.#waiting.add(user)
    }
  }

  /** @returns true when it was still waiting, and will never be given a connection */
  cancel(user: ConnectionUser): boolean {
    return this.#waiting.delete(user)
  }

  /** Gives back a connection whose answer was read to its end. */
  release(connection: PooledConnection): void {
    const nowMs = this.#options.monotonicMs()
    const keptMs = (connection.keepAliveMs ?? Number.POSITIVE_INFINITY) - keepAliveMarginMs
    const isOver = this.#closed !== null && this.#waiting.size === 0
    if (isOver || keptMs <= 0 || nowMs - connection.openedAtMs > maxAgeMs) {
      this.discard(connection)
      return
    }
    connection.isIdle = true
    connection.idleUntilMs = nowMs + Math.min(this.#options.idleMs, keptMs)
    connection.hold(false)
    this.#idle += 1
    connection.pool.idle.push(connection)
    if (connection.idleUntilMs < this.#sweepAtMs) this.#sweepAt(connection.idleUntilMs, nowMs)
    if (this.#waiting.size > 0) this.#serve()
  }

  /** Gives up a connection: one with unread bytes must never carry another request. */
  discard(connection: PooledConnection): void {
    const { pool } = connection
    this.#open -= 1
    this.#closing += 1
    pool.open -= 1
    if (pool.open === 0) this.#pools.delete(pool.target.key)
    connection.destroy(() => {
      this.#closing -= 1
      this.#resolveWhenClosed()
    })
    if (this.#waiting.size > 0) this.#serve()
  }

  /** Closes what is idle, now and from now on. Resolves when no connection is left. */
  close(): Promise<void> {
    this.#cancelSweep()
    for (const pool of [...this.#pools.values()]) {
      for (const connection of [...pool.idle]) this.#drop(connection)
    }
    return new Promise((resolve) => {
      this.#closed = resolve
      this.#resolveWhenClosed()
    })
  }

  /** There is a pool where there is a connection: what only waits leaves nothing behind. */
  #connect(target: Target): PooledConnection {
    const { connect, monotonicMs } = this.#options
    let pool = this.#pools.get(target.key)
    if (pool === undefined) {
      pool = { target, idle: [], open: 0, lastUse: 0 }
      this.#pools.set(target.key, pool)
    }
    this.#use(pool)
    const connection = new PooledConnection(pool, monotonicMs(), connect, () => {
      if (connection.isIdle) this.#drop(connection)
    })
    this.#open += 1
    pool.open += 1
    return connection
  }

  #use(pool: Pool): void {
    this.#uses += 1
    pool.lastUse = this.#uses
  }

  /** The one used last; what the receiver may be about to close is not used any more. */
  #takeIdle(target: Target): PooledConnection | undefined {
    const pool = this.#pools.get(target.key)
    if (pool === undefined) return undefined
    this.#use(pool)
    const nowMs = this.#options.monotonicMs()
    for (;;) {
      const connection = pool.idle.at(-1)
      if (connection === undefined) return undefined
      if (connection.idleUntilMs <= nowMs) {
        this.#drop(connection)
        continue
      }
      pool.idle.pop()
      connection.isIdle = false
      connection.hold(true)
      this.#idle -= 1
      return connection
    }
  }

  #sweepAt(atMs: number, nowMs: number): void {
    this.#cancelSweep()
    this.#sweepAtMs = atMs
    // Rounded up: a timer that fires a fraction early would only be armed again.
    const delayMs = Math.max(1, Math.ceil(atMs - nowMs))
    this.#cancelSweep = this.#options.setTimer(() => this.#sweep(), delayMs)
  }

  /** Closes what has been idle for too long. */
  #sweep(): void {
    const nowMs = this.#options.monotonicMs()
    let nextMs = Number.POSITIVE_INFINITY
    for (const { idle } of [...this.#pools.values()]) {
      for (const connection of [...idle]) {
        if (connection.idleUntilMs <= nowMs) this.#drop(connection)
        else nextMs = Math.min(nextMs, connection.idleUntilMs)
      }
    }
    this.#sweepAtMs = Number.POSITIVE_INFINITY
    if (nextMs < this.#sweepAtMs) this.#sweepAt(nextMs, nowMs)
  }

  #drop(connection: PooledConnection): void {
    const { idle } = connection.pool
    idle.splice(idle.indexOf(connection), 1)
    connection.isIdle = false
    this.#idle -= 1
    this.discard(connection)
  }

  #hasRoom(): boolean {
    return this.#open < this.#options.maxConnections || this.#idle > 0
  }

  /** Makes room by closing an idle connection of the target that was used longest ago. */
  #dropLeastUsed(): void {
    let oldest: Pool | undefined
    for (const pool of this.#pools.values()) {
      if (pool.idle.length === 0) continue
      if (oldest === undefined || pool.lastUse < oldest.lastUse) oldest = pool
    }
    const connection = oldest?.idle[0]
    if (connection !== undefined) this.#drop(connection)
  }

  /** Whoever waits gets room in the order of coming. */
  #serve(): void {
    // A user that fails at once comes back here through `discard`: a loop, not a recursion.
    if (this.#serving) return
    this.#serving = true
    for (const user of this.#waiting) {
      if (!this.#hasRoom()) break
      this.#waiting.delete(user)
      this.take(user)
    }
    this.#serving = false
  }

  #resolveWhenClosed(): void {
    if (this.#open === 0 && this.#closing === 0) this.#closed?.()
  }
}
