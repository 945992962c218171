/** The flow of endpoints in memory, as it was last told. Endpoints without an entry are free. */
import { type EndpointFlow, freeFlow, heldUntil } from '../model/flow.ts'

export class FlowTable {
  readonly #flows = new Map<string, EndpointFlow>()

  get(endpointKey: string): EndpointFlow {
    return this.#flows.get(endpointKey) ?? freeFlow(endpointKey)
  }

  /** Of two that are told, in whichever order, the later breaker and the longer hold count. */
  note(flow: EndpointFlow): EndpointFlow {
    const { endpointKey } = flow
    const known = this.get(endpointKey)
    const isLater = flow.breaker.epoch >= known.breaker.epoch
    const noted = {
      endpointKey,
      heldUntilMs: heldUntil(known, flow),
      breaker: isLater ? flow.breaker : known.breaker,
      nextSendAtMs: flow.nextSendAtMs,
    }
    this.#flows.set(endpointKey, noted)
    return noted
  }

  noteHold(endpointKey: string, heldUntilMs: number): void {
    this.note({ ...this.get(endpointKey), heldUntilMs })
  }

  remove(endpointKey: string): void {
    this.#flows.delete(endpointKey)
  }
}
