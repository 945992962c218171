/**
 * Lanes in turns: between tenants first, then between the lanes of each. A tenant with ten thousand
 * lanes gets no more turns than one with a single lane. Joining and leaving cost the same however
 * many there are: who leaves is passed over when its place comes.
 */
import type { Lane } from './lane.ts'
import { Queue } from './queue.ts'

class Tenant {
  readonly places = new Queue<Lane>()
  isInCircle = false
}

/** Of those without a turn so many are remembered, to be used again. */
const maxIdleTenants = 10_000

export class Turns {
  readonly #lanes = new Set<Lane>()
  readonly #tenants = new Map<string, Tenant>()
  readonly #circle = new Queue<Tenant>()

  get size(): number {
    return this.#lanes.size
  }

  /** Behind the others of its tenant; where it is when it is there. */
  join(lane: Lane): void {
    if (this.#lanes.has(lane)) return
    this.#lanes.add(lane)
    let tenant = this.#tenants.get(lane.tenantId)
    if (tenant === undefined) {
      if (this.#tenants.size >= maxIdleTenants) this.#forgetIdle()
      tenant = new Tenant()
      this.#tenants.set(lane.tenantId, tenant)
    }
    tenant.places.push(lane)
    if (tenant.isInCircle) return
    tenant.isInCircle = true
    this.#circle.push(tenant)
  }

  leave(lane: Lane): void {
    this.#lanes.delete(lane)
  }

  has(lane: Lane): boolean {
    return this.#lanes.has(lane)
  }

  /** Takes out the lane whose turn it is. */
  next(): Lane | undefined {
    for (;;) {
      const tenant = this.#circle.shift()
      if (tenant === undefined) return undefined
      const lane = tenant.places.shift()
      // Behind the other tenants.
      if (tenant.places.length > 0) this.#circle.push(tenant)
      else tenant.isInCircle = false
      if (lane !== undefined && this.#lanes.delete(lane)) return lane
    }
  }

  #forgetIdle(): void {
    for (const [id, { isInCircle }] of this.#tenants) if (!isInCircle) this.#tenants.delete(id)
  }
}
