/** What leaves a store, by age or because it is erased; and what a check of its data finds. */

import type { CancelledDelivery } from './repairs.ts'

export interface RetentionCutoffs {
  /** Settled deliveries and attempts that ended before this go. */
  readonly settledBeforeMs: number
  /** Bodies of events all of whose deliveries were delivered or never existed, accepted before this. */
  readonly deliveredBodiesBeforeMs: number
  /** Bodies with a failed or cancelled delivery, settled before this. */
  readonly failedBodiesBeforeMs: number
  /**
   * Events accepted before this, of which nothing else is kept, are forgotten with their ids: the same
   * id is new again. As long as an event has deliveries or its body, its id is known.
   */
  readonly eventIdsBeforeMs: number
}

export type EraseSelection =
  | { readonly kind: 'ids'; readonly tenantId: string; readonly ids: readonly string[] }
  | { readonly kind: 'before'; readonly tenantId: string | null; readonly beforeMs: number }
  | { readonly kind: 'tenant'; readonly tenantId: string }

export interface EraseResult {
  readonly erased: number
  /** More events are selected than `limit`; or some are in flight and must be asked for again. */
  readonly more: boolean
  readonly inFlight: number
  /** So many that other processes own may yet begin: asked again until it is 0, they have heard of it. */
  readonly mayBegin: number
  /**
   * What this process owns of it, deliveries and batches: instead of waiting again they end as
   * cancelled, a batch is taken apart. What has not begun should be given back.
   */
  readonly marked: readonly CancelledDelivery[]
  /** Endpoints of keys that were held up by what is erased now: what was behind it is due. */
  readonly freed: readonly string[]
}

export interface AuditReport {
  readonly counts: Readonly<Record<string, number>>
  /** Endpoints by the id of the key that encrypts them; `''` counts those in the clear. */
  readonly encryption: Readonly<Record<string, number>>
  /** Empty when all is well. */
  readonly problems: readonly AuditProblem[]
}

export interface AuditProblem {
  /** Name of the invariant. */
  readonly invariant: string
  readonly count: number
  /** A few ids to look at. */
  readonly examples: readonly string[]
}
