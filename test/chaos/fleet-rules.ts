/**
 * What must never happen in a fleet: the rules of one process, as far as the others can know. What one
 * decides, the others hear of within `hearWithinMs`, unless they were stopped or cut off meanwhile.
 */
import type { WebhookService } from '@k-msg/webhook'
import type { Machine } from './machine.ts'
import type { Rules } from './rules.ts'
import type { Sent } from './scripted-dispatcher.ts'

export interface FleetLimits {
  readonly concurrency: number
  readonly leaseMs: number
  readonly hearWithinMs: number
}

/** How things are in the database, read while nothing was under way. */
export interface Truth {
  readonly endpoints: readonly TrueEndpoint[]
  readonly ordered: readonly OrderedDelivery[]
}

export interface TrueEndpoint {
  readonly key: string
  readonly id: string
  readonly status: string
  readonly rateLimit: { limit: number; perMs: number } | null
  readonly heldUntilMs: number
}

export interface OrderedDelivery {
  readonly id: string
  readonly endpointKey: string
  readonly orderKey: string
  readonly orderNo: number
}

interface Request {
  readonly sent: Sent
  readonly machine: Machine
}

interface Since<T> {
  readonly value: T
  readonly sinceMs: number
}

export class FleetRules {
  readonly #rules: Rules
  readonly #limits: FleetLimits
  readonly #nowMs: () => number
  readonly #underWay = new Set<Request>()
  /** Endpoint ids that somebody has worked on since the last truth. */
  readonly #touched = new Set<string>()
  /** Work on endpoints that is not answered. */
  readonly #working = new Set<{ readonly endpointId: string; readonly machine: Machine }>()
  readonly #status = new Map<string, Since<string>>()
  readonly #held = new Map<string, Since<number>>()
  readonly #rates = new Map<string, Since<string>>()
  readonly #sends = new Map<string, number[]>()
  /** Rules that are broken if this delivery still waits: it may have ended without being told. */
  readonly #overtaken = new Map<string, string>()
  #ordered = new Map<string, OrderedDelivery>()

  constructor(rules: Rules, limits: FleetLimits, nowMs: () => number) {
    this.#rules = rules
    this.#limits = limits
    this.#nowMs = nowMs
  }

  /** Somebody works on the endpoint: nobody can say what holds until he is answered. */
  async works<T>(machine: Machine, endpointId: string, work: () => Promise<T>): Promise<T> {
    const working = { endpointId, machine }
    this.#working.add(working)
    try {
      return await work()
    } finally {
      this.#working.delete(working)
      this.#touched.add(endpointId)
    }
  }

  learn({ endpoints, ordered }: Truth): void {
    const nowMs = this.#nowMs()
    for (const { key, status, heldUntilMs, rateLimit } of endpoints) {
      keep(this.#status, key, status, nowMs)
      keep(this.#held, key, heldUntilMs, nowMs)
      keep(this.#rates, key, JSON.stringify(rateLimit), nowMs)
    }
    this.#ordered = new Map(ordered.map((one) => [one.id, one]))
    for (const [id, rule] of this.#overtaken) if (this.#ordered.has(id)) this.#breaks(rule)
    this.#overtaken.clear()
    this.#touched.clear()
    for (const { endpointId } of this.#working) this.#touched.add(endpointId)
  }

  begins({ machine, service }: { machine: Machine; service: WebhookService }, sent: Sent): void {
    const { deliveryId, endpoint } = sent.request
    const { atMs } = sent
    const isWell = machine.troubledMs < atMs - this.#limits.leaseMs
    const heard = atMs - this.#limits.hearWithinMs
    if (machine.isDead || machine.isStopped) this.#breaks(`${deliveryId} was sent by nobody`)
    // What another has cancelled is heard of in a moment; what has been delivered is nobody's.
    this.#rules.begins(
      sent,
      ({ how, by, ...ended }) =>
        how === 'cancelled' && by !== service && (ended.atMs >= heard || !isWell),
    )
    const sends = this.#sends.get(endpoint.key) ?? []
    this.#sends.set(endpoint.key, [...sends.slice(-9), atMs])
    if (isWell && !this.#isTouched(endpoint.id)) {
      this.#beginsAllowed(sent, heard)
      this.#isInTurn(deliveryId)
    }
    let requests = 0
    for (const other of this.#underWay) {
      const { request } = other.sent
      if (other.machine.isDead || request.endpoint.key !== endpoint.key) continue
      const bothWell = isWell && other.machine.troubledMs < other.sent.atMs - this.#limits.leaseMs
      if (other.machine === machine || bothWell) {
        requests += 1
        if (request.deliveryId === deliveryId) this.#breaks(`${deliveryId} was sent twice at once`)
        if (this.#sharesKey(deliveryId, request.deliveryId)) {
          this.#breaks(`${deliveryId} was sent beside ${request.deliveryId} of its key`)
        }
      }
    }
    this.#underWay.add({ sent, machine })
    if (requests + 1 > this.#limits.concurrency) {
      this.#breaks(`${requests + 1} requests to ${endpoint.id} (${deliveryId})`)
    }
  }

  ends(machine: Machine, sent: Sent): void {
    for (const one of this.#underWay) {
      if (one.machine === machine && one.sent === sent) this.#underWay.delete(one)
    }
  }

  died(machine: Machine): void {
    for (const one of this.#working) {
      if (one.machine !== machine) continue
      this.#working.delete(one)
      this.#touched.add(one.endpointId)
    }
    for (const one of this.#underWay) if (one.machine === machine) this.#underWay.delete(one)
  }

  #breaks(rule: string): void {
    this.#rules.breaks(rule)
  }

  #beginsAllowed({ request: { deliveryId, endpoint }, atMs }: Sent, heard: number): void {
    const status = this.#status.get(endpoint.key)
    if (status !== undefined && status.value !== 'active' && status.sinceMs < heard) {
      this.#breaks(
        `${deliveryId} was sent ${atMs - status.sinceMs} ms after it was ${status.value}`,
      )
    }
    const held = this.#held.get(endpoint.key)
    if (held !== undefined && held.value > atMs && held.sinceMs < heard) {
      this.#breaks(
        `${deliveryId} was sent while its endpoint had asked for time (${held.value - atMs} ms left)`,
      )
    }
    const rate = this.#rates.get(endpoint.key)
    if (rate === undefined || rate.value === 'null') return
    const { limit, perMs } = JSON.parse(rate.value) as { limit: number; perMs: number }
    const fromMs = Math.max(rate.sinceMs + 2 * this.#limits.hearWithinMs, atMs - perMs)
    const sends = (this.#sends.get(endpoint.key) ?? []).filter((ms) => ms > fromMs)
    if (sends.length > limit) {
      this.#breaks(`${sends.length} requests to ${endpoint.id} in ${perMs} ms (${deliveryId})`)
    }
  }

  /** What was before it in its key, and has not ended. */
  #isInTurn(deliveryId: string): void {
    const own = this.#ordered.get(deliveryId)
    if (own === undefined || this.#rules.isHurried(deliveryId)) return
    for (const other of this.#ordered.values()) {
      if (other.endpointKey !== own.endpointKey || other.orderKey !== own.orderKey) continue
      if (other.orderNo < own.orderNo && !this.#rules.hasEnded(other.id)) {
        this.#overtaken.set(other.id, `${deliveryId} was sent before ${other.id} of its key`)
      }
    }
  }

  #isTouched(endpointId: string): boolean {
    if (this.#touched.has(endpointId)) return true
    for (const working of this.#working) if (working.endpointId === endpointId) return true
    return false
  }

  #sharesKey(a: string, b: string): boolean {
    const [one, two] = [this.#ordered.get(a), this.#ordered.get(b)]
    return one !== undefined && one.orderKey === two?.orderKey
  }
}

function keep<T>(map: Map<string, Since<T>>, key: string, value: T, sinceMs: number): void {
  if (map.get(key)?.value !== value) map.set(key, { value, sinceMs })
}
