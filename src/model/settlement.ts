/** What is written because of an outcome. Made by policy/settle.ts, carried out by the store. */
import type { EndState } from './delivery.ts'

export type Settlement =
  | { readonly state: EndState; readonly reason: string; readonly effect: EndpointEffect | null }
  | {
      readonly state: 'waiting'
      readonly reason: string
      readonly dueAtMs: number
      readonly effect: EndpointEffect | null
    }

/** What an outcome does to the endpoint as a whole. */
export type EndpointEffect =
  /** 410: no delivery is made for it any more, the waiting ones are cancelled. */
  | { readonly kind: 'disable'; readonly reason: string }
  /** `Retry-After`: nothing is sent to it before then. */
  | { readonly kind: 'hold'; readonly untilMs: number }
  | { readonly kind: 'warn'; readonly warning: string }
