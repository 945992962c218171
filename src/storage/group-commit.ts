/**
 * Natural batching: while one commit is syncing, everything that arrives joins the next one. No
 * timer, no lost time, one sync for many events. New events and settlements share the commits.
 *
 * An accept resolves only after its commit is on disk. A settlement is never given up: recording is
 * repeated until it succeeds, the request never is because recording failed.
 */
import type { Clock, Random } from '../model/clock.ts'
import { isTransientStorageError, WebhookError } from '../model/errors.ts'
import { AcceptQueue } from './accept-queue.ts'
import type {
  AcceptRecord,
  AcceptResult,
  CommitGroup,
  CommitResult,
  ReleaseRecord,
  SettlementRecord,
  SettlementResult,
} from './commit-records.ts'
import { Gathering } from './gathering.ts'
import type { Store } from './storage.ts'

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
  /** Who waits for this group to be written, see `written()`. */
  waiters: (() => void)[]
}

export interface GroupCommitTools {
  readonly clock: Clock
  readonly random: Random
  readonly log: (
    level: 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ) => void
  /** Whether requests are under way, whose outcomes will follow. */
  readonly isSending: () => boolean
  /** After every commit: sending may go on, and who waits for rest may look. */
  readonly relieved: () => void
}

/** Deliveries of one transaction at the most. */
const maxDeliveries = 10_000
/** Settlements not yet written at the most: beyond it no new attempt may start. */
const maxUnrecorded = 5_000
/** A commit that takes longer is answered with STORAGE_UNAVAILABLE, whatever becomes of it. */
const answerWithinMs = 10_000
/** A commit whose outcome is unknown is repeated this long before its callers are told so. */
const repeatForMs = 5_000

export class GroupCommit {
  readonly #store: Store
  readonly #tools: GroupCommitTools
  readonly #accepts = new AcceptQueue()
  readonly #gathering: Gathering
  #settlements: PendingSettlement[] = []
  #releases: ReleaseRecord[] = []
  #waiters: (() => void)[] = []
  #running: Group | null = null
  #scheduled = false
  /** Something of the running group came back and waits for another try. */
  #cameBack = false
  #failures = 0
  #fatal: Error | null = null
  #cancelPause: (() => void) | null = null
  #cancelAnswer: (() => void) | null = null
  #cancelRepeat: (() => void) | null = null
  #endRepeat: (() => void) | null = null
  #idleWaiters: (() => void)[] = []
  #lastError: Error | null = null

  constructor(store: Store, tools: GroupCommitTools) {
    this.#store = store
    this.#tools = tools
    this.#gathering = new Gathering({
      ...tools,
      gatherMs: store.gatherMs ?? 0,
      isDue: () => this.#schedule(),
    })
  }

  accept(pending: PendingAccept): void {
    if (this.#fatal !== null) {
      pending.failed(this.#fatal)
      return
    }
    this.#accepts.push(pending)
    if (this.#cancelAnswer === null) this.#watchAnswers()
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
    return this.#fatal ?? (this.#failures > 0 ? this.#lastError : null)
  }

  /** Nothing is written any more: the store is lost, or closed. */
  fail(error: Error): void {
    this.#fatal ??= error
    this.#gathering.stop()
    this.#cancelPause?.()
    this.#cancelPause = null
    this.#cancelAnswer?.()
    this.#cancelAnswer = null
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
      this.#accepts.length === 0 &&
      this.#settlements.length === 0 &&
      this.#releases.length === 0
    )
  }

  #settleIdle(): void {
    if (!this.isIdle && this.#fatal === null) return
    this.#cancelAnswer?.()
    this.#cancelAnswer = null
    this.#wake(this.#idleWaiters)
  }

  #wake(waiters: (() => void)[]): void {
    for (const resolve of waiters.splice(0)) resolve()
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

  #take(): Group {
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
  async #run(group: Group, unknownSinceMs: number | null): Promise<void> {
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
  async #repeat(group: Group, error: Error, unknownSinceMs: number): Promise<void> {
    this.#failed(error)
    if (this.#tools.clock.nowMs() - unknownSinceMs >= repeatForMs) {
      for (const pending of group.accepts) this.#expire(pending, unknownError(error))
    }
    await new Promise<void>((resolve) => {
      this.#cancelRepeat = this.#tools.clock.setTimer(resolve, this.#backoffMs())
      this.#endRepeat = resolve
    })
    if (this.#fatal !== null) throw this.#fatal
    await this.#run(group, unknownSinceMs)
  }

  #expire(pending: PendingAccept, error: Error): void {
    if (pending.expired) return
    pending.expired = true
    pending.expire(error)
  }

  /** Nothing of the group is written. Callers are told; outcomes are kept and tried again. */
  #lost(group: Group, error: Error): void {
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
    this.#cancelPause = this.#tools.clock.setTimer(() => {
      this.#cancelPause = null
      this.#schedule()
    }, this.#backoffMs())
  }

  /** Told once, and again when the trouble is another one. */
  #failed(error: Error): void {
    const code = codeOf(error)
    if (this.#lastError === null || codeOf(this.#lastError) !== code) {
      const level = isTransientStorageError(error) ? 'warn' : 'error'
      this.#tools.log(level, 'the store takes no writes', { code, error: error.message })
    }
    this.#lastError = error
    this.#failures += 1
  }

  /** One row the database refuses must not fail its 199 neighbours: halve down to it. */
  async #halve(group: Group, error: Error, unknownSinceMs: number | null): Promise<void> {
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

  #succeeded(group: Group, result: CommitResult): void {
    const wasInTrouble = this.#failures > 0
    this.#failures = 0
    this.#lastError = null
    this.#cancelPause?.()
    this.#cancelPause = null
    // Outcomes first: what they say about an endpoint must be known before anything new is sent.
    for (let i = 0; i < group.settlements.length; i += 1) {
      group.settlements[i]?.done(result.settlements[i] ?? 'written')
    }
    for (let i = 0; i < group.accepts.length; i += 1) {
      const one = result.accepts[i]
      if (one !== undefined) group.accepts[i]?.committed(one)
    }
    if (wasInTrouble) this.#tools.log('info', 'the store takes writes again', {})
    this.#tools.relieved()
  }

  // ── a disk that hangs ──────────────────────────────────────────────────────────────────────────

  /** One timer for the oldest caller without an answer. */
  #watchAnswers(): void {
    const oldestMs = this.#oldestUnansweredMs()
    if (oldestMs === null) return
    const dueMs = oldestMs + answerWithinMs
    this.#cancelAnswer = this.#tools.clock.setTimer(
      () => {
        this.#cancelAnswer = null
        this.#answerLate()
        this.#watchAnswers()
      },
      Math.max(0, dueMs - this.#tools.clock.nowMs()),
    )
  }

  #oldestUnansweredMs(): number | null {
    const running = this.#running?.accepts.find(({ expired }) => !expired)
    const runningMs = running?.record.event.acceptedAtMs ?? Number.POSITIVE_INFINITY
    const oldestMs = Math.min(runningMs, this.#accepts.oldestMs ?? Number.POSITIVE_INFINITY)
    return Number.isFinite(oldestMs) ? oldestMs : null
  }

  #answerLate(): void {
    const beforeMs = this.#tools.clock.nowMs() - answerWithinMs
    const error = unknownError(null)
    for (const pending of this.#running?.accepts ?? []) {
      if (pending.record.event.acceptedAtMs <= beforeMs) this.#expire(pending, error)
    }
    // Not begun: these are not stored, and must not pile up while the disk hangs.
    for (const pending of this.#accepts.takeOlder(beforeMs)) pending.failed(error)
  }

  #backoffMs(): number {
    // A store that is back is to be found soon; a try a second costs nobody anything.
    const fullMs = Math.min(100 * 2 ** Math.min(this.#failures - 1, 4), 1_000)
    return fullMs / 2 + (fullMs / 2) * this.#tools.random()
  }
}

const nothing: Group = { accepts: [], settlements: [], releases: [], waiters: [] }

function sizeOf({ accepts, settlements, releases }: Group): number {
  return accepts.length + settlements.length + releases.length
}

function halvesOf({ accepts, settlements, releases }: Group): [Group, Group] {
  const half = Math.ceil((accepts.length + settlements.length + releases.length) / 2)
  const a = Math.min(half, accepts.length)
  const s = Math.min(half - a, settlements.length)
  const r = half - a - s
  return [
    {
      accepts: accepts.slice(0, a),
      settlements: settlements.slice(0, s),
      releases: releases.slice(0, r),
      waiters: [],
    },
    {
      accepts: accepts.slice(a),
      settlements: settlements.slice(s),
      releases: releases.slice(r),
      waiters: [],
    },
  ]
}

function asCommit(group: Group): CommitGroup {
  return {
    accepts: group.accepts.map((one) => one.record),
    settlements: group.settlements.map((one) => one.record),
    releases: group.releases,
  }
}

function unknownError(cause: Error | null): WebhookError {
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    'Expected the store to confirm that the event is on disk; it has not. Whether the event is stored is unknown: dispatch it again with the same id.',
    { cause },
  )
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

function codeOf(error: Error): string {
  return error instanceof WebhookError ? error.code : error.name
}
