/**
 * Natural batching: while one commit is syncing, everything that arrives joins the next one. No
 * timer, no lost time, one sync for many events. New events and settlements share the commits. Only
 * new events that fill a commit by themselves follow at once: they have nothing to wait for.
 *
 * An accept resolves only after its commit is on disk. A settlement is never given up: recording is
 * repeated until it succeeds, the request never is because recording failed.
 *
 * Beside it: when outcomes wait for others (`gathering`), whose events come first (`accept-queue`), a
 * disk that hangs (`late-answers`), and what is said of failures (`write-trouble`). What is left stays
 * whole, although it is long: which group runs, what waits, and what comes back is one state.
 */
import type { Clock } from '../model/clock.ts'
import { isTransientStorageError, WebhookError } from '../model/errors.ts'
import { AcceptQueue } from './accept-queue.ts'
import type {
  Cancellation,
  CommitResult,
  ReleaseRecord,
  SettlementRecord,
  SettlementResult,
} from './commit-records.ts'
import { Gathering } from './gathering.ts'
import { expire, LateAnswers, unknownError } from './late-answers.ts'
import {
  asCommit,
  halvesOf,
  nothing,
  type PendingAccept,
  type PendingGroup,
  type PendingSettlement,
  sizeOf,
} from './pending-group.ts'
import type { Store } from './storage.ts'
import { WriteTrouble, type WriteTroubleTools } from './write-trouble.ts'

export interface GroupCommitTools extends WriteTroubleTools {
  readonly clock: Clock
  /** Whether requests are under way, whose outcomes will follow. */
  readonly isSending: () => boolean
  /** After every commit: sending may go on, and who waits for rest may look. */
  readonly relieved: () => void
  /** A commit failed; it is tried again after a pause. */
  readonly failed: (error: Error) => void
  /** These have ended by a commit, and nobody has said so. */
  readonly cancelled: (ended: readonly Cancellation[]) => void
}

/** Deliveries of one transaction at the most; two may be with the store, see `#goAhead`. */
const maxDeliveries = 5_000
/** Settlements not yet written at the most: beyond it no new attempt may start. */
const maxUnrecorded = 5_000
/** A commit whose outcome is unknown is repeated this long before its callers are told so. */
const repeatForMs = 5_000

export class GroupCommit {
  readonly #store: Store
  readonly #tools: GroupCommitTools
  readonly #accepts = new AcceptQueue()
  readonly #gathering: Gathering
  readonly #late: LateAnswers
  readonly #trouble: WriteTrouble
  #settlements: PendingSettlement[] = []
  #releases: ReleaseRecord[] = []
  #waiters: (() => void)[] = []
  #running: PendingGroup | null = null
  /** Handed over while another is running. */
  #ahead: PendingGroup | null = null
  #scheduled = false
  /** Something of the running group came back and waits for another try. */
  #cameBack = false
  #fatal: Error | null = null
  #cancelPause: (() => void) | null = null
  #cancelRepeat: (() => void) | null = null
  #endRepeat: (() => void) | null = null
  #idleWaiters: (() => void)[] = []

  constructor(store: Store, tools: GroupCommitTools) {
    this.#store = store
    this.#tools = tools
    this.#gathering = new Gathering({
      ...tools,
      gatherMs: store.gatherMs ?? 0,
      isDue: () => this.#schedule(),
    })
    this.#late = new LateAnswers({
      clock: tools.clock,
      accepts: this.#accepts,
      running: () => [...(this.#running?.accepts ?? []), ...(this.#ahead?.accepts ?? [])],
    })
    this.#trouble = new WriteTrouble(tools)
  }

  accept(pending: PendingAccept): void {
    if (this.#fatal !== null) {
      pending.failed(this.#fatal)
      return
    }
    this.#accepts.push(pending)
    this.#late.watch()
    this.#schedule()
  }

  settle(record: SettlementRecord, done: (result: SettlementResult) => void): void {
    this.#settlements.push({ record, done })
    // Others of its key, or of its endpoint, wait for it.
    if (record.ordered || record.settlement.effect !== null) this.#gathering.hurry()
    this.#schedule()
  }

  release(record: ReleaseRecord): void {
    this.#releases.push(record)
    this.#schedule()
  }

  /**
   * Nothing new may be sent: too many outcomes wait to be written, or none ever can be. It could
   * only lose more knowledge.
   */
  get congested(): boolean {
    return this.#settlements.length > maxUnrecorded || this.#fatal !== null
  }

  /** Null while commits succeed; else what the last one failed with. */
  get trouble(): Error | null {
    return this.#fatal ?? this.#trouble.error
  }

  /** Nothing is written any more: the store is lost, or closed. */
  fail(error: Error): void {
    this.#fatal ??= error
    this.#gathering.stop()
    this.#cancelPause?.()
    this.#cancelPause = null
    this.#late.stop()
    this.#cancelRepeat?.()
    this.#endRepeat?.()
    for (const pending of this.#accepts.takeAll()) pending.failed(error)
    this.#wake(this.#waiters)
    this.#settleIdle()
  }

  /** Resolves when nothing waits to be written; at once when it never can be. */
  idle(): Promise<void> {
    if (this.isIdle || this.#fatal !== null) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  /**
   * Resolves when every outcome and every given-back claim of this moment is written, however many
   * follow; at once when they never can be. Under load `idle()` may be a long way off.
   */
  written(): Promise<void> {
    if (this.isIdle || this.#fatal !== null) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiters.push(resolve)
      this.#gathering.hurry()
      this.#schedule()
    })
  }

  get isIdle(): boolean {
    return (
      this.#running === null &&
      this.#ahead === null &&
      this.#accepts.length === 0 &&
      this.#settlements.length === 0 &&
      this.#releases.length === 0
    )
  }

  #settleIdle(): void {
    if (!this.isIdle && this.#fatal === null) return
    this.#late.stop()
    this.#wake(this.#idleWaiters)
  }

  #wake(waiters: (() => void)[]): void {
    for (const resolve of waiters.splice(0)) resolve()
  }

  #schedule(): void {
    if (this.#scheduled || this.#fatal !== null) return
    if (this.#running !== null && !this.#mayGoAhead) return
    // While recording is pausing after a failure, new accepts still get a try of their own.
    if (this.#cancelPause !== null && this.#accepts.length === 0) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#fatal !== null) return
    if (this.#running !== null) {
      this.#goAhead()
      return
    }
    const group = this.#take()
    if (sizeOf(group) === 0) {
      this.#wake(group.waiters)
      return
    }
    this.#running = group
    this.#cameBack = false
    this.#run(group, null)
      .catch((error: unknown) => this.#lost(group, asError(error)))
      .finally(() => {
        this.#running = null
        if (this.#cameBack && this.#fatal === null) {
          this.#waiters = group.waiters.concat(this.#waiters)
        } else this.#wake(group.waiters)
        this.#settleIdle()
        this.#schedule()
      })
  }

  get #mayGoAhead(): boolean {
    return (
      this.#ahead === null &&
      this.#store.commitsInOrder === true &&
      this.#trouble.error === null &&
      this.#accepts.isFull(maxDeliveries)
    )
  }

  /** The store goes on without a pause, and the next events are prepared meanwhile. */
  #goAhead(): void {
    if (!this.#mayGoAhead) return
    const group = { ...nothing, accepts: this.#accepts.take(maxDeliveries) }
    this.#ahead = group
    this.#run(group, null)
      .catch((error: unknown) => this.#lost(group, asError(error)))
      .finally(() => {
        this.#ahead = null
        this.#settleIdle()
        this.#schedule()
      })
  }

  #take(): PendingGroup {
    const accepts = this.#accepts.take(maxDeliveries)
    if (this.#cancelPause !== null) return { ...nothing, accepts }
    if (!this.#gathering.mayTake(this.#settlements.length)) {
      return { ...nothing, accepts, releases: this.#releases.splice(0) }
    }
    return {
      accepts,
      settlements: this.#settlements.splice(0, maxDeliveries),
      releases: this.#releases.splice(0),
      waiters: this.#waiters.splice(0),
    }
  }

  /** @param unknownSinceMs when an answer was lost: the group may be written or not */
  async #run(group: PendingGroup, unknownSinceMs: number | null): Promise<void> {
    try {
      const result = await this.#store.commit(asCommit(group))
      this.#succeeded(group, result)
    } catch (thrown) {
      const error = asError(thrown)
      const code = error instanceof WebhookError ? error.code : null
      const isUnknown = code === 'STORAGE_UNAVAILABLE'
      if (isUnknown || (unknownSinceMs !== null && isTransientStorageError(error))) {
        return this.#repeat(group, error, unknownSinceMs ?? this.#tools.clock.nowMs())
      }
      if (code !== null) return this.#lost(group, error)
      await this.#halve(group, error, unknownSinceMs)
    }
  }

  /**
   * The outcome is unknown. The same group again is harmless, and finds out; it is never given up,
   * because what it has written is ours to send. Its callers are told after a while.
   */
  async #repeat(group: PendingGroup, error: Error, unknownSinceMs: number): Promise<void> {
    this.#failed(error)
    if (this.#tools.clock.nowMs() - unknownSinceMs >= repeatForMs) {
      for (const pending of group.accepts) expire(pending, unknownError(error))
    }
    await new Promise<void>((resolve) => {
      this.#cancelRepeat = this.#tools.clock.setTimer(resolve, this.#trouble.pauseMs())
      this.#endRepeat = resolve
    })
    if (this.#fatal !== null) throw this.#fatal
    await this.#run(group, unknownSinceMs)
  }

  /** Nothing of the group is written. Callers are told; outcomes are kept and tried again. */
  #lost(group: PendingGroup, error: Error): void {
    for (const pending of group.accepts) pending.failed(error)
    const comesBack = group.settlements.length + group.releases.length > 0
    if (comesBack) {
      this.#settlements = group.settlements.concat(this.#settlements)
      this.#releases = group.releases.concat(this.#releases)
      this.#cameBack = true
    }
    if (this.#fatal !== null) return
    this.#failed(error)
    if (!comesBack) return
    this.#cancelPause?.()
    this.#cancelPause = this.#tools.clock.setTimer(() => this.#endPause(), this.#trouble.pauseMs())
  }

  #endPause(): void {
    this.#cancelPause = null
    this.#schedule()
  }

  #failed(error: Error): void {
    this.#trouble.failed(error)
    this.#tools.failed(error)
  }

  /** What waits for another try is tried now. */
  hurry(): void {
    this.#cancelRepeat?.()
    this.#endRepeat?.()
    if (this.#cancelPause === null) return
    this.#cancelPause()
    this.#endPause()
  }

  /** One row the database refuses must not fail its 199 neighbours: halve down to it. */
  async #halve(group: PendingGroup, error: Error, unknownSinceMs: number | null): Promise<void> {
    if (sizeOf(group) > 1) {
      const [first, second] = halvesOf(group)
      await this.#run(first, unknownSinceMs)
      await this.#run(second, unknownSinceMs)
      return
    }
    for (const pending of group.accepts) pending.failed(error)
    for (const pending of group.settlements) await this.#recordBare(pending, error)
    for (const { deliveryId } of group.releases) {
      this.#tools.log('error', 'a delivery that was given back was refused by the store', {
        delivery: deliveryId,
        error: error.message,
      })
    }
  }

  /** A bad settlement loses its text, never its outcome. */
  async #recordBare(pending: PendingSettlement, error: Error): Promise<void> {
    const record = pending.record
    const attempt = { ...record.attempt, error: null, responseBody: null }
    if (record.attempt.error === null && record.attempt.responseBody === null) {
      this.#tools.log('error', 'an outcome was refused by the store', {
        delivery: record.deliveryId,
        error: error.message,
      })
      pending.done('late')
      return
    }
    pending.record = { ...record, attempt }
    await this.#run({ ...nothing, settlements: [pending] }, null)
  }

  #succeeded(group: PendingGroup, result: CommitResult): void {
    const wasInTrouble = this.#trouble.worked()
    this.#cancelPause?.()
    this.#cancelPause = null
    // Outcomes first: what they say about an endpoint must be known before anything new is sent.
    for (let i = 0; i < group.settlements.length; i += 1) {
      group.settlements[i]?.done(result.settlements[i] ?? 'written')
    }
    const { cancelled } = result
    const ended = cancelled === undefined ? null : new Set(cancelled.map(({ id }) => id))
    for (let i = 0; i < group.accepts.length; i += 1) {
      const one = result.accepts[i]
      if (one !== undefined) group.accepts[i]?.committed(one, ended)
    }
    if (cancelled !== undefined) this.#tools.cancelled(cancelled)
    if (wasInTrouble) this.#tools.log('info', 'the store takes writes again', {})
    this.#tools.relieved()
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
