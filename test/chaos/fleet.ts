/**
 * Days of several processes on one database in some seconds, by the dice: what happens to one process
 * in world.ts, and besides that processes stop and go on, die with their transactions open, and lose
 * statements and answers. The rules are watched all the time; when the faults stop, everything has to
 * come to an end, and the database has to be in order.
 */
import { type WebhookEndpointChanges, type WebhookEvent, WebhookService } from '@k-msg/webhook'
import { manualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import { randomFrom } from '../crash/random.ts'
import { FleetRules, type Truth } from './fleet-rules.ts'
import { Machine } from './machine.ts'
import type { Times } from './rules.ts'
import { ScriptedDispatcher } from './scripted-dispatcher.ts'

/** The first keeps its order all the time. */
const orderedId = 'a'
const manyIds = ['a', 'b', 'c', 'd']
const retryScheduleMs = [1_000, 5_000, 30_000]
const concurrency = 4
const leaseMs = 6_000
const stepMs = 200
const ends = ['delivered', 'exhausted', 'rejected'] as const

export interface FleetOutcome {
  readonly broken: readonly string[]
  readonly accepted: number
  readonly sent: number
  readonly kills: number
  readonly passedMs: number
}

interface Run {
  readonly service: WebhookService
  readonly machine: Machine
  readonly dispatcher: ScriptedDispatcher
  readonly pending: Set<Promise<unknown>>
}

const truth = `
  select (select coalesce(json_agg(json_build_object(
            'key', key, 'id', id, 'rateLimit', rate_limit::json, 'heldUntilMs', coalesce(held_until_ms, 0),
            'status', case when removed_at_ms is null then status else 'removed' end)), '[]')
            from endpoint left join endpoint_flow on endpoint_key = key) as endpoints,
         (select coalesce(json_agg(json_build_object('id', id, 'endpointKey', endpoint_key,
            'orderKey', order_key, 'orderNo', order_no)), '[]')
            from live where order_key is not null) as ordered`

export class Fleet {
  readonly log: string[] = []
  readonly #random: () => number
  readonly #clock = manualClock()
  readonly #url: string
  readonly #schema: string
  readonly #rules: FleetRules
  readonly #accepted = new Set<string>()
  readonly #erased = new Set<number>()
  readonly #rolledBack = new Set<string>()
  readonly #eye: pg.Client
  readonly #startMs = this.#clock.nowMs()
  /** Few of them meet more often. */
  readonly #endpointIds: readonly string[]
  #events = 0
  #kills = 0
  #runs: Run[] = []

  constructor(seed: number, url: string, schema: string) {
    this.#random = randomFrom(seed)
    this.#endpointIds = manyIds.slice(0, 1 + Math.floor(this.#random() * 4))
    this.#url = url
    this.#schema = schema
    this.#eye = new pg.Client({ connectionString: url })
    this.#rules = new FleetRules(
      {
        concurrency,
        maxAttempts: retryScheduleMs.length + 1,
        leaseMs,
        hearWithinMs: 900 + 2 * stepMs,
      },
      () => this.#clock.nowMs(),
    )
  }

  async live(steps: number): Promise<FleetOutcome> {
    await this.#eye.connect()
    try {
      await this.#eye.query(`set search_path = ${this.#schema}`)
      await this.#open()
      for (const id of this.#endpointIds) await this.#one.service.registerEndpoint(this.#input(id))
      await this.#open()
      await this.#open()
      for (let step = 0; step < steps; step += 1) {
        await this.#step()
        for (const { machine } of this.#runs) machine.note()
        if (this.#random() < 0.3) await turn()
      }
      await this.#comeToRest()
      await this.#judge()
    } finally {
      await this.#end()
      await this.#eye.end()
    }
    return {
      broken: this.#rules.broken,
      accepted: this.#accepted.size,
      sent: this.#rules.sent,
      kills: this.#kills,
      passedMs: this.#clock.nowMs() - this.#startMs,
    }
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────

  async #step(): Promise<void> {
    const dice = this.#random()
    const id = this.#pick(this.#endpointIds)
    if (dice < 0.3) this.#dispatch(1 + Math.floor(this.#random() * 4))
    else if (dice < 0.315) this.#dispatch(60)
    else if (dice < 0.33) await this.#dispatchWithin()
    else if (dice < 0.5) await this.#pass(this.#random() * 1_500)
    else if (dice < 0.515) this.#cancelOne()
    else if (dice < 0.52) this.#onEndpoint(id, (service) => service.cancelPending(id))
    else if (dice < 0.53) this.#ask((service) => service.replay({ endpointId: id, states: ends }))
    else if (dice < 0.56) await this.#pass(this.#random() * 12_000)
    else if (dice < 0.66) this.#one.dispatcher.letGo()
    else if (dice < 0.68) this.#onEndpoint(id, (service) => service.pauseEndpoint(id))
    else if (dice < 0.74) this.#onEndpoint(id, (service) => service.resumeEndpoint(id))
    else if (dice < 0.77) this.#change(id)
    else if (dice < 0.785)
      this.#onEndpoint(id, (service) => service.updateEndpoint(id, { active: false }))
    else if (dice < 0.79) this.#onEndpoint(id, (service) => service.removeEndpoint(id))
    else if (dice < 0.83)
      this.#onEndpoint(id, (service) => service.registerEndpoint(this.#input(id)))
    else if (dice < 0.86) this.#retryOne()
    else if (dice < 0.87) this.#eraseOne()
    else if (dice < 0.9) this.#one.machine.faults = this.#random() < 0.6 ? 0 : this.#random() * 0.3
    else if (dice < 0.92) this.#one.machine.stop()
    else if (dice < 0.95) for (const { machine } of this.#runs) machine.go()
    else if (dice < 0.965) await this.#leave()
    else if (dice < 0.98) this.#kill()
    else if (this.#runs.length < 4) await this.#open()
  }

  #input(id: string) {
    const ordering = id === orderedId ? ({ key: 'k', onExhausted: 'skip' } as const) : null
    return { id, url: `https://${id}.example.com/`, events: ['*'], concurrency, ordering }
  }

  #change(id: string): void {
    const change =
      id === orderedId
        ? this.#pick<WebhookEndpointChanges>([
            { concurrency: 1 },
            { concurrency },
            { headers: { 'x-team': `${this.#events}` } },
          ])
        : this.#pick<WebhookEndpointChanges>([
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
          ])
    this.#onEndpoint(id, (service) => service.updateEndpoint(id, change))
  }

  #dispatch(count: number): void {
    const run = this.#one
    for (let i = 0; i < count; i += 1) {
      const isRepeat = this.#random() < 0.1 && this.#events > 0
      const number = isRepeat ? Math.ceil(this.#random() * this.#events) : this.#events + 1
      if (!isRepeat) this.#events += 1
      if (this.#rolledBack.has(`evt_${number}`)) continue
      const event = this.#event(number)
      const times = this.#timesOf(event)
      if ((times.expiresAt?.getTime() ?? Infinity) <= this.#clock.nowMs()) continue
      this.#track(
        run,
        run.service.dispatchEvent(event, times).then(
          ({ eventId }) => {
            this.#accepted.add(eventId)
          },
          (error: { code: string }) => {
            const expected = ['STORAGE_FULL', 'STORAGE_UNAVAILABLE', 'SERVICE_CLOSED']
            if (this.#erased.has(number)) expected.push('EVENT_ID_CONFLICT')
            if (!expected.includes(error.code))
              this.#rules.breaks(`dispatch failed: ${String(error)}`)
          },
        ),
      )
    }
  }

  #event(number: number): WebhookEvent {
    return {
      id: `evt_${number}`,
      type: number % 3 === 0 ? 'template.created' : 'message.sent',
      timestamp: new Date(this.#clock.nowMs()),
      data: { number },
      metadata: { k: `${number % 4}` },
    }
  }

  /** In a transaction of the caller, which is rolled back at times. */
  async #dispatchWithin(): Promise<void> {
    const { service } = this.#one
    this.#events += 1
    const event = this.#event(this.#events)
    this.#rules.times.set(event.id, {})
    const isCommitted = this.#random() < 0.7
    await this.#eye.query('begin')
    await service.dispatchEvent(event, { transaction: this.#eye })
    await this.#eye.query(isCommitted ? 'commit' : 'rollback')
    if (isCommitted) this.#accepted.add(event.id)
    else this.#rolledBack.add(event.id)
  }

  #timesOf({ id }: WebhookEvent): Times {
    const known = this.#rules.times.get(id)
    if (known !== undefined) return known
    const after = (sinceMs: number, ms: number) =>
      new Date(Math.round(sinceMs + 1 + this.#random() * ms))
    const nowMs = this.#clock.nowMs()
    const times: Times = {}
    if (this.#random() < 0.1) times.deliverAt = after(nowMs, 30_000)
    if (this.#random() < 0.15) times.expiresAt = after(times.deliverAt?.getTime() ?? nowMs, 30_000)
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
    const id = `evt_${number}`
    const wasAccepted = this.#accepted.has(id)
    this.#ask(async (service) => {
      const { inFlight } = await service.eraseEvents({ ids: [id] })
      if (wasAccepted && inFlight === 0) this.#rules.erased(id)
    })
  }

  async #leave(): Promise<void> {
    if (this.#runs.length < 2) return
    const run = this.#one
    run.machine.go()
    run.machine.faults = 0
    await this.#close(run)
  }

  async #close(run: Run): Promise<void> {
    const closed = run.service.close()
    if (this.#random() < 0.5) run.dispatcher.letGo()
    await this.#until(closed, 'close')
    await this.#until(Promise.all([...run.pending]), 'what was asked before close')
    this.#runs = this.#runs.filter((other) => other !== run)
  }

  #kill(): void {
    if (this.#runs.length < 2) return
    this.#kills += 1
    const run = this.#one
    run.machine.die()
    run.dispatcher.isDead = true
    this.#rules.died(run.machine)
    this.#runs = this.#runs.filter((other) => other !== run)
  }

  /** In small steps, in which everybody gets his answers. */
  async #pass(ms: number): Promise<void> {
    for (let left = Math.round(ms); left > 0; left -= stepMs) {
      await this.#quiet()
      await this.#learn()
      this.#clock.advance(Math.min(stepMs, left))
      for (const { machine } of this.#runs) machine.note()
    }
    await this.#quiet()
    await this.#learn()
  }

  async #learn(): Promise<void> {
    if (this.#runs.length === 0) return
    const { rows } = await this.#eye.query(truth)
    this.#rules.learn(rows[0] as Truth)
  }

  // ── the processes ──────────────────────────────────────────────────────────────────────────────

  get #one(): Run {
    return this.#pick(this.#runs)
  }

  async #open(): Promise<void> {
    const machine = new Machine(this.#clock, this.#random)
    const dispatcher = new ScriptedDispatcher({
      nowMs: () => this.#clock.nowMs(),
      random: this.#random,
      begins: (sent) => this.#rules.begins(machine, sent),
      ends: (sent) => this.#rules.ends(machine, sent),
      runs: (callback) => machine.runs(callback),
    })
    const service = new WebhookService(
      {
        storage: machine.storage(this.#url, this.#schema, leaseMs, this.#random() < 0.5),
        clock: machine.clock,
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
    this.#rules.listen(machine, service)
    await this.#until(service.ready(), 'ready')
    this.#runs.push({ service, machine, dispatcher, pending: new Set() })
  }

  async #end(): Promise<void> {
    for (const run of [...this.#runs]) {
      run.machine.go()
      run.machine.faults = 0
      await this.#close(run)
    }
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────

  async #comeToRest(): Promise<void> {
    for (const { machine } of this.#runs) {
      machine.go()
      machine.faults = 0
    }
    await this.#rest()
    // Who was killed is missed when its lease is over.
    await this.#pass(leaseMs + 3_000)
    for (const id of this.#endpointIds) this.#onEndpoint(id, (one) => one.resumeEndpoint(id))
    await this.#rest()
    for (const id of this.#endpointIds) {
      this.#onEndpoint(id, (one) => one.updateEndpoint(id, { ordering: null, rateLimit: null }))
    }
    await this.#rest()
    await this.#endRepairs()
    for (let i = 0; i < 3_000 && !(await this.#isEmpty()); i += 1) {
      for (const { dispatcher } of this.#runs) dispatcher.letGo()
      await this.#pass(stepMs)
    }
    if (!(await this.#isEmpty())) this.#rules.breaks('it does not come to rest')
    else await this.#until(Promise.all(this.#runs.map(({ service }) => service.drain())), 'drain')
    await this.#rest()
  }

  async #isEmpty(): Promise<boolean> {
    const left = 'select from live union all select from intake limit 1'
    return (await this.#eye.query(left)).rows.length === 0
  }

  async #endRepairs(): Promise<void> {
    for (let i = 0; i < 1_500; i += 1) {
      const repairs = await this.#one.service.listRepairs()
      if (repairs.every(({ state }) => state !== 'running')) return
      for (const { dispatcher } of this.#runs) dispatcher.letGo()
      await this.#pass(stepMs)
    }
    this.#rules.breaks('a repair does not end')
  }

  async #judge(): Promise<void> {
    const { service } = this.#one
    const { problems } = await service.audit()
    for (const problem of problems) this.#rules.breaks(`audit: ${JSON.stringify(problem)}`)
    const { backlog } = await service.health()
    if ((backlog?.waiting ?? 0) + (backlog?.delivering ?? 0) > 0) {
      this.#rules.breaks(`left in the store: ${JSON.stringify(backlog)}`)
    }
    for (const id of this.#rolledBack) {
      if ((await service.getEvent(id)) !== null) this.#rules.breaks(`${id} was rolled back`)
    }
    for (const id of this.#accepted) {
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

  #onEndpoint(id: string, call: (service: WebhookService) => Promise<unknown>): void {
    this.#ask((service, { machine }) => this.#rules.works(machine, id, () => call(service)))
  }

  #ask(call: (service: WebhookService, run: Run) => Promise<unknown>): void {
    const run = this.#one
    this.#track(
      run,
      call(run.service, run).catch(() => {}),
    )
  }

  #track({ pending }: Run, promise: Promise<unknown>): void {
    pending.add(promise)
    void promise.finally(() => pending.delete(promise))
  }

  /** Until nobody who runs waits for the database. */
  async #quiet(): Promise<void> {
    for (let still = 0, i = 0; still < 3 && i < 20_000; i += 1) {
      await new Promise(setImmediate)
      const isBusy = this.#runs.some(({ machine }) => !machine.isStopped && machine.underWay > 0)
      still = isBusy ? 0 : still + 1
    }
  }

  async #until(promise: Promise<unknown>, what: string): Promise<void> {
    let isDone = false
    const done = () => {
      isDone = true
    }
    promise.then(done, done)
    for (let i = 0; i < 3_000 && !isDone; i += 1) {
      await turn()
      if (i % 5 === 4) await this.#pass(stepMs)
    }
    if (!isDone) throw new Error(`${what} takes for ever; broken: ${this.#rules.broken.join('; ')}`)
    await promise
  }

  async #rest(): Promise<void> {
    for (const run of this.#runs) {
      await this.#until(Promise.all([...run.pending]), 'what was asked')
    }
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1)
  })
}
