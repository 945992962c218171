/**
 * NOTIFY between processes: a hint that something is worth looking at now, sent at most every 50 ms
 * and allowed to get lost. Polling (watch.ts) is the truth; hints only make it quick.
 */
import { createHash } from 'node:crypto'
import type { Database, Queryable } from './connection.ts'

/** A payload has at most 8,000 bytes; beyond so many lanes it says "look at all". */
const maxKeys = 400
const pauseMs = 50
/** A connection that broke is made again after so long; polling goes on meanwhile. */
const reconnectMs = 1_000

export interface Hint {
  /** The endpoints have changed. */
  readonly endpoints?: boolean
  /** The flow of endpoints has changed. */
  readonly flows?: boolean
  /** Workers came, left, or keep to other shares. */
  readonly workers?: boolean
  /** Lanes with something due; null for any. */
  readonly due?: readonly string[] | null
  /** Callers' transactions have brought events. */
  readonly intake?: boolean
}

export function toPayload(sender: number, hint: Hint): string {
  return JSON.stringify([sender, hint])
}

export interface NotifyingClient extends Queryable {
  connect(): Promise<unknown>
  end(): Promise<void>
  on(event: 'notification', listener: (message: { payload?: string }) => void): unknown
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown
}

export type SetTimer = (callback: () => void, delayMs: number) => () => void

/** Channels belong to the whole database, so the name of the schema is in it. */
export function channelOf(schema: string): string {
  return `kmsg_${createHash('sha256').update(schema).digest('hex').slice(0, 24)}`
}

export class Hints {
  /** Nobody would hear it. */
  isAlone = true
  readonly #database: Database
  readonly #setTimer: SetTimer
  readonly #sender: () => number
  readonly #due = new Set<string>()
  #endpoints = false
  #flows = false
  #workers = false
  #cancelPause: (() => void) | null = null

  constructor(database: Database, setTimer: SetTimer, sender: () => number) {
    this.#database = database
    this.#setTimer = setTimer
    this.#sender = sender
  }

  due(endpointKeys: Iterable<string>): void {
    if (this.isAlone) return
    for (const key of endpointKeys) this.#due.add(key)
    this.#send()
  }

  endpoints(): void {
    if (this.isAlone) return
    this.#endpoints = true
    this.#send()
  }

  flows(): void {
    if (this.isAlone) return
    this.#flows = true
    this.#send()
  }

  /** Also while alone, as far as is known: this is how others learn that one is there. */
  workers(): void {
    this.#workers = true
    this.#send()
  }

  stop(): void {
    this.isAlone = true
    this.#cancelPause?.()
  }

  #send(): void {
    const hasNews = this.#endpoints || this.#flows || this.#workers || this.#due.size > 0
    if (this.#cancelPause !== null || !hasNews) return
    const keys = [...this.#due]
    const due = keys.length > maxKeys ? null : keys
    const payload = toPayload(this.#sender(), {
      endpoints: this.#endpoints,
      flows: this.#flows,
      workers: this.#workers,
      due,
    })
    this.#due.clear()
    this.#endpoints = false
    this.#flows = false
    this.#workers = false
    this.#cancelPause = this.#setTimer(() => {
      this.#cancelPause = null
      this.#send()
    }, pauseMs)
    void this.#notify(payload)
  }

  /** Never rejects. */
  sayNow(hint: Hint): Promise<void> {
    return this.#notify(toPayload(this.#sender(), hint))
  }

  async #notify(payload: string): Promise<void> {
    const channel = channelOf(this.#database.schema.name)
    try {
      await this.#database.read((connection) =>
        connection.all('select pg_notify($1, $2)', channel, payload),
      )
    } catch {
      // Only a hint: whoever misses it polls.
    }
  }
}

/** Hears the hints of others on a connection of its own, and makes it again when it breaks. */
export class Listener {
  readonly #createClient: () => NotifyingClient
  readonly #schema: string
  readonly #setTimer: SetTimer
  readonly #heard: (sender: number, hint: Hint) => void
  #client: NotifyingClient | null = null
  #cancelReconnect: (() => void) | null = null
  #stopped = false

  constructor(
    createClient: () => NotifyingClient,
    schema: string,
    setTimer: SetTimer,
    heard: (sender: number, hint: Hint) => void,
  ) {
    this.#createClient = createClient
    this.#schema = schema
    this.#setTimer = setTimer
    this.#heard = heard
  }

  /** Resolves when it listens, or has failed to for now. */
  async start(): Promise<void> {
    const client = this.#createClient()
    this.#client = client
    let isOver = false
    const over = () => {
      if (isOver) return
      isOver = true
      void client.end().catch(() => {})
      if (this.#stopped) return
      this.#cancelReconnect = this.#setTimer(() => void this.start(), reconnectMs)
    }
    client.on('error', over)
    client.on('end', over)
    client.on('notification', ({ payload }) => this.#hear(payload))
    try {
      await client.connect()
      await client.query({ text: `listen ${channelOf(this.#schema)}` })
      if (this.#stopped) await client.end()
    } catch {
      over()
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelReconnect?.()
    await this.#client?.end().catch(() => {})
  }

  #hear(payload: string | undefined): void {
    try {
      const [sender, hint] = JSON.parse(payload ?? '') as [number, Hint]
      this.#heard(sender, hint)
    } catch {
      // Anybody may notify on any channel.
    }
  }
}
