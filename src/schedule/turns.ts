/**
 * Lanes in turns: between tenants first, then between the lanes of each. A tenant with ten thousand
 * lanes gets no more turns than one with a single lane.
 */
import type { Lane } from './lane.ts'

export class Turns {
  /** In the order of their turns; none is empty. */
  readonly #tenants = new Map<string, Set<Lane>>()
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Behind the others of its tenant; where it is when it is there. */
  join(lane: Lane): void {
    const ofTenant = this.#tenants.get(lane.tenantId)
    if (ofTenant === undefined) this.#tenants.set(lane.tenantId, new Set([lane]))
    else if (ofTenant.has(lane)) return
    else ofTenant.add(lane)
    this.#size += 1
  }

  leave(lane: Lane): void {
    const ofTenant = this.#tenants.get(lane.tenantId)
    if (!ofTenant?.delete(lane)) return
    this.#size -= 1
    if (ofTenant.size === 0) this.#tenants.delete(lane.tenantId)
  }

  has(lane: Lane): boolean {
    return this.#tenants.get(lane.tenantId)?.has(lane) ?? false
  }

  /** Takes out the lane whose turn it is. */
  next(): Lane | undefined {
    for (const [tenantId, lanes] of this.#tenants) {
      for (const lane of lanes) {
        lanes.delete(lane)
        this.#size -= 1
        if (lanes.size === 0 || this.#tenants.size > 1) this.#tenants.delete(tenantId)
        // Behind the other tenants.
        if (lanes.size > 0) this.#tenants.set(tenantId, lanes)
        return lane
      }
    }
    return undefined
  }
}
