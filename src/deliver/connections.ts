/**
 * Keeps connections alive between attempts: per target (origin and TLS identity), reused last in
 * first out, bounded in all. Each was vetted when it was opened, and none is used for long after.
 *
 * Not undici's Pool: that one looks for a free client from the first on at every request, knows no
 * bound over all origins, and cannot give up a connection that is being opened. Here a connection
 * carries one request at a time, so there are never more of them to an endpoint than the scheduler
 * allows requests.
 */
import type { OpeningPhase } from './classify.ts'
import type { Connect, Opening } from './connect.ts'
import type { Target } from './prepare.ts'
import { Client } from './undici.ts'

const maxHeaderBytes = 16_384

/** Somebody who needs a connection. */
export interface ConnectionUser {
  readonly target: Target
  /** Called once, at once or when there is room. */
  use(connection: Connection): void
}

interface Pool {
  readonly target: Target
  readonly idle: Connection[]
  open: number
  lastUse: number
}

export class Connection {
  readonly pool: Pool
  readonly client: Client
  readonly openedAtMs: number
  isIdle = false
  #opening: Opening | null = null

  constructor(pool: Pool, connect: Connect, idleMs: number, nowMs: number) {
    const { origin, identity } = pool.target
    this.pool = pool
    this.openedAtMs = nowMs
    this.client = new Client(origin, {
      connect: (options, callback) => {
        this.#opening = connect(options, identity, callback)
      },
      pipelining: 1,
      maxHeaderSize: maxHeaderBytes,
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
      // Idle timeouts are no deadline: a byte now and then keeps them away. See deadlines.ts.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /** What it waits for while it is being opened. */
  get opening(): OpeningPhase {
    return this.#opening?.phase ?? 'connect'
  }

  destroy(destroyed: () => void): void {
    this.#opening?.giveUp(new Error('given up'))
    this.client.destroy(null, destroyed)
  }
}

export interface ConnectionsOptions {
  readonly connect: Connect
  readonly maxConnections: number
  readonly idleMs: number
  readonly monotonicMs: () => number
}

/**
 * A busy connection never becomes idle, and would go on to an address that its name has left long
 * ago. After so long the name is resolved, and its addresses are checked, again.
 */
const maxAgeMs = 300_000

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

  constructor(options: ConnectionsOptions) {
    this.#options = options
  }

  get open(): number {
    return this.#open
  }

  take(user: ConnectionUser): void {
    const pool = this.#pool(user.target)
    this.#uses += 1
    pool.lastUse = this.#uses
    const idle = pool.idle.pop()
    if (idle !== undefined) {
      idle.isIdle = false
      this.#idle -= 1
      user.use(idle)
    } else if (this.#hasRoom()) {
      if (this.#open >= this.#options.maxConnections) this.#dropLeastUsed()
      user.use(this.#connect(pool))
    } else {
      this.#waiting.add(user)
    }
  }

  /** @returns true when it was still waiting, and will never be given a connection */
  cancel(user: ConnectionUser): boolean {
    return this.#waiting.delete(user)
  }

  /** Gives back a connection whose answer was read to its end. */
  release(connection: Connection): void {
    if (this.#options.monotonicMs() - connection.openedAtMs > maxAgeMs) {
      this.discard(connection)
      return
    }
    connection.isIdle = true
    this.#idle += 1
    connection.pool.idle.push(connection)
    if (this.#waiting.size > 0) this.#serve()
    else if (this.#closed !== null) this.#drop(connection)
  }

  /** Gives up a connection: one with unread bytes must never carry another request. */
  discard(connection: Connection): void {
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
    for (const pool of [...this.#pools.values()]) {
      for (const connection of [...pool.idle]) this.#drop(connection)
    }
    return new Promise((resolve) => {
      this.#closed = resolve
      this.#resolveWhenClosed()
    })
  }

  #pool(target: Target): Pool {
    let pool = this.#pools.get(target.key)
    if (pool === undefined) {
      pool = { target, idle: [], open: 0, lastUse: 0 }
      this.#pools.set(target.key, pool)
    }
    return pool
  }

  #connect(pool: Pool): Connection {
    const { connect, idleMs, monotonicMs } = this.#options
    const connection = new Connection(pool, connect, idleMs, monotonicMs())
    connection.client.on('disconnect', () => {
      // The receiver closed it, or it was idle for too long.
      if (connection.isIdle) this.#drop(connection)
    })
    this.#open += 1
    pool.open += 1
    // It may have been forgotten while its last connection went.
    this.#pools.set(pool.target.key, pool)
    return connection
  }

  #drop(connection: Connection): void {
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
