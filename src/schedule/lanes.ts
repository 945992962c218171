/** The lanes there are, by endpoint: made when something comes for one, forgotten when it is idle. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointFlow } from '../model/flow.ts'
import { applyFlow, applyLimits, Lane, type LaneLimits } from './lane.ts'

export interface LanesTools {
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  readonly limits: (endpoint: EndpointRecord) => LaneLimits
  /** As far as is known. */
  readonly flow: (endpointKey: string) => EndpointFlow
}

export class Lanes {
  readonly #tools: LanesTools
  readonly #lanes = new Map<string, Lane>()

  constructor(tools: LanesTools) {
    this.#tools = tools
  }

  [Symbol.iterator](): Iterator<Lane> {
    return this.#lanes.values()
  }

  find(endpointKey: string): Lane | undefined {
    return this.#lanes.get(endpointKey)
  }

  /** @param known its endpoint, where the caller has it */
  open(endpointKey: string, known?: EndpointRecord): Lane {
    let lane = this.#lanes.get(endpointKey)
    if (lane !== undefined) return lane
    const endpoint = known ?? this.#tools.endpoint(endpointKey)
    lane = new Lane(endpointKey, endpoint?.tenantId ?? '')
    if (endpoint === undefined || endpoint.status === 'disabled') lane.paused = true
    else applyLimits(lane, endpoint, this.#tools.limits(endpoint))
    applyFlow(lane, this.#tools.flow(endpointKey))
    this.#lanes.set(endpointKey, lane)
    return lane
  }

  /** Whoever still knows a lane that was forgotten means that one, not its successor. */
  delete(lane: Lane): void {
    if (this.#lanes.get(lane.endpointKey) === lane) this.#lanes.delete(lane.endpointKey)
  }
}
