/** What customers and operators do, by the dice, with whichever process they meet. */
import type { WebhookEndpointChanges, WebhookEvent, WebhookService } from '@k-msg/webhook'
import type { Rules, Times } from './rules.ts'

export const retryScheduleMs = [1_000, 5_000, 30_000]
/** Rounds that a replay makes; what waits keeps its time. */
const ends = ['delivered', 'exhausted', 'rejected'] as const

/** A process, and what it has not answered yet. */
export interface Process {
  readonly service: WebhookService
  readonly pending: Set<Promise<unknown>>
}

export interface CustomerTools<P extends Process> {
  readonly random: () => number
  readonly nowMs: () => number
  readonly rules: Rules
  /** One of those that run. */
  readonly process: () => P
}

export class Customers<P extends Process> {
  /** Ids of events. */
  readonly accepted = new Set<string>()
  readonly rolledBack = new Set<string>()
  readonly #tools: CustomerTools<P>
  readonly #erased = new Set<string>()
  #events = 0

  constructor(tools: CustomerTools<P>) {
    this.#tools = tools
  }

  /** Nobody waits for the answer; a failing store may refuse it. */
  ask(call: (service: WebhookService, process: P) => Promise<unknown>): void {
    const process = this.#tools.process()
    this.#track(
      process,
      call(process.service, process).catch(() => {}),
    )
  }

  dispatch(count: number): void {
    const { random, nowMs, process, rules } = this.#tools
    const one = process()
    for (let i = 0; i < count; i += 1) {
      const isRepeat = random() < 0.1 && this.#events > 0
      const number = isRepeat ? this.#anyNumber() : this.#nextNumber()
      const event = this.#event(number)
      const times = this.#timesOf(event)
      if ((times.expiresAt?.getTime() ?? Infinity) <= nowMs()) continue
      if (this.rolledBack.has(event.id)) continue
      this.#track(
        one,
        one.service.dispatchEvent(event, times).then(
          () => this.accepted.add(event.id),
          (error: { code: string }) => {
            const expected = ['STORAGE_FULL', 'STORAGE_UNAVAILABLE', 'SERVICE_CLOSED']
            // Of an erased event nothing is kept that a second one could be compared with.
            if (this.#erased.has(event.id)) expected.push('EVENT_ID_CONFLICT')
            if (!expected.includes(error.code)) rules.breaks(`dispatch failed: ${String(error)}`)
          },
        ),
      )
    }
  }

  /** In a transaction of the caller, which is rolled back at times. */
  async dispatchWithin(client: { query(sql: string): Promise<unknown> }): Promise<void> {
    const { random, process, rules } = this.#tools
    const event = this.#event(this.#nextNumber())
    rules.times.set(event.id, {})
    const isCommitted = random() < 0.7
    await client.query('begin')
    await process().service.dispatchEvent(event, { transaction: client })
    await client.query(isCommitted ? 'commit' : 'rollback')
    if (isCommitted) this.accepted.add(event.id)
    else this.rolledBack.add(event.id)
  }

  replay(endpointId: string): void {
    this.ask((service) => service.replay({ endpointId, states: ends }))
  }

  retryOne(): void {
    const { rules } = this.#tools
    this.ask(async (service) => {
      const { deliveries } = await service.listDeliveries({ limit: 50 })
      const one = this.pick(deliveries)
      if (one === undefined) return
      rules.hurry(one.id)
      if (one.batchId !== null) rules.hurry(one.batchId)
      const { batchId } = await service.retryDelivery(one.id)
      if (batchId !== null) rules.hurry(batchId)
    })
  }

  cancelOne(): void {
    this.ask(async (service) => {
      const one = this.pick((await service.listDeliveries({ limit: 50 })).deliveries)
      if (one !== undefined) await service.cancelDelivery(one.id)
    })
  }

  eraseOne(): void {
    const id = `evt_${this.#anyNumber()}`
    this.#erased.add(id)
    const wasAccepted = this.accepted.has(id)
    this.ask(async (service) => {
      const { inFlight } = await service.eraseEvents({ ids: [id] })
      if (wasAccepted && inFlight === 0) this.#tools.rules.erased(id)
    })
  }

  /** @param more than one request at a time */
  change(more: number): WebhookEndpointChanges {
    return this.pick<WebhookEndpointChanges>([
      { batch: { size: 3, timeoutMs: 2_000 } },
      { batch: false },
      { batch: false, ordering: { key: 'k', onExhausted: 'skip' } },
      { batch: false, ordering: { key: 'k', onExhausted: 'block' } },
      { ordering: null },
      { rateLimit: { limit: 5, perMs: 1_000 } },
      { rateLimit: { limit: 1, perMs: 4_000 } },
      { rateLimit: null },
      { concurrency: 1 },
      { concurrency: more },
      { events: ['message.*'] },
      { events: ['*'] },
      { headers: { 'x-team': `${this.#events}` } },
    ]) as WebhookEndpointChanges
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#tools.random() * list.length)]
  }

  #nextNumber(): number {
    this.#events += 1
    return this.#events
  }

  #anyNumber(): number {
    return Math.ceil(this.#tools.random() * this.#events)
  }

  #event(number: number): WebhookEvent {
    return {
      id: `evt_${number}`,
      type: number % 3 === 0 ? 'template.created' : 'message.sent',
      timestamp: new Date(this.#tools.nowMs()),
      data: { number },
      metadata: { k: `${number % 4}` },
    }
  }

  /** The same each time it is dispatched. */
  #timesOf({ id }: WebhookEvent): Times {
    const { random, nowMs, rules } = this.#tools
    const known = rules.times.get(id)
    if (known !== undefined) return known
    const after = (sinceMs: number, ms: number) => new Date(Math.round(sinceMs + 1 + random() * ms))
    const times: Times = {}
    if (random() < 0.1) times.deliverAt = after(nowMs(), 60_000)
    if (random() < 0.15) times.expiresAt = after(times.deliverAt?.getTime() ?? nowMs(), 30_000)
    rules.times.set(id, times)
    return times
  }

  #track({ pending }: Process, promise: Promise<unknown>): void {
    pending.add(promise)
    void promise.finally(() => pending.delete(promise))
  }
}

/** A moment for threads and servers. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1)
  })
}

/**
 * What must hold when nothing is left to do.
 *
 * @param isForgetful what has ended may be gone
 */
export async function judge(
  service: WebhookService,
  { accepted, rolledBack }: Pick<Customers<Process>, 'accepted' | 'rolledBack'>,
  rules: Rules,
  isForgetful = false,
): Promise<void> {
  const { problems } = await service.audit()
  for (const problem of problems) rules.breaks(`audit: ${JSON.stringify(problem)}`)
  const { backlog } = await service.health()
  if ((backlog?.waiting ?? 0) + (backlog?.delivering ?? 0) > 0) {
    rules.breaks(`left in the store: ${JSON.stringify(backlog)}`)
  }
  for (const id of rolledBack) {
    if ((await service.getEvent(id)) !== null) rules.breaks(`${id} was rolled back`)
  }
  for (const id of accepted) {
    const report = await service.getEvent(id)
    if (report === null && !isForgetful) rules.breaks(`${id} was accepted and is not known`)
    for (const { state, reason } of report?.deliveries ?? []) {
      if (state === 'waiting' || state === 'delivering' || reason === null) {
        rules.breaks(`${id} has not ended: ${state}, ${reason}`)
      }
    }
  }
}
