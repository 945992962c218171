/**
 * Natural batching: while one commit is syncing, everything that arrives joins the next one. No
 * timer, no lost time, one sync for many events. New events and settlements share the commits.
 *
 * An accept resolves only after its commit is on disk. A settlement is never given up: recording is
 * repeated until it succeeds, the request never is because recording failed.
 */
import type { Clock, Random } from '../model/clock.ts'
import { isTransientStorageError, WebhookError } from '../model/errors.ts'
import type {
  AcceptRecord,
  AcceptResult,
  CommitGroup,
  CommitResult,
  ReleaseRecord,
  SettlementRecord,
  SettlementResult,
  Store,
} from './storage.ts'

export interface PendingAccept {
  readonly record: AcceptRecord
  readonly weight: number
  /** After the commit, even when the caller was told `STORAGE_UNAVAILABLE` meanwhile. */
  readonly committed: (result: AcceptResult) => void
  readonly failed: (error: Error) => void
  /** The caller has had an answer: a hung disk took too long. */
  expired: boolean
  /** Tells the caller; `committed` may still follow. */
  readonly expire: (error: Error) => void
}

interface PendingSettlement {
  record: SettlementRecord
  readonly done: (result: SettlementResult) => void
}

interface Group {
  accepts: PendingAccept[]
  settlements: PendingSettlement[]
  releases: ReleaseRecord[]
}

export interface GroupCommitTools {
  readonly clock: Clock
  readonly random: Random
  readonly log: (
    level: 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ) => void
  /** After every commit: sending may go on, and who waits for rest may look. */
  readonly relieved: () => void
}

/** Deliveries of one transaction at the most. */
const maxDeliveries = 10_000
/** Settlements not yet written at the most: beyond it no new attempt may start. */
const maxUnrecorded = 5_000
/** A commit that takes longer is answered with STORAGE_UNAVAILABLE, whatever becomes of it. */
const answerWithinMs = 10_000
/** A commit whose outcome is unknown is repeated this long before its callers are told. */
const repeatForMs = 5_000

export class GroupCommit {
  readonly #store: Store
  readonly #tools: GroupCommitTools
  #accepts: PendingAccept[] = []
  #settlements: PendingSettlement[] = []
  #releases: ReleaseRecord[] = []
  #running: Group | null = null
  #scheduled = false
  #failures = 0
  #fatal: Error | null = null
  #cancelPause: (() => void) | null = null
  #idleWaiters: (() => void)[] = []
  #lastError: Error | null = null

  constructor(store: Store, tools: GroupCommitTools) {
    this.#store = store
    this.#tools = tools
  }

  accept(pending: PendingAccept): void {
    if (this.#fatal !== null) {
      pending.failed(this.#fatal)
      return
    }
    this.#accepts.push(pending)
    this.#schedule()
  }

  settle(record: SettlementRecord, done: (result: SettlementResult) => void): void {
    this.#settlements.push({ record, done })
    this.#schedule()
  }

  release(record: ReleaseRecord): void {
    this.#releases.push(record)
    this.#schedule()
  }

  /** Too many outcomes wait to be written: starting more attempts could only lose more knowledge. */
  get congested(): boolean {
    return this.#settlements.length > maxUnrecorded
  }

  /** Null while commits succeed; else what the last one failed with. */
  get trouble(): Error | null {
    return this.#fatal ?? (this.#failures > 0 ? this.#lastError : null)
  }

  /** The store can never be written again in this process. */
  fail(error: Error): void {
    this.#fatal = error
    for (const pending of this.#accepts.splice(0)) pending.failed(error)
    this.#settleIdle()
  }

  /** Resolves when nothing waits to be written; at once when it never can be. */
  idle(): Promise<void> {
    if (this.isIdle || this.#fatal !== null) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  get isIdle(): boolean {
    return (
      this.#running === null &&
      this.#accepts.length === 0 &&
      this.#settlements.length === 0 &&
      this.#releases.length === 0
    )
  }

  #settleIdle(): void {
    if (!this.isIdle && this.#fatal === null) return
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #schedule(): void {
    if (this.#scheduled || this.#running !== null || this.#fatal !== null) return
    // While recording is pausing after a failure, new accepts still get a try of their own.
    if (this.#cancelPause !== null && this.#accepts.length === 0) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#running !== null || this.#fatal !== null) return
    const group = this.#take()
    if (group.accepts.length + group.settlements.length + group.releases.length === 0) return
    this.#running = group
    const cancelAnswer = this.#tools.clock.setTimer(() => this.#answerLate(), answerWithinMs)
    this.#run(group, this.#tools.clock.nowMs())
      .catch((error: unknown) => this.#lost(group, asError(error)))
      .finally(() => {
        cancelAnswer()
        this.#running = null
        this.#settleIdle()
        this.#schedule()
      })
  }

  #take(): Group {
    let weight = 0
    let count = 0
    for (const pending of this.#accepts) {
      weight += pending.weight
      if (count > 0 && weight > maxDeliveries) break
      count += 1
    }
    const accepts = this.#accepts.splice(0, count)
    if (this.#cancelPause !== null) return { accepts, settlements: [], releases: [] }
    const settlements = this.#settlements.splice(0, maxDeliveries)
    return { accepts, settlements, releases: this.#releases.splice(0) }
  }

  async #run(group: Group, startedAtMs: number): Promise<void> {
    try {
      const result = await this.#store.commit(asCommit(group))
      this.#succeeded(group, result)
    } catch (thrown) {
      const error = asError(thrown)
      this.#lastError = error
      const code = error instanceof WebhookError ? error.code : null
      if (code === 'STORAGE_UNAVAILABLE') return this.#repeat(group, error, startedAtMs)
      if (code !== null) return this.#lost(group, error)
      await this.#halve(group, error, startedAtMs)
    }
  }

  /** The outcome is unknown. The same group again is harmless, and finds out. */
  async #repeat(group: Group, error: Error, startedAtMs: number): Promise<void> {
    this.#failures += 1
    if (this.#tools.clock.nowMs() - startedAtMs >= repeatForMs) return this.#lost(group, error)
    await new Promise<void>((resolve) => {
      this.#tools.clock.setTimer(resolve, this.#backoffMs())
    })
    if (this.#fatal !== null) throw this.#fatal
    await this.#run(group, startedAtMs)
  }

  /** Nothing of the group is written. Callers are told; outcomes are kept and tried again. */
  #lost(group: Group, error: Error): void {
    for (const pending of group.accepts) pending.failed(error)
    if (group.settlements.length + group.releases.length === 0) return
    this.#settlements = group.settlements.concat(this.#settlements)
    this.#releases = group.releases.concat(this.#releases)
    if (this.#fatal !== null) return
    if (!isTransientStorageError(error)) {
      this.#tools.log('error', 'outcomes cannot be recorded', {
        code: codeOf(error),
        error: error.message,
      })
    } else if (this.#failures === 0) {
      this.#tools.log('warn', 'recording waits for the store', {
        code: codeOf(error),
        error: error.message,
      })
    }
    this.#failures += 1
    this.#cancelPause = this.#tools.clock.setTimer(() => {
      this.#cancelPause = null
      this.#schedule()
    }, this.#backoffMs())
  }

  /** One row the database refuses must not fail its 199 neighbours: halve down to it. */
  async #halve(group: Group, error: Error, startedAtMs: number): Promise<void> {
    const { accepts, settlements, releases } = group
    if (accepts.length + settlements.length > 1) {
      const a = Math.ceil(accepts.length / 2)
      const s = accepts.length > 0 ? 0 : Math.ceil(settlements.length / 2)
      await this.#run(
        { accepts: accepts.slice(0, a), settlements: settlements.slice(0, s), releases: [] },
        startedAtMs,
      )
      await this.#run(
        { accepts: accepts.slice(a), settlements: settlements.slice(s), releases },
        startedAtMs,
      )
      return
    }
    for (const pending of accepts) pending.failed(error)
    for (const pending of settlements) await this.#recordBare(pending, error)
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
    await this.#run(
      { accepts: [], settlements: [pending], releases: [] },
      this.#tools.clock.nowMs(),
    )
  }

  #succeeded(group: Group, result: CommitResult): void {
    const wasInTrouble = this.#failures > 0
    this.#failures = 0
    this.#lastError = null
    this.#cancelPause?.()
    this.#cancelPause = null
    for (let i = 0; i < group.accepts.length; i += 1) {
      const one = result.accepts[i]
      if (one !== undefined) group.accepts[i]?.committed(one)
    }
    for (let i = 0; i < group.settlements.length; i += 1) {
      group.settlements[i]?.done(result.settlements[i] ?? 'written')
    }
    if (wasInTrouble) this.#tools.log('info', 'the store takes writes again', {})
    this.#tools.relieved()
  }

  #answerLate(): void {
    const error = new WebhookError(
      'STORAGE_UNAVAILABLE',
      `Expected the commit to reach the disk within ${answerWithinMs} ms; it has not. Whether the event is stored is unknown: dispatch it again with the same id.`,
    )
    for (const pending of [...(this.#running?.accepts ?? []), ...this.#accepts]) {
      if (pending.expired) continue
      pending.expired = true
      pending.expire(error)
    }
  }

  #backoffMs(): number {
    const fullMs = Math.min(100 * 2 ** Math.min(this.#failures, 6), 5_000)
    return fullMs / 2 + (fullMs / 2) * this.#tools.random()
  }
}

function asCommit(group: Group): CommitGroup {
  return {
    accepts: group.accepts.map((one) => one.record),
    settlements: group.settlements.map((one) => one.record),
    releases: group.releases,
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

function codeOf(error: Error): string {
  return error instanceof WebhookError ? error.code : error.name
}
