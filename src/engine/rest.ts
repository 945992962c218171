/** Waiting for rest: nothing under way, nothing due, nothing left. Woken by look(), never by time. */
import type { Scheduler } from '../schedule/scheduler.ts'
import type { GroupCommit } from '../storage/group-commit.ts'

interface Waiter {
  readonly reached: () => boolean
  readonly resolve: () => void
  /** Null: it goes on waiting, whatever fails. */
  readonly reject: ((error: unknown) => void) | null
}

export class Rest {
  readonly #scheduler: Scheduler
  readonly #commits: GroupCommit
  #waiters: Waiter[] = []
  /** Work outside lanes and commits, such as fanning out. */
  #others = 0
  #looking = false

  constructor(scheduler: Scheduler, commits: GroupCommit) {
    this.#scheduler = scheduler
    this.#commits = commits
  }

  /** Counts as unrest until it is done. */
  during(work: Promise<unknown>): void {
    this.#others += 1
    void work.finally(() => {
      this.#others -= 1
      this.look()
    })
  }

  /** Rejects when something fails that has to be done before, although it is tried again. */
  quiet(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#add({ reached: () => this.#scheduler.isQuiet && this.#isWritten, resolve, reject })
    })
  }

  /** The store could not be asked, or takes no writes. */
  failed(error: unknown): void {
    this.#waiters = this.#waiters.filter(({ reject }) => {
      reject?.(error)
      return reject === null
    })
  }

  /** No request is under way, and no claim that could bring one. */
  inactive(): Promise<void> {
    return this.#wait(() => this.#scheduler.isInactive)
  }

  async drained(givenUp: Promise<void>): Promise<boolean> {
    const reached = (): boolean => this.#scheduler.isDrained && this.#isWritten
    await Promise.race([this.#wait(reached), givenUp])
    return reached()
  }

  /** Something may have come to rest. */
  look(): void {
    if (this.#waiters.length === 0 || this.#looking) return
    this.#looking = true
    // A settlement that is being written may still make something due.
    void this.#commits.idle().then(() => {
      this.#looking = false
      this.#waiters = this.#waiters.filter((waiter) => {
        if (!waiter.reached()) return true
        waiter.resolve()
        return false
      })
    })
  }

  get #isWritten(): boolean {
    return this.#commits.isIdle && this.#others === 0
  }

  #wait(reached: () => boolean): Promise<void> {
    return new Promise((resolve) => this.#add({ reached, resolve, reject: null }))
  }

  #add(waiter: Waiter): void {
    this.#waiters.push(waiter)
    this.look()
  }
}
