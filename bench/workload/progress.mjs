// Counts what a contender has delivered, and lets a workload wait for it.

/** Nothing delivered for so long, with work to do, is not slow any more. */
const STALLED_MS = 30_000

export class Progress {
  delivered = 0
  #waiting = []
  #failure = null
  #lastLook = 0

  constructor() {
    setInterval(() => this.#lookForStall(), STALLED_MS).unref()
  }

  onDelivered = (count) => {
    this.delivered += count
    for (const waiter of this.#waiting) {
      if (this.delivered >= waiter.count) waiter.resolve()
    }
    this.#waiting = this.#waiting.filter((waiter) => this.delivered < waiter.count)
  }

  /** A run in which something failed has no result. */
  onError = (error) => {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
    for (const waiter of this.#waiting) waiter.reject(this.#failure)
    this.#waiting = []
  }

  reached(count) {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.delivered >= count) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiting.push({ count, resolve, reject }))
  }

  #lookForStall() {
    if (this.#waiting.length > 0 && this.delivered === this.#lastLook) {
      const waitedFor = this.#waiting.map(({ count }) => count).join(', ')
      const seconds = STALLED_MS / 1000
      this.onError(
        new Error(`stalled for ${seconds} s at ${this.delivered} deliveries of ${waitedFor}`),
      )
    }
    this.#lastLook = this.delivered
  }
}
