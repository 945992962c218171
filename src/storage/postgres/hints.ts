/**
 * NOTIFY between processes: a hint that something is worth looking at now, sent at most every 50 ms
 * and allowed to get lost. Polling (watch.ts) is the truth; hints only make it quick.
 */
import { createHash } from 'node:crypto'
import type { Database } from './connection.ts'
import type { Client, OpenClient } from './servers.ts'

/** A payload has at most 8,000 bytes; beyond so many lanes it says "look at all". */
const maxKeys = 400
export const hintPauseMs = 50
/** A connection that broke is made again after so long; polling goes on meanwhile. */
const reconnectMs = 1_000
/** A connection on which nothing happens may have died without a sign. */
const askEveryMs = 10_000
const answerWithinMs = 5_000

export interface Hint {
  /** The endpoints have changed. */
  readonly endpoints?: boolean
  /** The flow of endpoints has changed. */
  readonly flows?: boolean
  /** Deliveries were cancelled that others own. */
  readonly marked?: boolean
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
  #marked = false
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

  marked(): void {
    if (this.isAlone) return
    this.#marked = true
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
    const isNews = this.#endpoints || this.#flows || this.#marked || this.#workers
    if (this.#cancelPause !== null || !(isNews || this.#due.size > 0)) return
    const keys = [...this.#due]
    const due = keys.length > maxKeys ? null : keys
    const payload = toPayload(this.#sender(), {
      endpoints: this.#endpoints,
      flows: this.#flows,
      marked: this.#marked,
      workers: this.#workers,
      due,
    })
    this.#due.clear()
    this.#endpoints = false
    this.#flows = false
    this.#marked = false
    this.#workers = false
    this.#cancelPause = this.#setTimer(() => {
      this.#cancelPause = null
      this.#send()
    }, hintPauseMs)
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
  readonly #connect: () => Promise<OpenClient>
  readonly #schema: string
  readonly #setTimer: SetTimer
  readonly #heard: (sender: number, hint: Hint) => void
  readonly #pooled: () => void
  #open: OpenClient | null = null
  #cancelTimer: (() => void) | null = null
  #stopped = false

  /** @param pooled a pooler is in between: nothing can be heard, and nothing is tried any more */
  constructor(
    connect: () => Promise<OpenClient>,
    schema: string,
    setTimer: SetTimer,
    { heard, pooled }: { heard: (sender: number, hint: Hint) => void; pooled: () => void },
  ) {
    this.#connect = connect
    this.#schema = schema
    this.#setTimer = setTimer
    this.#heard = heard
    this.#pooled = pooled
  }

  /** Resolves when it listens, or has failed to for now. */
  async start(): Promise<void> {
    try {
      const open = await this.#connect()
      // The pooler would give the listening connection to somebody else.
      if (open.isPooled) this.#pooled()
      if (open.isPooled || this.#stopped) return open.destroy()
      await this.#listen(open)
    } catch {
      this.#later(reconnectMs, () => void this.start())
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelTimer?.()
    this.#open?.destroy()
  }

  async #listen(open: OpenClient): Promise<void> {
    const { client } = open
    this.#open = open
    const over = () => {
      if (this.#open !== open) return
      this.#open = null
      this.#cancelTimer?.()
      this.#later(reconnectMs, () => void this.start())
    }
    client.on('error', over)
    client.on('end', over)
    client.on('notification', ({ payload }) => this.#hear(payload))
    await this.#ask(open, client.query({ text: `listen ${channelOf(this.#schema)}` }))
  }

  /** Without an answer the connection is given up, which ends it. */
  async #ask({ client, destroy }: OpenClient, answer: ReturnType<Client['query']>): Promise<void> {
    this.#later(answerWithinMs, destroy)
    await answer.catch(destroy)
    this.#cancelTimer?.()
    if (this.#open?.client !== client) return
    const open = this.#open
    this.#later(askEveryMs, () => void this.#ask(open, client.query({ text: 'select 1' })))
  }

  #later(delayMs: number, callback: () => void): void {
    if (!this.#stopped) this.#cancelTimer = this.#setTimer(callback, delayMs)
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
