/**
 * Keeps connections alive between attempts: per origin, reused last in first out, bounded in all.
 *
 * Not undici's Pool: that one looks for a free client from the first on at every request, knows no
 * bound over all origins, and cannot give up a connection that is being opened. Here a connection
 * carries one request at a time, so there are never more of them to an endpoint than the scheduler
 * allows requests.
 */
import type { Connect } from './connect.ts'
import { Client } from './undici.ts'

const maxHeaderBytes = 16_384

/** Somebody who needs a connection to an origin. */
export interface ConnectionUser {
  readonly origin: string
  /** Called once, at once or when there is room. */
  use(connection: Connection): void
}

interface Origin {
  readonly url: string
  readonly idle: Connection[]
  open: number
  lastUse: number
}

export class Connection {
  readonly origin: Origin
  readonly client: Client
  isIdle = false
  #giveUp: (error: Error) => void = () => {}

  constructor(origin: Origin, connect: Connect, idleMs: number) {
    this.origin = origin
    this.client = new Client(origin.url, {
      connect: (options, callback) => {
        this.#giveUp = connect(options, callback)
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

  destroy(destroyed: () => void): void {
    this.#giveUp(new Error('given up'))
    this.client.destroy(null, destroyed)
  }
}

export interface ConnectionsOptions {
  readonly connect: Connect
  readonly maxConnections: number
  readonly idleMs: number
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #origins = new Map<string, Origin>()
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
    const origin = this.#origin(user.origin)
    this.#uses += 1
    origin.lastUse = this.#uses
    const idle = origin.idle.pop()
    if (idle !== undefined) {
      idle.isIdle = false
      this.#idle -= 1
      user.use(idle)
    } else if (this.#hasRoom()) {
      if (this.#open >= this.#options.maxConnections) this.#dropLeastUsed()
      user.use(this.#connect(origin))
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
    connection.isIdle = true
    this.#idle += 1
    connection.origin.idle.push(connection)
    if (this.#waiting.size > 0) this.#serve()
    else if (this.#closed !== null) this.#drop(connection)
  }

  /** Gives up a connection: one with unread bytes must never carry another request. */
  discard(connection: Connection): void {
    const { origin } = connection
    this.#open -= 1
    this.#closing += 1
    origin.open -= 1
    if (origin.open === 0) this.#origins.delete(origin.url)
    connection.destroy(() => {
      this.#closing -= 1
      this.#resolveWhenClosed()
    })
    if (this.#waiting.size > 0) this.#serve()
  }

  /** Closes what is idle, now and from now on. Resolves when no connection is left. */
  close(): Promise<void> {
    for (const origin of [...this.#origins.values()]) {
      for (const connection of [...origin.idle]) this.#drop(connection)
    }
    return new Promise((resolve) => {
      this.#closed = resolve
      this.#resolveWhenClosed()
    })
  }

  #origin(url: string): Origin {
    let origin = this.#origins.get(url)
    if (origin === undefined) {
      origin = { url, idle: [], open: 0, lastUse: 0 }
      this.#origins.set(url, origin)
    }
    return origin
  }

  #connect(origin: Origin): Connection {
    const connection = new Connection(origin, this.#options.connect, this.#options.idleMs)
    connection.client.on('disconnect', () => {
      // The receiver closed it, or it was idle for too long.
      if (connection.isIdle) this.#drop(connection)
    })
    this.#open += 1
    origin.open += 1
    // The origin may have been forgotten while its last connection went.
    this.#origins.set(origin.url, origin)
    return connection
  }

  #drop(connection: Connection): void {
    const { idle } = connection.origin
    idle.splice(idle.indexOf(connection), 1)
    connection.isIdle = false
    this.#idle -= 1
    this.discard(connection)
  }

  #hasRoom(): boolean {
    return this.#open < this.#options.maxConnections || this.#idle > 0
  }

  /** Makes room by closing an idle connection of the origin that was used longest ago. */
  #dropLeastUsed(): void {
    let oldest: Origin | undefined
    for (const origin of this.#origins.values()) {
      if (origin.idle.length === 0) continue
      if (oldest === undefined || origin.lastUse < oldest.lastUse) oldest = origin
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
