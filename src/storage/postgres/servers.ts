/**
 * Connections to the one server of several that takes writes. Every new connection is checked once,
 * with one question: does the server take writes, and is it really the server at the other end, or a
 * pooler that lends its connections from transaction to transaction?
 */
import { Socket } from 'node:net'
import type { Queryable } from './connection.ts'
import { NoAnswer } from './errors.ts'

/** The part of a `pg` client that we use. */
export interface Client extends Queryable {
  /** Of the server process, as the other end said when it let us in. */
  readonly processID?: number | null
  connect(): Promise<unknown>
  end(): Promise<void>
  on(event: 'notification', listener: (message: { payload?: string }) => void): unknown
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown
}

export type ClientClass = new (options: object) => Client

export interface OpenClient {
  readonly client: Client
  readonly isPooled: boolean
  /** At once, whether the other end still answers or not. */
  destroy(): void
}

const connectWithinMs = 5_000
/** With others to try, one that does not answer must not cost that much. */
const connectToOneWithinMs = 2_000
const keepAliveAfterMs = 5_000

/**
 * Of a connection of our own. Compiling our statements would take longer than running them, and one
 * that is planned while a table is small would read all of it ever after. The rest is for the day on which this machine vanishes: the server would keep the locks of what was under way
 * for two hours.
 */
const ourSession = `
  set jit = off; set enable_seqscan = off;
  set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3;
  set tcp_user_timeout = 10000`

/** A statement that nobody waits for any more ends. Refused by servers on Windows. */
const noticeWhoLeft = 'set client_connection_check_interval = 1000'

const whoIsThere = `
  select pg_backend_pid()::text as pid, current_setting('transaction_read_only') as read_only`

/** @throws Error when the server takes no writes */
export async function inspect(
  client: Queryable & Pick<Client, 'processID'>,
): Promise<{ isPooled: boolean }> {
  const { rows } = await client.query({ text: whoIsThere })
  const [found] = rows as [{ pid: string; read_only: string }]
  if (found.read_only === 'on') {
    throw Object.assign(new Error('the server is in recovery or takes no writes'), {
      code: '25006',
      severity: 'ERROR',
    })
  }
  // A pooler hands out numbers of its own, because its clients have no server process for themselves.
  return { isPooled: String(client.processID) !== found.pid }
}

export class Servers {
  readonly #ClientClass: ClientClass
  readonly #urls: readonly string[]
  readonly #changed: (url: string) => void
  /** Where the last connection was made. */
  #at: number | null = null

  /** @param changed another server than before takes writes now */
  constructor(ClientClass: ClientClass, urls: readonly string[], changed: (url: string) => void) {
    this.#ClientClass = ClientClass
    this.#urls = urls
    this.#changed = changed
  }

  /** To the first that answers and takes writes, beginning with the one that did so last. */
  async connect(): Promise<OpenClient> {
    const from = this.#at ?? 0
    let failure: unknown
    for (let i = 0; i < this.#urls.length; i += 1) {
      const at = (from + i) % this.#urls.length
      try {
        const open = await this.#connectTo(this.#urls[at] ?? '')
        if (this.#at !== null && this.#at !== at) this.#changed(this.#urls[at] ?? '')
        this.#at = at
        return open
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  async #connectTo(url: string): Promise<OpenClient> {
    const withinMs = this.#urls.length > 1 ? connectToOneWithinMs : connectWithinMs
    // Ours, so that it can be destroyed: one that is half open never ends by itself.
    const socket = new Socket()
    const client = new this.#ClientClass({
      connectionString: url,
      stream: () => socket,
      keepAlive: true,
      keepAliveInitialDelayMillis: keepAliveAfterMs,
      application_name: 'kmsg-webhook',
    })
    // Whoever uses it hears of it by its statement; unheard, an error ends the app.
    client.on('error', () => {})
    const timer = setTimeout(() => socket.destroy(new NoAnswer(withinMs)), withinMs)
    try {
      await client.connect()
      const { isPooled } = await inspect(client)
      // Behind a pooler these would stay behind for whoever is given the connection next.
      if (!isPooled) {
        await client.query({ text: ourSession })
        await client.query({ text: noticeWhoLeft }).catch(() => {})
      }
      return { client, isPooled, destroy: () => socket.destroy() }
    } catch (error) {
      socket.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}
