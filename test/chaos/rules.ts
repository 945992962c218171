/** What must never happen in a chaos world, watched at every request and at every fact. */
import type { WebhookService } from '@k-msg/webhook'
import type { Sent } from './scripted-dispatcher.ts'

export interface RuleLimits {
  readonly concurrency: number
  readonly maxAttempts: number
}

/** When an event may be sent, as whoever dispatched it said. */
export interface Times {
  deliverAt?: Date
  expiresAt?: Date
}

/** How a delivery has ended, as a process has told. */
export interface Ended {
  readonly how: 'delivered' | 'failed' | 'cancelled'
  readonly atMs: number
  readonly by: WebhookService
}

/** Of deliveries: outlives the processes. */
export class Rules {
  readonly limits: RuleLimits
  readonly broken: string[] = []
  readonly times = new Map<string, Times>()
  sent = 0
  /** By delivery: when the next attempt may be made. */
  readonly #notBeforeMs = new Map<string, number>()
  readonly #ended = new Map<string, Ended>()
  /** Events that no process can begin any more. */
  readonly #erased = new Set<string>()
  readonly #nowMs: () => number
  /** Somebody asked for another attempt at once. */
  readonly #hurried = new Set<string>()
  /** Deliveries that were sent at least once. */
  readonly #begun = new Set<string>()

  constructor(limits: RuleLimits, nowMs: () => number) {
    this.limits = limits
    this.#nowMs = nowMs
  }

  breaks(rule: string): void {
    this.broken.push(rule)
  }

  /** Another attempt was asked for: who retries an earlier round means the newest. */
  hurry(deliveryId: string): void {
    this.#hurried.add(anyRound(deliveryId))
  }

  isHurried(deliveryId: string): boolean {
    return this.#hurried.has(anyRound(deliveryId))
  }

  hasEnded(deliveryId: string): boolean {
    return this.#ended.has(deliveryId)
  }

  /** Whoever erased it was told that nothing of it is in flight. */
  erased(eventId: string): void {
    this.#erased.add(eventId)
  }

  /** Follows what a process says of deliveries. */
  listen(service: WebhookService): void {
    service.on('attempt.settled', ({ deliveryId, nextAttemptAt, attempt }) => {
      if (nextAttemptAt !== null) this.#notBeforeMs.set(deliveryId, nextAttemptAt.getTime())
      if (attempt > this.limits.maxAttempts) this.breaks(`attempt ${attempt} of ${deliveryId}`)
    })
    const ends = (how: Ended['how']) => (fact: { readonly deliveryId: string }) =>
      this.#ended.set(fact.deliveryId, { how, atMs: this.#nowMs(), by: service })
    service.on('delivery.delivered', ends('delivered'))
    service.on('delivery.failed', ends('failed'))
    service.on('delivery.cancelled', ends('cancelled'))
  }

  /** @param mayNotKnow whether the process need not have heard of this end */
  begins(
    { request: { deliveryId, eventId }, atMs }: Sent,
    mayNotKnow: (ended: Ended) => boolean = () => false,
  ): void {
    this.sent += 1
    const ended = this.#ended.get(deliveryId)
    if (ended !== undefined && !mayNotKnow(ended)) {
      this.breaks(`${deliveryId} was sent ${atMs - ended.atMs} ms after it was ${ended.how}`)
    }
    if (this.#erased.has(eventId)) this.breaks(`${deliveryId} was sent after it was erased`)
    const isHurried = this.isHurried(deliveryId)
    if (!isHurried && atMs < (this.#notBeforeMs.get(deliveryId) ?? 0)) {
      this.breaks(`${deliveryId} was sent before its time`)
    }
    if (this.#begun.has(deliveryId)) return
    this.#begun.add(deliveryId)
    const { deliverAt, expiresAt } = this.times.get(eventId) ?? {}
    if (!isHurried && atMs < (deliverAt?.getTime() ?? 0)) {
      this.breaks(`${deliveryId} was sent before it was to be delivered`)
    }
    // Replays do not expire.
    const isFirstRound = deliveryId === anyRound(deliveryId)
    if (isFirstRound && atMs > (expiresAt?.getTime() ?? Number.POSITIVE_INFINITY)) {
      this.breaks(`${deliveryId} was sent after it had expired`)
    }
  }
}

/** Of endpoints, as one process has heard of them. */
export class ProcessRules {
  readonly #rules: Rules
  /** Requests under way, by endpoint key. */
  readonly #underWay = new Map<string, Set<Sent>>()
  /** By endpoint id. */
  readonly #status = new Map<string, string>()
  /** By endpoint key: one that is removed and registered anew is another. */
  readonly #heldUntilMs = new Map<string, number>()
  /** Keys of endpoints that have answered 410. */
  readonly #gone = new Set<string>()
  /** Keys that requests had, by endpoint id. */
  readonly #keys = new Map<string, Set<string>>()

  constructor(rules: Rules) {
    this.#rules = rules
  }

  listen(service: WebhookService): void {
    this.#rules.listen(service)
    service.on('endpoint.changed', ({ endpointId, what }) => {
      const status = { paused: 'paused', disabled: 'disabled', removed: 'disabled' }[what]
      if (status !== undefined) this.#status.set(endpointId, status)
      else if (['resumed', 'enabled', 'registered'].includes(what)) this.#isActive(endpointId)
    })
  }

  async learn(service: WebhookService): Promise<void> {
    for (const { id, status } of await service.listEndpoints()) this.#status.set(id, status)
  }

  /** Somebody has seen to it: it may be sent to. */
  #isActive(endpointId: string): void {
    this.#status.set(endpointId, 'active')
    for (const key of this.#keys.get(endpointId) ?? []) {
      this.#gone.delete(key)
      this.#heldUntilMs.delete(key)
    }
  }

  begins(sent: Sent): void {
    const { deliveryId, endpoint } = sent.request
    const rules = this.#rules
    rules.begins(sent)
    this.#keys.set(endpoint.id, (this.#keys.get(endpoint.id) ?? new Set()).add(endpoint.key))
    const status = this.#status.get(endpoint.id) ?? 'active'
    if (status !== 'active') rules.breaks(`${deliveryId} was sent while its endpoint is ${status}`)
    if (this.#gone.has(endpoint.key)) rules.breaks(`${deliveryId} was sent after a 410`)
    if (sent.atMs < (this.#heldUntilMs.get(endpoint.key) ?? 0)) {
      rules.breaks(`${deliveryId} was sent while its endpoint had asked for time`)
    }
    const underWay = this.#underWay.get(endpoint.key) ?? new Set()
    this.#underWay.set(endpoint.key, underWay)
    for (const { request } of underWay) {
      if (request.deliveryId === deliveryId) rules.breaks(`${deliveryId} was sent twice at once`)
    }
    underWay.add(sent)
    if (underWay.size > rules.limits.concurrency) {
      rules.breaks(`${underWay.size} requests to ${endpoint.id}`)
    }
  }

  ends({ request, outcome }: Sent, nowMs: number): void {
    const { key } = request.endpoint
    const underWay = this.#underWay.get(key)
    for (const one of underWay ?? []) if (one.request === request) underWay?.delete(one)
    if (outcome?.kind === 'gone') this.#gone.add(key)
    if (outcome?.kind === 'throttled' && outcome.retryAfterMs !== null) {
      const untilMs = nowMs + Math.max(1_000, outcome.retryAfterMs)
      this.#heldUntilMs.set(key, Math.max(this.#heldUntilMs.get(key) ?? 0, untilMs))
    }
  }
}

function anyRound(deliveryId: string): string {
  return deliveryId.replace(/_r\d+$/, '')
}
