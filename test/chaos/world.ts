/**
 * Days of a service in a second, by the dice: events, changes of endpoints, answers of all kinds,
 * a store that fails, restarts and kills, in an order that a seed decides. The rules are watched all
 * the time; when the faults stop, everything has to come to an end, and the file has to be in order.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  sqlite,
  type WebhookEndpointChanges,
  type WebhookEvent,
  WebhookService,
} from '@k-msg/webhook'
import { manualClock } from '@k-msg/webhook/testing'
import { randomFrom } from '../crash/random.ts'
import { type FaultyStorage, faultyStorage } from './faulty-storage.ts'
import { ScriptedDispatcher, type Sent } from './scripted-dispatcher.ts'

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

interface Times {
  deliverAt?: Date
  expiresAt?: Date
}

interface Run {
  readonly service: WebhookService
  readonly storage: FaultyStorage
  readonly dispatcher: ScriptedDispatcher
  /** Requests of this process under way, by endpoint key. */
  readonly underWay: Map<string, Set<Sent>>
  /** What this process has said of endpoints, by their id. */
  readonly status: Map<string, string>
  /** By endpoint key: one that is removed and registered anew is another. */
  readonly heldUntilMs: Map<string, number>
  /** Keys of endpoints that have answered 410. */
  readonly gone: Set<string>
  /** Keys that requests had, by endpoint id. */
  readonly keys: Map<string, Set<string>>
}

export class World {
  readonly #random: () => number
  readonly #clock = manualClock()
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'kmsg-chaos-'))
  readonly #broken: string[] = []
  readonly #accepted = new Map<string, string>()
  readonly #pending = new Set<Promise<unknown>>()
  /** By delivery: when the next attempt may be made. */
  readonly #notBeforeMs = new Map<string, number>()
  readonly #ended = new Set<string>()
  /** Somebody asked for another attempt at once. */
  readonly #hurried = new Set<string>()
  readonly #erased = new Set<number>()
  readonly #times = new Map<string, Times>()
  /** Deliveries that were sent at least once. */
  readonly #begun = new Set<string>()
  #events = 0
  #sent = 0
  #restarts = 0
  #run: Run | null = null

  constructor(seed: number) {
    this.#random = randomFrom(seed)
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
      rmSync(this.#folder, { recursive: true, force: true })
    }
    const { size: accepted } = this.#accepted
    return { broken: this.#broken, accepted, sent: this.#sent, restarts: this.#restarts }
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
            if (!expected.includes(error.code)) this.#breaks(`dispatch failed: ${String(error)}`)
          },
        ),
      )
    }
  }

  /** The same each time it is dispatched. */
  #timesOf({ id }: WebhookEvent): Times {
    const known = this.#times.get(id)
    if (known !== undefined) return known
    const after = (sinceMs: number, ms: number) =>
      new Date(Math.round(sinceMs + 1 + this.#random() * ms))
    const nowMs = this.#clock.nowMs()
    const times: Times = {}
    if (this.#random() < 0.1) times.deliverAt = after(nowMs, 60_000)
    if (this.#random() < 0.15) {
      times.expiresAt = after(times.deliverAt?.getTime() ?? nowMs, 30_000)
    }
    this.#times.set(id, times)
    return times
  }

  #retryOne(): void {
    this.#ask(async (service) => {
      const { deliveries } = await service.listDeliveries({ limit: 50 })
      const one = deliveries[Math.floor(this.#random() * deliveries.length)]
      if (one === undefined) return
      this.#hurried.add(anyRound(one.id))
      if (one.batchId !== null) this.#hurried.add(one.batchId)
      const { batchId } = await service.retryDelivery(one.id)
      if (batchId !== null) this.#hurried.add(batchId)
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
    const storage = faultyStorage(sqlite({ path: path.join(this.#folder, 'w.db') }), this.#random)
    const dispatcher = new ScriptedDispatcher({
      nowMs: () => this.#clock.nowMs(),
      random: this.#random,
      begins: (sent) => this.#begins(run, sent),
      ends: (sent) => this.#ends(run, sent),
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
    const run: Run = {
      service,
      storage,
      dispatcher,
      underWay: new Map(),
      status: new Map(),
      heldUntilMs: new Map(),
      gone: new Set(),
      keys: new Map(),
    }
    this.#run = run
    this.#listen(run)
    await service.ready()
    for (const one of await service.listEndpoints()) run.status.set(one.id, one.status)
  }

  // ── the rules ──────────────────────────────────────────────────────────────────────────────────

  #listen(run: Run): void {
    const { service } = run
    service.on('endpoint.changed', ({ endpointId, what }) => {
      const status = { paused: 'paused', disabled: 'disabled', removed: 'disabled' }[what]
      if (status !== undefined) run.status.set(endpointId, status)
      else if (['resumed', 'enabled', 'registered'].includes(what)) {
        run.status.set(endpointId, 'active')
        // Somebody has seen to it: it may be sent to.
        for (const key of run.keys.get(endpointId) ?? []) {
          run.gone.delete(key)
          run.heldUntilMs.delete(key)
        }
      }
    })
    service.on('attempt.settled', ({ deliveryId, nextAttemptAt, attempt }) => {
      if (nextAttemptAt !== null) this.#notBeforeMs.set(deliveryId, nextAttemptAt.getTime())
      if (attempt > retryScheduleMs.length + 1) this.#breaks(`attempt ${attempt} of ${deliveryId}`)
    })
    service.on('delivery.delivered', ({ deliveryId }) => this.#ended.add(deliveryId))
    service.on('delivery.failed', ({ deliveryId }) => this.#ended.add(deliveryId))
    service.on('delivery.cancelled', ({ deliveryId }) => this.#ended.add(deliveryId))
  }

  #begins(run: Run, sent: Sent): void {
    const { deliveryId, endpoint } = sent.request
    this.#sent += 1
    run.keys.set(endpoint.id, (run.keys.get(endpoint.id) ?? new Set()).add(endpoint.key))
    if (this.#ended.has(deliveryId)) this.#breaks(`${deliveryId} was sent after its end`)
    const status = run.status.get(endpoint.id)
    if (status !== undefined && status !== 'active') {
      this.#breaks(`${deliveryId} was sent while its endpoint is ${status}`)
    }
    if (run.gone.has(endpoint.key)) this.#breaks(`${deliveryId} was sent after a 410`)
    const isEarly = sent.atMs < (this.#notBeforeMs.get(deliveryId) ?? 0)
    if (isEarly && !this.#hurried.has(anyRound(deliveryId))) {
      this.#breaks(`${deliveryId} was sent before its time`)
    }
    this.#beginsInTime(sent)
    if (sent.atMs < (run.heldUntilMs.get(endpoint.key) ?? 0)) {
      this.#breaks(`${deliveryId} was sent while its endpoint had asked for time`)
    }
    const underWay = run.underWay.get(endpoint.key) ?? new Set()
    run.underWay.set(endpoint.key, underWay)
    for (const other of underWay) {
      if (other.request.deliveryId === deliveryId)
        this.#breaks(`${deliveryId} was sent twice at once`)
    }
    underWay.add(sent)
    if (underWay.size > concurrency) this.#breaks(`${underWay.size} requests to ${endpoint.id}`)
  }

  /** A first attempt; what is asked for by hand may come earlier, and replays do not expire. */
  #beginsInTime({ request: { deliveryId, eventId }, atMs }: Sent): void {
    const { deliverAt, expiresAt } = this.#times.get(eventId) ?? {}
    if (this.#begun.has(deliveryId)) return
    this.#begun.add(deliveryId)
    const isHurried = this.#hurried.has(anyRound(deliveryId))
    if (!isHurried && atMs < (deliverAt?.getTime() ?? 0)) {
      this.#breaks(`${deliveryId} was sent before it was to be delivered`)
    }
    const isFirstRound = deliveryId === anyRound(deliveryId)
    if (isFirstRound && atMs > (expiresAt?.getTime() ?? Infinity)) {
      this.#breaks(`${deliveryId} was sent after it had expired`)
    }
  }

  #ends(run: Run, { request, outcome }: Sent): void {
    const { key } = request.endpoint
    const underWay = run.underWay.get(key)
    for (const one of underWay ?? []) if (one.request === request) underWay?.delete(one)
    if (outcome?.kind === 'gone') run.gone.add(key)
    if (outcome?.kind === 'throttled' && outcome.retryAfterMs !== null) {
      const untilMs = this.#clock.nowMs() + Math.max(1_000, outcome.retryAfterMs)
      run.heldUntilMs.set(key, Math.max(run.heldUntilMs.get(key) ?? 0, untilMs))
    }
  }

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
    if (!isDrained) this.#breaks('it does not come to rest')
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
    this.#breaks('a repair does not end')
  }

  async #judge(): Promise<void> {
    const { service } = this.#now
    const { problems } = await service.audit()
    for (const problem of problems) this.#breaks(`audit: ${JSON.stringify(problem)}`)
    const { backlog } = await service.health()
    if ((backlog?.waiting ?? 0) + (backlog?.delivering ?? 0) > 0) {
      this.#breaks(`left in the store: ${JSON.stringify(backlog)}`)
    }
    for (const id of this.#accepted.keys()) {
      const report = await service.getEvent(id)
      if (report === null) this.#breaks(`${id} was accepted and is not known`)
      for (const { state, reason } of report?.deliveries ?? []) {
        if (state === 'waiting' || state === 'delivering' || reason === null) {
          this.#breaks(`${id} has not ended: ${state}, ${reason}`)
        }
      }
    }
  }

  #breaks(rule: string): void {
    this.#broken.push(rule)
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
    if (!isDone) throw new Error(`it takes for ever; broken so far: ${this.#broken.join('; ')}`)
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

/** Who retries an earlier round means the newest. */
function anyRound(deliveryId: string): string {
  return deliveryId.replace(/_r\d+$/, '')
}
