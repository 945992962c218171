/**
 * Days of a service in a second, by the dice: events, changes of endpoints, answers of all kinds,
 * a store that fails, restarts and kills, in an order that a seed decides. The rules are watched all
 * the time; when the faults stop, everything has to come to an end, and the file has to be in order.
 */
import {
  type Storage,
  type WebhookEndpointChanges,
  type WebhookEvent,
  WebhookService,
} from '@k-msg/webhook'
import { manualClock } from '@k-msg/webhook/testing'
import { randomFrom } from '../crash/random.ts'
import { type FaultyStorage, faultyStorage } from './faulty-storage.ts'
import { ProcessRules, Rules, type Times } from './rules.ts'
import { ScriptedDispatcher } from './scripted-dispatcher.ts'

const endpointIds = ['a', 'b', 'c', 'd']
const retryScheduleMs = [1_000, 5_000, 30_000]
const concurrency = 3
/** Rounds that a replay makes; what waits keeps its time. */
const ends = ['delivered', 'exhausted', 'rejected'] as const

export interface Outcome {
  readonly broken: readonly string[]
  readonly accepted: number
  readonly sent: number
  readonly restarts: number
}

interface Run {
  readonly service: WebhookService
  readonly storage: FaultyStorage
  readonly dispatcher: ScriptedDispatcher
}

export class World {
  readonly #random: () => number
  readonly #clock = manualClock()
  readonly #storage: () => Storage
  readonly #rules = new Rules({ concurrency, maxAttempts: retryScheduleMs.length + 1 })
  readonly #accepted = new Map<string, string>()
  readonly #pending = new Set<Promise<unknown>>()
  readonly #erased = new Set<number>()
  #events = 0
  #restarts = 0
  #run: Run | null = null

  /** @param storage the same data each time */
  constructor(seed: number, storage: () => Storage) {
    this.#random = randomFrom(seed)
    this.#storage = storage
  }

  async live(steps: number): Promise<Outcome> {
    try {
      await this.#open()
      for (const id of endpointIds)
        this.#ask((service) => service.registerEndpoint(this.#input(id)))
      await this.#rest()
      for (let step = 0; step < steps; step += 1) {
        await this.#step()
        if (this.#random() < 0.5) await this.#turns()
      }
      await this.#comeToRest()
      await this.#judge()
    } finally {
      await this.#end()
    }
    const { size: accepted } = this.#accepted
    const { broken, sent } = this.#rules
    return { broken, accepted, sent, restarts: this.#restarts }
  }

  async #end(): Promise<void> {
    if (this.#run === null) return
    this.#run.storage.faults = 0
    const closed = this.#run.service.close()
    this.#run.dispatcher.letGo()
    await this.#until(closed)
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────

  async #step(): Promise<void> {
    const dice = this.#random()
    const id = this.#pick(endpointIds)
    if (dice < 0.34) this.#dispatch(1 + Math.floor(this.#random() * 4))
    else if (dice < 0.36) this.#dispatch(60)
    else if (dice < 0.51) this.#pass(this.#random() * 4_000)
    else if (dice < 0.525) this.#cancelOne()
    else if (dice < 0.53) this.#ask((service) => service.cancelPending(id))
    else if (dice < 0.54) this.#ask((service) => service.replay({ endpointId: id, states: ends }))
    else if (dice < 0.57) this.#pass(this.#random() * 60_000)
    else if (dice < 0.67) this.#now.dispatcher.letGo()
    else if (dice < 0.7) this.#ask((service) => service.pauseEndpoint(id))
    else if (dice < 0.76) this.#ask((service) => service.resumeEndpoint(id))
    else if (dice < 0.79) this.#ask((service) => service.updateEndpoint(id, this.#change()))
    else if (dice < 0.8) this.#ask((service) => service.updateEndpoint(id, { active: false }))
    else if (dice < 0.81) this.#ask((service) => service.removeEndpoint(id))
    else if (dice < 0.84) this.#ask((service) => service.registerEndpoint(this.#input(id)))
    else if (dice < 0.88) this.#retryOne()
    else if (dice < 0.89) this.#eraseOne()
    else if (dice < 0.93) this.#now.storage.faults = this.#random() < 0.5 ? 0 : this.#random() * 0.5
    else if (dice < 0.95) await this.#restart()
    else if (dice < 0.97) await this.#kill()
    else await this.#turns()
  }

  #input(id: string) {
    return { id, url: `https://${id}.example.com/`, events: ['*'], concurrency }
  }

  #change(): WebhookEndpointChanges {
    return this.#pick<WebhookEndpointChanges>([
      { batch: { size: 3, timeoutMs: 2_000 } },
      { batch: false },
      { batch: false, ordering: { key: 'k', onExhausted: 'skip' } },
      { batch: false, ordering: { key: 'k', onExhausted: 'block' } },
      { ordering: null },
      { rateLimit: { limit: 5, perMs: 1_000 } },
      { rateLimit: { limit: 1, perMs: 4_000 } },
      { rateLimit: null },
      { concurrency: 1 },
      { concurrency },
      { events: ['message.*'] },
      { events: ['*'] },
      { headers: { 'x-team': `${this.#events}` } },
    ])
  }

  #dispatch(count: number): void {
    const { service } = this.#now
    for (let i = 0; i < count; i += 1) {
      const isRepeat = this.#random() < 0.1 && this.#events > 0
      const number = isRepeat ? Math.ceil(this.#random() * this.#events) : this.#events + 1
      if (!isRepeat) this.#events += 1
      const event: WebhookEvent = {
        id: `evt_${number}`,
        type: number % 3 === 0 ? 'template.created' : 'message.sent',
        timestamp: new Date(this.#clock.nowMs()),
        data: { number },
        metadata: { k: `${number % 4}` },
      }
      const times = this.#timesOf(event)
      if ((times.expiresAt?.getTime() ?? Infinity) <= this.#clock.nowMs()) continue
      this.#track(
        service.dispatchEvent(event, times).then(
          ({ eventId }) => this.#accepted.set(eventId, eventId),
          (error: { code: string }) => {
            const expected = ['STORAGE_FULL', 'STORAGE_UNAVAILABLE', 'SERVICE_CLOSED']
            // Of an erased event nothing is kept that a second one could be compared with.
            if (this.#erased.has(number)) expected.push('EVENT_ID_CONFLICT')
            if (!expected.includes(error.code))
              this.#rules.breaks(`dispatch failed: ${String(error)}`)
          },
        ),
      )
    }
  }

  /** The same each time it is dispatched. */
  #timesOf({ id }: WebhookEvent): Times {
    const known = this.#rules.times.get(id)
    if (known !== undefined) return known
    const after = (sinceMs: number, ms: number) =>
      new Date(Math.round(sinceMs + 1 + this.#random() * ms))
    const nowMs = this.#clock.nowMs()
    const times: Times = {}
    if (this.#random() < 0.1) times.deliverAt = after(nowMs, 60_000)
    if (this.#random() < 0.15) {
      times.expiresAt = after(times.deliverAt?.getTime() ?? nowMs, 30_000)
    }
    this.#rules.times.set(id, times)
    return times
  }

  #retryOne(): void {
    this.#ask(async (service) => {
      const { deliveries } = await service.listDeliveries({ limit: 50 })
      const one = deliveries[Math.floor(this.#random() * deliveries.length)]
      if (one === undefined) return
      this.#rules.hurry(one.id)
      if (one.batchId !== null) this.#rules.hurry(one.batchId)
      const { batchId } = await service.retryDelivery(one.id)
      if (batchId !== null) this.#rules.hurry(batchId)
    })
  }

  #cancelOne(): void {
    this.#ask(async (service) => {
      const { deliveries } = await service.listDeliveries({ limit: 50 })
      await service.cancelDelivery(this.#pick(deliveries).id)
    })
  }

  #eraseOne(): void {
    const number = Math.ceil(this.#random() * this.#events)
    this.#erased.add(number)
    this.#ask((service) => service.eraseEvents({ ids: [`evt_${number}`] }))
  }

  async #restart(): Promise<void> {
    this.#restarts += 1
    const { service, dispatcher } = this.#now
    const closed = service.close()
    if (this.#random() < 0.5) dispatcher.letGo()
    await this.#until(closed)
    await this.#open()
  }

  async #kill(): Promise<void> {
    this.#restarts += 1
    const { storage, dispatcher } = this.#now
    dispatcher.isDead = true
    await storage.die()
    // Nobody who asked the dead process will ever be answered.
    this.#pending.clear()
    await this.#open()
  }

  #pass(ms: number): void {
    this.#clock.advance(Math.round(ms))
  }

  // ── the process ────────────────────────────────────────────────────────────────────────────────

  get #now(): Run {
    if (this.#run === null) throw new Error('Expected an open service.')
    return this.#run
  }

  async #open(): Promise<void> {
    const storage = faultyStorage(this.#storage(), this.#random)
    const rules = new ProcessRules(this.#rules)
    const dispatcher = new ScriptedDispatcher({
      nowMs: () => this.#clock.nowMs(),
      random: this.#random,
      begins: (sent) => rules.begins(sent),
      ends: (sent) => rules.ends(sent, this.#clock.nowMs()),
    })
    const service = new WebhookService(
      {
        storage,
        clock: this.#clock,
        random: this.#random,
        secretKey: 'a-secret-of-the-chaos',
        retryScheduleMs,
        memoryCapacity: 100,
        maxConcurrency: 8,
        shutdownTimeoutMs: 1_000,
        logger: false,
      },
      { dispatcher },
    )
    this.#run = { service, storage, dispatcher }
    rules.listen(service)
    await service.ready()
    await rules.learn(service)
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────

  async #comeToRest(): Promise<void> {
    this.#now.storage.faults = 0
    const { service } = this.#now
    await this.#rest()
    for (const id of endpointIds) this.#ask((one) => one.resumeEndpoint(id))
    await this.#rest()
    // What failed holds nothing up any more.
    for (const id of endpointIds) {
      this.#ask((one) => one.updateEndpoint(id, { ordering: null, rateLimit: null }))
    }
    await this.#rest()
    await this.#endRepairs()
    const drained = service.drain().then(() => true)
    let isDrained = false
    void drained.then(() => {
      isDrained = true
    })
    for (let i = 0; i < 3_000 && !isDrained; i += 1) {
      this.#now.dispatcher.letGo()
      await this.#turns()
      const next = this.#clock.nextTimerAtMs
      if (next !== null) this.#clock.set(Math.min(next, this.#clock.nowMs() + 30_000))
    }
    if (!isDrained) this.#rules.breaks('it does not come to rest')
    await this.#rest()
  }

  async #endRepairs(): Promise<void> {
    for (let i = 0; i < 3_000; i += 1) {
      const repairs = await this.#now.service.listRepairs()
      if (repairs.every(({ state }) => state !== 'running')) return
      this.#now.dispatcher.letGo()
      await this.#turns()
      this.#pass(100)
    }
    this.#rules.breaks('a repair does not end')
  }

  async #judge(): Promise<void> {
    const { service } = this.#now
    const { problems } = await service.audit()
    for (const problem of problems) this.#rules.breaks(`audit: ${JSON.stringify(problem)}`)
    const { backlog } = await service.health()
    if ((backlog?.waiting ?? 0) + (backlog?.delivering ?? 0) > 0) {
      this.#rules.breaks(`left in the store: ${JSON.stringify(backlog)}`)
    }
    for (const id of this.#accepted.keys()) {
      const report = await service.getEvent(id)
      if (report === null) this.#rules.breaks(`${id} was accepted and is not known`)
      for (const { state, reason } of report?.deliveries ?? []) {
        if (state === 'waiting' || state === 'delivering' || reason === null) {
          this.#rules.breaks(`${id} has not ended: ${state}, ${reason}`)
        }
      }
    }
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T
  }

  /** Nobody waits for the answer; a failing store may refuse it. */
  #ask(call: (service: WebhookService) => Promise<unknown>): void {
    this.#track(call(this.#now.service).catch(() => {}))
  }

  #track(promise: Promise<unknown>): void {
    this.#pending.add(promise)
    void promise.finally(() => this.#pending.delete(promise))
  }

  async #turns(): Promise<void> {
    await turn()
    // A question to the store is answered after all that was asked before.
    await this.#now.service.health().catch(() => {})
  }

  /** Lets time pass until it is done: something may be waiting for a try in a second. */
  async #until(promise: Promise<unknown>): Promise<void> {
    let isDone = false
    void promise.then(() => {
      isDone = true
    })
    for (let i = 0; i < 5_000 && !isDone; i += 1) {
      await turn()
      if (i % 10 === 9) this.#pass(200)
    }
    if (!isDone)
      throw new Error(`it takes for ever; broken so far: ${this.#rules.broken.join('; ')}`)
    await promise
  }

  async #rest(): Promise<void> {
    await this.#until(Promise.all([...this.#pending]))
  }
}

/** A moment for the thread of the store, which is another one. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1)
  })
}
