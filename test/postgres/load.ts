// Publishers that go on whatever the store says, and the ledger of what they were told; the inbox
// writes down what arrived. Both are outside of the store.
import { randomBytes } from 'node:crypto'
import type { WebhookService } from '@k-msg/webhook'
import type { Inbox } from '@k-msg/webhook/testing'

export interface LoadResult {
  readonly accepted: number
  readonly delivered: number
  readonly lost: number
  readonly duplicates: number
  /** Dispatches that were told STORAGE_UNAVAILABLE or STORAGE_FULL, and repeated with the same id. */
  readonly repeated: number
  /** Codes of every other error that a publisher was told. */
  readonly errors: readonly string[]
  /** The longest time that one event needed until it was accepted. */
  readonly longestMs: number
  readonly badSignatures: number
}

let loads = 0

export class Load {
  readonly #services: readonly WebhookService[]
  readonly #inbox: Inbox
  readonly #publishers: Promise<void>[]
  readonly #accepted = new Set<string>()
  readonly #name: string
  #stopped = false
  #events = 0
  #repeated = 0
  #errors: string[] = []
  #longestMs = 0

  readonly #bytes: number

  /** Publishes until `end`, so many events at a time, each with so many bytes of data. */
  constructor(services: readonly WebhookService[], inbox: Inbox, publishers = 8, bytes = 0) {
    this.#bytes = bytes
    loads += 1
    this.#name = `load${loads}`
    this.#services = services
    this.#inbox = inbox
    this.#publishers = Array.from({ length: publishers }, (_, i) => this.#publish(i))
  }

  get accepted(): number {
    return this.#accepted.size
  }

  /** Ids whose dispatch has resolved. */
  get acceptedIds(): string[] {
    return [...this.#accepted]
  }

  /** Stops publishing, waits until everything that was accepted has arrived, and compares. */
  async end(): Promise<LoadResult> {
    this.#stopped = true
    await Promise.all(this.#publishers)
    const missing = new Set(this.#accepted)
    for (let seen = 0; ; ) {
      for (const { id } of this.#inbox.events.slice(seen)) missing.delete(id)
      seen = this.#inbox.received.length
      if (missing.size === 0) break
      await this.#inbox.waitForCount(seen + 1)
    }
    await Promise.all(this.#services.map((service) => service.drain()))
    const ours = this.#inbox.events.filter(({ id }) => id.startsWith(`${this.#name}_`))
    const arrived = new Set(ours.map(({ id }) => id))
    return {
      accepted: this.#accepted.size,
      delivered: [...this.#accepted].filter((id) => arrived.has(id)).length,
      lost: [...this.#accepted].filter((id) => !arrived.has(id)).length,
      duplicates: ours.length - arrived.size,
      repeated: this.#repeated,
      errors: this.#errors,
      longestMs: Math.round(this.#longestMs),
      badSignatures: this.#inbox.received.filter(({ signature }) => signature !== 'valid').length,
    }
  }

  async #publish(publisher: number): Promise<void> {
    const service = this.#services[publisher % this.#services.length] as WebhookService
    while (!this.#stopped) {
      this.#events += 1
      const id = `${this.#name}_${this.#events}`
      const startMs = performance.now()
      // Refused for good, or closed: going on would only hold up whoever reports it.
      if (!(await this.#dispatch(service, id))) return
      this.#longestMs = Math.max(this.#longestMs, performance.now() - startMs)
      this.#accepted.add(id)
      await this.#inbox.waitFor(({ events }) => events[0]?.id === id)
    }
  }

  /** @returns false when it was refused for another reason than that the store is away */
  async #dispatch(service: WebhookService, id: string): Promise<boolean> {
    // Random, because the server would compress anything else to nothing.
    const data = { noise: randomBytes(this.#bytes).toString('base64') }
    const event = { id, type: 'message.sent', timestamp: new Date(), data, metadata: {} }
    for (;;) {
      try {
        await service.dispatchEvent(event)
        return true
      } catch (error) {
        const { code } = error as { code?: string }
        if (code !== 'STORAGE_UNAVAILABLE' && code !== 'STORAGE_FULL') {
          this.#errors.push(String(code ?? error))
          return false
        }
        this.#repeated += 1
      }
    }
  }
}

export function sayResult(what: string, result: LoadResult): void {
  const { accepted, delivered, lost, duplicates, repeated, longestMs } = result
  console.log(
    `${what}: accepted ${accepted} · delivered ${delivered} · lost ${lost} · duplicates ${duplicates} · told unavailable and repeated ${repeated} · longest dispatch ${longestMs} ms`,
  )
}

export const nothingWrong = { lost: 0, errors: [], badSignatures: 0 }
