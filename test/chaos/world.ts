/**
 * Days of a service in a second, by the dice: events, changes of endpoints, answers of all kinds,
 * a store that fails, restarts and kills, in an order that a seed decides. The rules are watched all
 * the time; when the faults stop, everything has to come to an end, and the file has to be in order.
 */
import { type Storage, WebhookService } from '@k-msg/webhook'
import { manualClock } from '@k-msg/webhook/testing'
import { randomFrom } from '../crash/random.ts'
import { Customers, judge, type Process, retryScheduleMs, turn } from './customers.ts'
import { type FaultyStorage, faultyStorage } from './faulty-storage.ts'
import { ProcessRules, Rules } from './rules.ts'
import { ScriptedDispatcher } from './scripted-dispatcher.ts'

const endpointIds = ['a', 'b', 'c', 'd']
const concurrency = 3
const retention = { settledMs: 60_000, deliveredBodiesMs: 20_000, eventIdsMs: 60_000 }

export interface Outcome {
  readonly broken: readonly string[]
  readonly accepted: number
  readonly sent: number
  readonly restarts: number
}

interface Run extends Process {
  readonly storage: FaultyStorage
  readonly dispatcher: ScriptedDispatcher
}

export class World {
  readonly #random: () => number
  readonly #clock = manualClock()
  readonly #storage: () => Storage
  readonly #rules: Rules
  readonly #customers: Customers<Run>
  /** Retention takes what is a minute old. */
  readonly #isForgetful: boolean
  #restarts = 0
  #run: Run | null = null

  /** @param storage the same data each time */
  constructor(seed: number, storage: () => Storage) {
    this.#random = randomFrom(seed)
    this.#isForgetful = this.#random() < 0.5
    this.#storage = storage
    const nowMs = () => this.#clock.nowMs()
    this.#rules = new Rules({ concurrency, maxAttempts: retryScheduleMs.length + 1 }, nowMs)
    const [random, rules] = [this.#random, this.#rules]
    this.#customers = new Customers({ random, nowMs, rules, process: () => this.#now })
  }

  async live(steps: number): Promise<Outcome> {
    try {
      await this.#open()
      for (const id of endpointIds) this.#ask((one) => one.registerEndpoint(this.#input(id)))
      await this.#rest()
      for (let step = 0; step < steps; step += 1) {
        await this.#step()
        if (this.#random() < 0.5) await this.#turns()
      }
      await this.#comeToRest()
      await judge(this.#now.service, this.#customers, this.#rules, this.#isForgetful)
    } finally {
      await this.#end()
    }
    const { size: accepted } = this.#customers.accepted
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
    const customers = this.#customers
    const id = customers.pick(endpointIds) ?? 'a'
    if (dice < 0.34) customers.dispatch(1 + Math.floor(this.#random() * 4))
    else if (dice < 0.36) customers.dispatch(60)
    else if (dice < 0.51) this.#pass(this.#random() * 4_000)
    else if (dice < 0.525) customers.cancelOne()
    else if (dice < 0.53) this.#ask((service) => service.cancelPending(id))
    else if (dice < 0.54) customers.replay(id)
    else if (dice < 0.565) this.#pass(this.#random() * 60_000)
    else if (dice < 0.57) this.#pass(this.#random() * 1_200_000)
    else if (dice < 0.67) this.#now.dispatcher.letGo()
    else if (dice < 0.7) this.#ask((service) => service.pauseEndpoint(id))
    else if (dice < 0.76) this.#ask((service) => service.resumeEndpoint(id))
    else if (dice < 0.79)
      this.#ask((service) => service.updateEndpoint(id, customers.change(concurrency)))
    else if (dice < 0.8) this.#ask((service) => service.updateEndpoint(id, { active: false }))
    else if (dice < 0.81) this.#ask((service) => service.removeEndpoint(id))
    else if (dice < 0.84) this.#ask((service) => service.registerEndpoint(this.#input(id)))
    else if (dice < 0.88) customers.retryOne()
    else if (dice < 0.89) customers.eraseOne()
    else if (dice < 0.93) this.#now.storage.faults = this.#random() < 0.5 ? 0 : this.#random() * 0.5
    else if (dice < 0.95) await this.#restart()
    else if (dice < 0.97) await this.#kill()
    else await this.#turns()
  }

  #input(id: string) {
    return { id, url: `https://${id}.example.com/`, events: ['*'], concurrency }
  }

  async #restart(): Promise<void> {
    this.#restarts += 1
    const { service, dispatcher, pending } = this.#now
    const closed = service.close()
    if (this.#random() < 0.5) dispatcher.letGo()
    await this.#until(closed)
    await this.#open(pending)
  }

  async #kill(): Promise<void> {
    this.#restarts += 1
    const { storage, dispatcher } = this.#now
    dispatcher.isDead = true
    await storage.die()
    // Nobody who asked the dead process will ever be answered.
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

  async #open(pending = new Set<Promise<unknown>>()): Promise<void> {
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
        ...(this.#isForgetful && { retention }),
        logger: false,
      },
      { dispatcher },
    )
    this.#run = { service, storage, dispatcher, pending }
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

  // ── small things ───────────────────────────────────────────────────────────────────────────────

  #ask(call: (service: WebhookService) => Promise<unknown>): void {
    this.#customers.ask(call)
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
    await this.#until(Promise.all([...this.#now.pending]))
  }
}
