/**
 * Why a delivery that waits is not sent yet. Pure, and from stored state alone, so that any process
 * can tell, whichever would send it.
 */
import { behindMs, type DeliveryState, type WaitingFor } from '../model/delivery.ts'
import type { EndpointStatus } from '../model/endpoint.ts'
import type { EndpointFlow } from '../model/flow.ts'

export type { WaitingFor }

export interface WaitingReason {
  readonly waitingFor: WaitingFor
  /** When that ends at the earliest; null when nobody can know. */
  readonly untilMs: number | null
}

/**
 * @param flow of its endpoint; null when nothing is stored of it
 * @returns what ends last of all that it waits for, and of two at once what made it so: after a
 *   `Retry-After` the next attempt is due when that ends; null when it does not wait
 */
export function waitingReason(
  endpoint: { readonly status: EndpointStatus },
  flow: EndpointFlow | null,
  delivery: { readonly state: DeliveryState; readonly dueAtMs: number | null },
  nowMs: number,
): WaitingReason | null {
  if (delivery.state !== 'waiting') return null
  if (endpoint.status === 'paused') return { waitingFor: 'paused', untilMs: null }
  if ((delivery.dueAtMs ?? 0) >= behindMs) return { waitingFor: 'ordering', untilMs: null }
  const breaker = flow?.breaker ?? null
  const isBroken = breaker !== null && breaker.state !== 'closed'
  const waits: [WaitingFor, number][] = [
    ['schedule', delivery.dueAtMs ?? 0],
    ['retry-after', flow?.heldUntilMs ?? 0],
    // Open past its time, or with a probe under way: still nothing else is sent.
    ['breaker', isBroken ? Math.max(breaker.untilMs, nowMs + 1) : 0],
    ['rate', flow?.nextSendAtMs ?? 0],
  ]
  let last: [WaitingFor, number] | null = null
  for (const wait of waits) if (wait[1] > nowMs && wait[1] >= (last?.[1] ?? 0)) last = wait
  if (last === null) return { waitingFor: 'concurrency', untilMs: null }
  const [waitingFor, untilMs] = last
  if (waitingFor === 'breaker' && (breaker?.untilMs ?? 0) <= nowMs) {
    return { waitingFor, untilMs: null }
  }
  return { waitingFor, untilMs }
}
