/**
 * What the service tells: typed facts, flowing outward only. A listener that throws hurts no
 * delivery, and a fact nobody listens to is not even built.
 */
import { describeValue, WebhookError } from '../model/errors.ts'
import type { OutcomeKind } from '../model/outcome.ts'
import type { RepairKind, RepairState } from '../model/repair.ts'
import { unknownOption } from '../model/suggest.ts'

export interface DeliveryFact {
  deliveryId: string
  eventId: string
  eventType: string
  endpointId: string
  tenantId: string | null
  /** Attempts made so far. */
  attempts: number
  reason: string
  /** Set when it travelled in a batch. */
  batchId: string | null
}

export interface AttemptFact {
  /** A delivery, or a batch. */
  deliveryId: string
  eventId: string
  eventType: string
  endpointId: string
  tenantId: string | null
  attempt: number
  outcome: OutcomeKind
  httpStatus: number | null
  error: string | null
  latencyMs: number
  /** Null when none follows. */
  nextAttemptAt: Date | null
  /** Deliveries it carried: 1, or the members of a batch. */
  deliveries: number
}

export interface RepairFact {
  repairId: string
  kind: RepairKind
  endpointId: string
  tenantId: string | null
  /** So far, as in `getRepair`. */
  matched: number
  queued: number
  skipped: Readonly<Record<string, number>>
}

export interface EndpointFact {
  endpointId: string
  tenantId: string | null
}

export interface WebhookFacts {
  'event.accepted': {
    eventId: string
    eventType: string
    tenantId: string | null
    deliveries: number
  }
  /** One of a caller's transaction: nobody is left to be told that its id belongs to another event. */
  'event.refused': {
    eventId: string
    eventType: string
    tenantId: string | null
    code: string
    message: string
  }
  'attempt.settled': AttemptFact
  'delivery.delivered': DeliveryFact
  /** It ended as `exhausted` or `rejected`. */
  'delivery.failed': DeliveryFact & { state: 'exhausted' | 'rejected' }
  /**
   * Ended without being sent (again), by this process; each member of a batch for itself. Not told:
   * what `eraseEvents` ends, which returns how many, and what had been cancelled while it was under
   * way in a process that died.
   */
  'delivery.cancelled': { deliveryId: string; endpointId: string; reason: string }
  'endpoint.changed': {
    endpointId: string
    tenantId: string | null
    what: string
    reason: string | null
    version: number
  }
  /** Too many attempts in a row failed: nothing is sent to it before `until`. */
  'endpoint.breaker.opened': EndpointFact & { until: Date; openings: number }
  /** One attempt is made; by how it ends the breaker opens again or closes. */
  'endpoint.breaker.half-open': EndpointFact
  /** It is sent to again, slowly at first. */
  'endpoint.breaker.closed': EndpointFact
  /** It has failed for a while (`early`), or will be disabled within a day if that goes on (`final`). */
  'endpoint.failing': EndpointFact & {
    stage: 'early' | 'final'
    /** Its first failure since it last answered. */
    since: Date
    failedDeliveries: number
    /** Null: it is never disabled for failing. */
    disableAt: Date | null
  }
  /** By request, for a run of failures, or by its own 410. */
  'endpoint.disabled': EndpointFact & { reason: string; disabledAt: Date }
  /** It answers again after an `endpoint.failing`. */
  'endpoint.recovered': EndpointFact & { since: Date; failedDeliveries: number }
  'endpoint.warning': { endpointId: string; tenantId: string | null; warning: string }
  /** It has made a step. */
  'repair.progress': RepairFact
  /** It has ended: `done`, `cancelled` or `failed`. */
  'repair.done': RepairFact & { state: RepairState; reason: string | null }
  /** `maxBacklog` or `maxTenantBacklog` is reached, or one endpoint holds half of it. Told once each time. */
  'backlog.full': {
    scope: 'service' | 'tenant' | 'endpoint'
    tenantId: string | null
    endpointId: string | null
    limit: number
  }
  'storage.trouble': { code: string; message: string }
  'storage.recovered': Record<string, never>
}

export type FactName = keyof WebhookFacts
export type FactListener<Name extends FactName> = (fact: WebhookFacts[Name]) => void

const isFact: Readonly<Record<FactName, true>> = {
  'event.accepted': true,
  'event.refused': true,
  'attempt.settled': true,
  'delivery.delivered': true,
  'delivery.failed': true,
  'delivery.cancelled': true,
  'endpoint.changed': true,
  'endpoint.breaker.opened': true,
  'endpoint.breaker.half-open': true,
  'endpoint.breaker.closed': true,
  'endpoint.failing': true,
  'endpoint.disabled': true,
  'endpoint.recovered': true,
  'endpoint.warning': true,
  'repair.progress': true,
  'repair.done': true,
  'backlog.full': true,
  'storage.trouble': true,
  'storage.recovered': true,
}

export class Facts {
  readonly #listeners = new Map<FactName, Set<(fact: never) => void>>()
  readonly #threw: (name: FactName, error: unknown) => void

  constructor(threw: (name: FactName, error: unknown) => void) {
    this.#threw = threw
  }

  /** @returns what stops listening @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID */
  on<Name extends FactName>(name: Name, listener: FactListener<Name>): () => void {
    if (!Object.hasOwn(isFact, name)) {
      throw unknownOption(String(name), Object.keys(isFact), 'a fact to listen to')
    }
    if (typeof listener !== 'function') {
      throw new WebhookError(
        'OPTION_INVALID',
        `Expected a function that is told of \`${name}\`, got ${describeValue(listener)}.`,
      )
    }
    const listeners = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, listeners)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(name)
    }
  }

  wants(name: FactName): boolean {
    return this.#listeners.has(name)
  }

  tell<Name extends FactName>(name: Name, fact: WebhookFacts[Name]): void {
    const listeners = this.#listeners.get(name) as Set<FactListener<Name>> | undefined
    if (listeners === undefined) return
    for (const listener of listeners) {
      try {
        const answer: unknown = listener(fact)
        // An async listener must not end as an unhandled rejection of the host process.
        if (answer instanceof Promise) answer.catch((error: unknown) => this.#threw(name, error))
      } catch (error) {
        this.#threw(name, error)
      }
    }
  }
}
