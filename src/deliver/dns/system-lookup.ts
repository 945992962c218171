/**
 * The system's own resolver, for names that DNS does not know: search domains, mDNS, what nsswitch
 * adds. It takes a thread of the pool for as long as it likes, so at most two are lent to it, and
 * whoever waits for one can leave the queue.
 */

import type { LookupAddress } from 'node:dns'
import { lookup } from 'node:dns'

const maxThreads = 2

type Done = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void
export type GetAddrInfo = (name: string, done: Done) => void

const getAddrInfo: GetAddrInfo = (name, done) => lookup(name, { all: true }, done)

export class SystemLookup {
  readonly #getAddrInfo: GetAddrInfo
  readonly #waiting = new Set<() => void>()
  #running = 0

  constructor(ask: GetAddrInfo = getAddrInfo) {
    this.#getAddrInfo = ask
  }

  /** @returns what leaves the queue; a question that was asked goes on, unheard */
  lookup(name: string, done: Done): () => void {
    let cancelled = false
    const start = (): void => {
      this.#running += 1
      this.#getAddrInfo(name, (error, addresses) => {
        this.#running -= 1
        this.#next()
        if (!cancelled) done(error, addresses)
      })
    }
    if (this.#running < maxThreads) start()
    else this.#waiting.add(start)
    return () => {
      cancelled = true
      this.#waiting.delete(start)
    }
  }

  #next(): void {
    const [start] = this.#waiting
    if (start === undefined) return
    this.#waiting.delete(start)
    start()
  }
}
