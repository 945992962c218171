/**
 * One journey: a real service on a real file or a real server, real HTTP to an inbox on 127.0.0.1, and a clock that
 * only moves when the test moves it. However the test ends, the store must be consistent: every
 * journey ends with an audit.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  type Storage,
  sqlite,
  type TenantScope,
  type WebhookConfig,
  type WebhookDelivery,
  type WebhookEndpointInput,
  type WebhookEvent,
  WebhookService,
  type WebhookServiceParts,
} from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox, type ManualClock, manualClock } from '@k-msg/webhook/testing'
import { expect, inject, test } from 'vitest'
import type { Store } from '../../src/storage/storage.ts'
import { freshSchema } from '../postgres/schemas.ts'

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

export class Stage {
  readonly clock: ManualClock
  readonly inbox: Inbox
  readonly folder: string
  readonly dataFile: string
  /** In the tests that run on a PostgreSQL server; null means the file. */
  readonly #schema = inject('databaseUrl') ? freshSchema() : null
  #services: WebhookService[] = []
  #events = 0
  /** Retention asks the store again and again until nothing is left. */
  #isPruning = false
  /** Questions that the store has not answered yet. */
  #asked = 0

  constructor(clock: ManualClock, inbox: Inbox, folder: string) {
    this.clock = clock
    this.inbox = inbox
    this.folder = folder
    this.dataFile = path.join(folder, 'webhooks.db')
  }

  /** A service on the stage's file, signing with the stage's secret. */
  async open(config: WebhookConfig = {}, parts?: WebhookServiceParts): Promise<WebhookService> {
    const service = new WebhookService(
      {
        storage: this.storage(),
        clock: this.clock,
        allowedNetworks: ['127.0.0.0/8'],
        secretKey: secret,
        logger: false,
        jitter: false,
        ...config,
      },
      parts,
    )
    this.#services.push(service)
    await service.ready()
    return service
  }

  /** The stage's file or schema, for a test that stands between it and the service. */
  storage(): Storage {
    const storage =
      this.#schema === null
        ? sqlite({ path: this.dataFile })
        : postgres(this.#schema.url, { schema: this.#schema.name })
    return between(storage, async (verb, ask) => {
      if (verb === 'prune') this.#isPruning = true
      this.#asked += 1
      let deleted = 0
      try {
        const result = await ask()
        if (verb === 'prune') deleted = result as number
        return result
      } finally {
        this.#asked -= 1
        if (verb === 'prune') this.#isPruning = deleted > 0
      }
    })
  }

  async #untilPruned(): Promise<void> {
    do await new Promise(setImmediate)
    while (this.#isPruning)
    // The timer for the next one is set after that.
    await new Promise(setImmediate)
  }

  /** An endpoint at a path of the inbox that wants everything, unless told otherwise. */
  endpoint(id: string, input: Partial<WebhookEndpointInput> = {}): WebhookEndpointInput {
    return { id, url: `${this.inbox.url}/${id}`, events: ['*'], ...input }
  }

  /** A new event; each has an id of its own. */
  event(fields: Partial<WebhookEvent> = {}): WebhookEvent {
    this.#events += 1
    return {
      id: `evt_${this.#events}`,
      type: 'message.sent',
      timestamp: new Date(this.clock.nowMs()),
      data: { number: this.#events },
      metadata: {},
      ...fields,
    }
  }

  /** Requests that arrived at a path, oldest first. */
  at(id: string): Inbox['received'] {
    return this.inbox.received.filter((request) => request.path === `/${id}`)
  }

  /** Moves from due time to due time until nothing is due any more, or up to that time. */
  async passTime(service: WebhookService, untilMs = Number.POSITIVE_INFINITY): Promise<void> {
    for (;;) {
      await service.runDue()
      const next = (await service.nextDueAt())?.getTime() ?? Number.POSITIVE_INFINITY
      if (next > untilMs || next === Number.POSITIVE_INFINITY) break
      this.clock.set(next)
    }
    if (untilMs !== Number.POSITIVE_INFINITY) this.clock.set(untilMs)
    await service.runDue()
  }

  /** Moves the clock as soon as somebody waits for that much time. */
  async passed(ms: number): Promise<void> {
    const awaited = () => (this.clock.nextTimerAtMs ?? 0) <= this.clock.nowMs() + ms
    while (this.clock.nextTimerAtMs === null || !awaited()) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve)
      })
    }
    this.clock.advance(ms)
  }

  /** Moves the clock on until something has an answer. */
  async until<T>(answered: Promise<T>, stepMs = 500): Promise<T> {
    let isOver = false
    const over = () => {
      isOver = true
    }
    answered.then(over, over)
    while (!isOver) {
      let quietTurns = 0
      while (quietTurns < 20 && !isOver) {
        await new Promise(setImmediate)
        quietTurns = this.#asked === 0 ? quietTurns + 1 : 0
      }
      if (!isOver) this.clock.advance(stepMs)
    }
    return answered
  }

  /** Lets retention run: it does a minute after the start, then every ten. */
  async pruned(service: WebhookService): Promise<void> {
    // A step of retention is one question to the store; what is asked after it is answered after it.
    const stepsDone = async () => {
      for (let step = 0; step < 20; step += 1) await service.health()
    }
    await stepsDone()
    await this.#untilPruned()
    this.clock.advance(600_000)
    await stepsDone()
    await this.#untilPruned()
    await service.runDue()
  }

  /** The only delivery of an event to an endpoint. */
  async delivery(
    service: WebhookService,
    eventId: string,
    endpointId: string,
    scope?: TenantScope,
  ): Promise<WebhookDelivery> {
    const report = await service.getEvent(eventId, scope)
    const found = report?.deliveries.filter((one) => one.endpointId === endpointId) ?? []
    expect(found).toHaveLength(1)
    return found[0] as WebhookDelivery
  }

  async end(): Promise<void> {
    const open = this.#services.at(-1)
    try {
      if (open !== undefined) await this.#audit(open)
    } finally {
      await Promise.all(this.#services.map((service) => service.close()))
      await this.inbox.close()
      await rm(this.folder, { recursive: true, force: true })
      await this.#schema?.drop()
    }
  }

  async #audit(last: WebhookService): Promise<void> {
    const closed = (await last.health()).status === 'closed'
    if (closed) await last.close()
    const service = closed ? await this.open() : last
    expect((await service.audit()).problems).toEqual([])
  }
}

/** @param timeoutMs where real time decides how much there is to do; else that of all tests */
export function journey(
  name: string,
  run: (stage: Stage) => Promise<void>,
  timeoutMs?: number,
): void {
  const live = async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'kmsg-journey-'))
    const stage = new Stage(manualClock(), await createInbox({ secret }), folder)
    try {
      await run(stage)
    } catch (error) {
      await stage.end().catch(() => {})
      throw error
    }
    await stage.end()
  }
  test(name, live, timeoutMs)
}

/** A journey that looks into the data file itself. */
export function fileJourney(name: string, run: (stage: Stage) => Promise<void>): void {
  if (inject('databaseUrl')) test.skip(`${name} (skipped: a server has no such file)`, () => {})
  else journey(name, run)
}

/** Stands between a service and its store: `meet` sees every verb, and does or does not ask it. */
export function between(
  inner: Storage,
  meet: (verb: keyof Store, ask: () => Promise<unknown>, args: unknown[]) => Promise<unknown>,
): Storage {
  return {
    kind: inner.kind,
    async open(host) {
      const store = await inner.open(host)
      return new Proxy(store, {
        get(target, name) {
          const verb = name as keyof Store
          const member = target[verb]
          if (typeof member !== 'function') return member
          return async (...args: unknown[]) =>
            meet(verb, async () => Reflect.apply(member as () => unknown, target, args), args)
        },
      })
    },
  }
}

/** A promise to be resolved by hand: holds an answer back until the test lets go. */
export function gate(): { open: () => void; opened: Promise<void> } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}
