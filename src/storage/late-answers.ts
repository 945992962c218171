/**
 * A disk that hangs must not leave callers without an answer: after a while they are told that it is
 * unknown whether their event is stored. One timer waits for the oldest of them.
 */
import type { Clock } from '../model/clock.ts'
import { WebhookError } from '../model/errors.ts'
import type { AcceptQueue } from './accept-queue.ts'
import type { PendingAccept } from './pending-group.ts'

export interface LateAnswersTools {
  readonly clock: Clock
  readonly accepts: AcceptQueue
  /** Those of the commit that runs. */
  readonly running: () => readonly PendingAccept[]
}

/** A commit that takes longer is answered with STORAGE_UNAVAILABLE, whatever becomes of it. */
const answerWithinMs = 10_000

export class LateAnswers {
  readonly #tools: LateAnswersTools
  #cancelTimer: (() => void) | null = null

  constructor(tools: LateAnswersTools) {
    this.#tools = tools
  }

  /** Somebody waits for an answer. */
  watch(): void {
    if (this.#cancelTimer !== null) return
    const oldestMs = this.#oldestUnansweredMs()
    if (oldestMs === null) return
    const { clock } = this.#tools
    const dueMs = oldestMs + answerWithinMs
    this.#cancelTimer = clock.setTimer(
      () => {
        this.#cancelTimer = null
        this.#answerLate()
        this.watch()
      },
      Math.max(0, dueMs - clock.nowMs()),
    )
  }

  /** Nobody does. */
  stop(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #oldestUnansweredMs(): number | null {
    const { accepts, running } = this.#tools
    const unanswered = running().find(({ expired }) => !expired)
    const runningMs = unanswered?.record.event.acceptedAtMs ?? Number.POSITIVE_INFINITY
    const oldestMs = Math.min(runningMs, accepts.oldestMs ?? Number.POSITIVE_INFINITY)
    return Number.isFinite(oldestMs) ? oldestMs : null
  }

  #answerLate(): void {
    const { clock, accepts, running } = this.#tools
    const beforeMs = clock.nowMs() - answerWithinMs
    const error = unknownError(null)
    for (const pending of running()) {
      if (pending.record.event.acceptedAtMs <= beforeMs) expire(pending, error)
    }
    // Not begun: these are not stored, and must not pile up while the disk hangs.
    for (const pending of accepts.takeOlder(beforeMs)) pending.failed(error)
  }
}

/** Tells the caller, once. */
export function expire(pending: PendingAccept, error: Error): void {
  if (pending.expired) return
  pending.expired = true
  pending.expire(error)
}

export function unknownError(cause: Error | null): WebhookError {
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    'Expected the store to confirm that the event is on disk; it has not. Whether the event is stored is unknown: dispatch it again with the same id.',
    { cause },
  )
}
