/**
 * Events that wait for a commit, in turns between tenants: who hands over 200,000 at once waits for
 * himself, and an event of somebody else is in the next commit.
 */
import type { PendingAccept } from './pending-group.ts'

/** What one tenant puts into a commit before the next has a turn, while several wait. */
const turn = 100
/** Short commits while several wait, so that the one after comes soon. */
const maxWeightOfSeveral = 2_500

export class AcceptQueue {
  /** In the order of their turns. */
  readonly #tenants = new Map<string, PendingAccept[]>()
  #length = 0
  #weight = 0

  get length(): number {
    return this.#length
  }

  /** One tenant's, and as much as that: nothing is gained by waiting for more of it. */
  isFull(maxWeight: number): boolean {
    return this.#weight >= maxWeight && this.#tenants.size === 1
  }

  push(pending: PendingAccept): void {
    const { tenantId } = pending.record.event
    const ofTenant = this.#tenants.get(tenantId)
    if (ofTenant === undefined) this.#tenants.set(tenantId, [pending])
    else ofTenant.push(pending)
    this.#length += 1
    this.#weight += pending.weight
  }

  /** At least one, else as many as stay within that weight together. */
  take(maxWeight: number): PendingAccept[] {
    const isShared = this.#tenants.size > 1
    let left = isShared ? Math.min(maxWeight, maxWeightOfSeveral) : maxWeight
    const taken: PendingAccept[] = []
    while (this.#tenants.size > 0) {
      const [[tenantId, waiting]] = this.#tenants as unknown as [[string, PendingAccept[]]]
      const count = fitting(waiting, left, isShared ? turn : waiting.length, taken.length === 0)
      if (count === 0) break
      // Behind the others, also for the next commit.
      this.#tenants.delete(tenantId)
      const some = count === waiting.length ? waiting : waiting.splice(0, count)
      if (some !== waiting) this.#tenants.set(tenantId, waiting)
      for (const pending of some) {
        taken.push(pending)
        left -= pending.weight
      }
    }
    this.#took(taken)
    return taken
  }

  /** Those that were accepted until then. */
  takeOlder(untilMs: number): PendingAccept[] {
    const taken: PendingAccept[] = []
    for (const [tenantId, waiting] of this.#tenants) {
      const young = waiting.findIndex(({ record }) => record.event.acceptedAtMs > untilMs)
      taken.push(...waiting.splice(0, young === -1 ? waiting.length : young))
      if (waiting.length === 0) this.#tenants.delete(tenantId)
    }
    this.#took(taken)
    return taken
  }

  #took(taken: readonly PendingAccept[]): void {
    this.#length -= taken.length
    for (const { weight } of taken) this.#weight -= weight
  }

  takeAll(): PendingAccept[] {
    return this.takeOlder(Number.POSITIVE_INFINITY)
  }

  /** Null when nothing waits. */
  get oldestMs(): number | null {
    let oldestMs: number | null = null
    for (const [first] of this.#tenants.values()) {
      const atMs = first?.record.event.acceptedAtMs ?? null
      if (atMs !== null && (oldestMs === null || atMs < oldestMs)) oldestMs = atMs
    }
    return oldestMs
  }
}

/** How many from the start stay within the weight. */
function fitting(
  waiting: readonly PendingAccept[],
  maxWeight: number,
  most: number,
  atLeastOne: boolean,
): number {
  let weight = 0
  let count = 0
  for (const pending of waiting) {
    weight += pending.weight
    if (count >= most || (weight > maxWeight && !(atLeastOne && count === 0))) break
    count += 1
  }
  return count
}
