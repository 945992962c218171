/**
 * Ends deliveries before they are sent, wherever they are: in the store, in memory, or in flight.
 * Which of them are to be ended is asked elsewhere (repair.ts).
 */
import type { Clock } from '../model/clock.ts'
import { parseDeliveryId } from '../model/ids.ts'
import type { Facts } from '../observe/facts.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { Scheduler } from '../schedule/scheduler.ts'
import type { Cancellation, ReleaseRecord, SettlementRecord } from '../storage/commit-records.ts'
import type { GroupCommit } from '../storage/group-commit.ts'
import type { DeliveryFound } from '../storage/questions.ts'
import type { CancelledDelivery, CancelResult } from '../storage/repairs.ts'
import type { Store } from '../storage/storage.ts'

export interface CancellingTools {
  readonly store: Pick<Store, 'cancelSome' | 'cancelRest'>
  readonly commits: GroupCommit
  readonly scheduler: Scheduler
  readonly registry: WebhookRegistry
  readonly clock: Clock
  readonly facts: Facts
  /** Counts as unrest until it is done. */
  readonly during: (work: Promise<unknown>) => void
}

const heardOfEveryMs = 100

export class Cancelling {
  readonly #tools: CancellingTools
  /** Deliveries that this process sends and somebody has cancelled: they will not wait again. */
  readonly #cancelled = new Set<string>()
  /** Endpoint keys of what was released since it was last seen to. */
  #goingBack: Set<string> | null = null

  constructor(tools: CancellingTools) {
    this.#tools = tools
  }

  /** Ends a delivery that waits, or sees to it that one that is owned does not wait again. */
  async cancel(
    deliveryId: string,
    { endpointKey, endpointId }: Pick<DeliveryFound, 'endpointKey' | 'endpointId'>,
    reason: string,
  ): Promise<CancelResult> {
    const { store, commits, scheduler, clock } = this.#tools
    // Before the store knows: its outcome may be written at this moment.
    this.#cancelled.add(deliveryId)
    const nowMs = clock.nowMs()
    let result: CancelResult = 'unknown'
    try {
      result = (await store.cancelSome([deliveryId], reason, nowMs))[0] ?? 'unknown'
    } finally {
      if (result !== 'marked') this.#cancelled.delete(deliveryId)
    }
    if (result === 'marked') {
      // In memory and not begun: it need not be sent to be over.
      if (scheduler.giveBack(endpointKey, deliveryId)) this.#cancelled.delete(deliveryId)
      await commits.written()
    }
    if (result === 'cancelled') this.tell([deliveryId], endpointId, reason)
    // When it was to be sent, nobody should wait for any more.
    scheduler.stored(endpointKey, nowMs)
    scheduler.reread(endpointKey)
    return result
  }

  /**
   * What the store has marked goes back as far as it has not begun; the rest will not wait again.
   *
   * @returns how many go back
   */
  takeBack(marked: readonly CancelledDelivery[]): number {
    const lanes = new Map<string, Set<string>>()
    for (const { id, endpointKey } of marked) {
      this.#cancelled.add(id)
      lanes.set(endpointKey, (lanes.get(endpointKey) ?? new Set()).add(id))
    }
    let count = 0
    for (const [endpointKey, ids] of lanes) {
      for (const id of this.#tools.scheduler.giveBackSome(endpointKey, ids)) {
        this.#cancelled.delete(id)
        count += 1
      }
    }
    return count
  }

  /** A delivery comes to memory that was marked while it was on its way: it goes back, too. */
  isTakenBack(deliveryId: string): boolean {
    return this.#cancelled.size > 0 && this.#cancelled.delete(deliveryId)
  }

  /**
   * Ends all that is left of a disabled endpoint, in whichever process it is. Resolves when none of it
   * will begin any more.
   */
  async cancelRest(endpointKey: string): Promise<void> {
    const { store, registry, clock } = this.#tools
    const reason = 'endpoint_disabled'
    for (;;) {
      const rest = await store.cancelRest(endpointKey, reason, clock.nowMs())
      this.tell(rest.ended, registry.idOf(endpointKey), reason)
      this.takeBack(rest.marked)
      if (rest.mayBegin === 0) return
      await this.heardOf()
    }
  }

  /**
   * Other processes hear within a second of what was marked, or lose it with their lease. Resolves when
   * it is time to ask again whether they have.
   */
  heardOf(): Promise<void> {
    return new Promise((resolve) => {
      this.#tools.clock.setTimer(resolve, heardOfEveryMs)
    })
  }

  /**
   * Ends what waits of an endpoint while nothing of it is held in memory: what is held is owned, and
   * would be sent.
   *
   * @param work ends all that waits now, and counts it
   */
  async whileSuspended(endpointKey: string, work: () => Promise<number>): Promise<number> {
    const { commits, scheduler, clock } = this.#tools
    scheduler.suspend(endpointKey)
    try {
      let count = 0
      for (;;) {
        // What a claim brings that is under way goes back as well, and is ended the next time.
        const wasClaiming = scheduler.isClaiming(endpointKey)
        await commits.written()
        count += await work()
        if (!wasClaiming) return count
      }
    } finally {
      scheduler.unsuspend(endpointKey)
      // What was to be sent later is gone: nobody should wait for it.
      scheduler.stored(endpointKey, clock.nowMs())
      scheduler.reread(endpointKey)
    }
  }

  tell(deliveryIds: readonly string[], endpointId: string, reason: string): void {
    for (const deliveryId of deliveryIds) {
      this.#tools.facts.tell('delivery.cancelled', { deliveryId, endpointId, reason })
    }
  }

  /** They have ended, by a commit or as a wide event became deliveries. */
  tellEnded(ended: readonly Cancellation[]): void {
    const { facts, registry } = this.#tools
    if (!facts.wants('delivery.cancelled')) return
    for (const { id, reason } of ended) {
      // Whoever erases has the count; of what waits in the store no ids come back.
      if (reason === 'erased') continue
      this.tell([id], registry.idOf(parseDeliveryId(id)?.endpointKey ?? ''), reason)
    }
  }

  /**
   * A claim goes back to the store. Only once that is written a lane may look for it: a claim that comes
   * before finds nothing, and nobody would ask again.
   */
  release(record: ReleaseRecord, endpointKey: string): void {
    this.#tools.commits.release(record)
    if (this.#goingBack === null) {
      this.#goingBack = new Set()
      // With all that goes back now.
      queueMicrotask(() => this.#lookOnceWritten())
    }
    this.#goingBack.add(endpointKey)
  }

  #lookOnceWritten(): void {
    const { commits, scheduler, during } = this.#tools
    const lanes = this.#goingBack ?? []
    this.#goingBack = null
    const look = () => {
      for (const endpointKey of lanes) scheduler.released(endpointKey)
    }
    during(commits.written().then(look))
  }

  /** An outcome is written; what was cancelled in flight has ended instead of waiting again. */
  asWritten(record: SettlementRecord): SettlementRecord {
    return this.#cancelled.delete(record.deliveryId) ? ended(record) : record
  }

  /** What this process owned is another's now. */
  forget(): void {
    this.#cancelled.clear()
  }
}

function ended(record: SettlementRecord): SettlementRecord {
  const { settlement, settledAtMs } = record
  if (settlement.state !== 'waiting') return record
  return { ...record, settlement: { ...settlement, dueAtMs: settledAtMs } }
}
