/**
 * Days of several processes on one database in some seconds, by the dice: what happens to one process
 * in world.ts, and besides that processes stop and go on, die with their transactions open, and lose
 * statements and answers. The rules are watched all the time; when the faults stop, everything has to
 * come to an end, and the database has to be in order.
 */
import { WebhookService } from '@k-msg/webhook'
import { manualClock } from '@k-msg/webhook/testing'
import pg from 'pg'
import { randomFrom } from '../crash/random.ts'
import { Customers, judge, type Process, retryScheduleMs, turn } from './customers.ts'
import { FleetRules, type Truth } from './fleet-rules.ts'
import { Machine } from './machine.ts'
import { Rules } from './rules.ts'
import { ScriptedDispatcher } from './scripted-dispatcher.ts'

/** The first keeps its order all the time. */
const orderedId = 'a'
const manyIds = ['a', 'b', 'c', 'd']
const concurrency = 4
const leaseMs = 6_000
const stepMs = 200
const mostProcesses = 4

export interface FleetOutcome {
  readonly broken: readonly string[]
  readonly accepted: number
  readonly sent: number
  readonly kills: number
}

interface Run extends Process {
  readonly machine: Machine
  readonly dispatcher: ScriptedDispatcher
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
  readonly #random: () => number
  readonly #clock = manualClock()
  readonly #url: string
  readonly #schema: string
  readonly #rules: Rules
  readonly #fleetRules: FleetRules
  readonly #customers: Customers<Run>
  /** Looks at the database, and is the caller of transactions. */
  readonly #eye: pg.Client
  /** Few of them meet more often. */
  readonly #endpointIds: readonly string[]
  /** Of how many steps the time is over before the database has answered. */
  readonly #hastiness: number
  #kills = 0
  #runs: Run[] = []

  constructor(seed: number, url: string, schema: string) {
    this.#random = randomFrom(seed)
    this.#endpointIds = manyIds.slice(0, 1 + Math.floor(this.#random() * manyIds.length))
    this.#hastiness = this.#random() < 0.5 ? 0 : 0.4
    this.#url = url
    this.#schema = schema
    this.#eye = new pg.Client({ connectionString: url })
    const nowMs = () => this.#clock.nowMs()
    this.#rules = new Rules({ concurrency, maxAttempts: retryScheduleMs.length + 1 }, nowMs)
    const limits = { concurrency, leaseMs, hearWithinMs: 900 + 4 * stepMs }
    this.#fleetRules = new FleetRules(this.#rules, limits, nowMs)
    const [random, rules] = [this.#random, this.#rules]
    this.#customers = new Customers({ random, nowMs, rules, process: () => this.#one })
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
      await judge(this.#one.service, this.#customers, this.#rules)
    } finally {
      await this.#end()
      await this.#eye.end()
    }
    const { broken, sent } = this.#rules
    return { broken, accepted: this.#customers.accepted.size, sent, kills: this.#kills }
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────

  async #step(): Promise<void> {
    const dice = this.#random()
    const id = this.#customers.pick(this.#endpointIds) ?? orderedId
    if (dice < 0.56) await this.#customersDo(dice, id)
    else if (dice < 0.75) this.#endpointChanges(dice, id)
    else if (dice < 0.78) this.#one.machine.faults = this.#random() < 0.6 ? 0 : this.#random() * 0.3
    else if (dice < 0.8) await this.#stop()
    else if (dice < 0.84) for (const { machine } of this.#runs) machine.go()
    else if (dice < 0.855) await this.#leave()
    else if (dice < 0.87) this.#kill()
    else if (dice < 0.89) await this.#join()
    else if (dice < 0.97) this.#one.dispatcher.letGo()
    else await this.#pass(this.#random() * 12_000)
  }

  async #customersDo(dice: number, id: string): Promise<void> {
    const customers = this.#customers
    if (dice < 0.28) customers.dispatch(1 + Math.floor(this.#random() * 4))
    else if (dice < 0.295) customers.dispatch(60)
    else if (dice < 0.31) await customers.dispatchWithin(this.#eye)
    else if (dice < 0.5) await this.#pass(this.#random() * 1_500)
    else if (dice < 0.515) customers.cancelOne()
    else if (dice < 0.52) customers.replay(id)
    else if (dice < 0.55) customers.retryOne()
    else customers.eraseOne()
  }

  #endpointChanges(dice: number, id: string): void {
    if (dice < 0.57) this.#onEndpoint(id, (service) => service.cancelPending(id))
    else if (dice < 0.59) this.#onEndpoint(id, (service) => service.pauseEndpoint(id))
    else if (dice < 0.65) this.#onEndpoint(id, (service) => service.resumeEndpoint(id))
    else if (dice < 0.69) this.#change(id)
    else if (dice < 0.705)
      this.#onEndpoint(id, (service) => service.updateEndpoint(id, { active: false }))
    else if (dice < 0.71) this.#onEndpoint(id, (service) => service.removeEndpoint(id))
    else this.#onEndpoint(id, (service) => service.registerEndpoint(this.#input(id)))
  }

  #input(id: string) {
    const ordering = id === orderedId ? ({ key: 'k', onExhausted: 'skip' } as const) : null
    return { id, url: `https://${id}.example.com/`, events: ['*'], concurrency, ordering }
  }

  #change(id: string): void {
    const change = this.#customers.change(concurrency)
    if (id === orderedId) {
      delete change.ordering
      delete change.batch
    }
    this.#onEndpoint(id, (service) => service.updateEndpoint(id, change))
  }

  #onEndpoint(id: string, call: (service: WebhookService) => Promise<unknown>): void {
    this.#customers.ask((service, { machine }) =>
      this.#fleetRules.works(machine, id, () => call(service)),
    )
  }

  async #join(): Promise<void> {
    if (this.#runs.length < mostProcesses) await this.#open()
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

  /** For a moment, or for longer than its lease: then answers are waiting when it goes on. */
  async #stop(): Promise<void> {
    const { machine, dispatcher } = this.#one
    machine.stop()
    if (this.#random() < 0.5) return
    dispatcher.letGo()
    await this.#pass(this.#random() * 2 * leaseMs)
  }

  #kill(): void {
    if (this.#runs.length < 2) return
    this.#kills += 1
    const run = this.#one
    run.machine.die()
    run.dispatcher.isDead = true
    this.#fleetRules.died(run.machine)
    this.#runs = this.#runs.filter((other) => other !== run)
  }

  /** In small steps. Everybody gets his answers in each, or in the next. */
  async #pass(ms: number): Promise<void> {
    let isOwed = false
    for (let left = Math.round(ms); left > 0; left -= stepMs) {
      isOwed = !isOwed && this.#random() < this.#hastiness
      if (!isOwed) {
        await this.#quiet()
        await this.#learn()
      }
      this.#clock.advance(Math.min(stepMs, left))
      for (const { machine } of this.#runs) machine.note()
    }
    await this.#quiet()
    await this.#learn()
  }

  async #learn(): Promise<void> {
    if (this.#runs.length === 0) return
    const { rows } = await this.#eye.query(truth)
    this.#fleetRules.learn(rows[0] as Truth)
  }

  // ── the processes ──────────────────────────────────────────────────────────────────────────────

  get #one(): Run {
    const one = this.#runs[Math.floor(this.#random() * this.#runs.length)]
    if (one === undefined) throw new Error('Expected a process that runs.')
    return one
  }

  async #open(): Promise<void> {
    const machine = new Machine(this.#clock, this.#random)
    const dispatcher = new ScriptedDispatcher({
      nowMs: () => this.#clock.nowMs(),
      random: this.#random,
      begins: (sent) => this.#fleetRules.begins({ machine, service }, sent),
      ends: (sent) => this.#fleetRules.ends(machine, sent),
      runs: (callback) => machine.runs(callback),
    })
    const service: WebhookService = new WebhookService(
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
    this.#rules.listen(service)
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

  // ── small things ───────────────────────────────────────────────────────────────────────────────

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
    if (!isDone)
      throw new Error(`${what} takes for ever; broken so far: ${this.#rules.broken.join('; ')}`)
    await promise
  }

  async #rest(): Promise<void> {
    for (const run of this.#runs) {
      await this.#until(Promise.all([...run.pending]), 'what was asked')
    }
  }
}
