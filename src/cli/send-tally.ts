/** Counts what happens in one run of `send`, and says at the end what came of it. */
import type { DispatchReceipt, WebhookService } from '../index.ts'
import type { SendResult } from './send-summary.ts'

/** More different reasons than this are of no use to anybody. */
const reasonsKept = 50
const failedLookedAt = 1_000

export class SendTally {
  acceptedEvents = 0
  duplicates = 0
  badLines = 0
  delivered = 0
  failed = 0
  cancelled = 0
  retries = 0
  readonly #startedAtMs = performance.now()
  readonly #reasons = new Map<string, number>()
  /** Waiting since an earlier run. */
  #left = 0
  #failedEarlier = 0

  constructor(service: WebhookService) {
    service.on('delivery.delivered', () => {
      this.delivered += 1
    })
    service.on('delivery.failed', ({ reason }) => {
      this.failed += 1
      if (this.#reasons.size < reasonsKept || this.#reasons.has(reason)) {
        this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1)
      }
    })
    service.on('delivery.cancelled', () => {
      this.cancelled += 1
    })
    service.on('attempt.settled', ({ attempt }) => {
      if (attempt > 1) this.retries += 1
    })
  }

  readonly accepted = ({ duplicate }: DispatchReceipt): void => {
    if (duplicate) this.duplicates += 1
    else this.acceptedEvents += 1
  }

  get ended(): number {
    return this.delivered + this.failed + this.cancelled
  }

  get waiting(): number {
    return Math.max(0, this.#left + this.acceptedEvents - this.ended)
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAtMs
  }

  get deliveredPerSecond(): number {
    return this.delivered / Math.max(0.001, this.elapsedMs / 1_000)
  }

  /** Before any of the input is accepted. */
  async lookAtEarlierRuns(service: WebhookService, endpointId: string): Promise<void> {
    const { backlog } = await service.health()
    this.#left = (backlog?.waiting ?? 0) + (backlog?.delivering ?? 0) + this.ended
    const failed = await service.getFailedDeliveries(endpointId, { limit: failedLookedAt })
    this.#failedEarlier = failed.length
  }

  result(latency: SendResult['latency']): SendResult {
    return {
      accepted: this.acceptedEvents,
      duplicates: this.duplicates,
      badLines: this.badLines,
      delivered: this.delivered,
      failed: this.failed,
      failedEarlier: this.#failedEarlier,
      cancelled: this.cancelled,
      waiting: this.waiting,
      retries: this.retries,
      reasons: [...this.#reasons].sort(([, a], [, b]) => b - a),
      elapsedMs: this.elapsedMs,
      deliveredPerSecond: this.deliveredPerSecond,
      latency,
    }
  }
}
