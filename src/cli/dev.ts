/**
 * `kmsg-webhook dev`: the real engine on an embedded file, four endpoints, an inbox that plays their
 * receivers, and everything that happens on the screen. Uses the public API only.
 */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { type AttemptFact, RetryManager, WebhookService } from '../index.ts'
import type { BoardRow } from './board.ts'
import { coloursFor } from './colour.ts'
import { type DemoInbox, demoEndpoints, openDemoInbox } from './demo-endpoints.ts'
import { demoEvents } from './demo-events.ts'
import { type DevView, LiveView, PlainView } from './dev-view.ts'
import { randomId } from './event-of-line.ts'
import { exitCodes, UsageError } from './failure.ts'
import { Ahead, type FeedReport, feed, until } from './feed.ts'
import { count, duration } from './figures.ts'
import { type Interrupt, interrupted, listenForInterrupt } from './interrupt.ts'
import { parseLine, readNdjson } from './ndjson.ts'
import { noticesOnly } from './notices.ts'
import { Prompt } from './prompt.ts'
import { Screen } from './screen.ts'
import { statisticsLines, statisticsRows } from './statistics-table.ts'
import { displayWidth, pad } from './text-width.ts'
import type { Words } from './words.ts'

export interface DevOptions {
  readonly port: number | undefined
  readonly data: string
  /** Divides the delays of the standard retry schedule. */
  readonly speed: number
  readonly words: Words
}

/** Accepted and not yet tried; more of the input is not read ahead. */
const aheadLimit = 2_000
const statisticsEveryMs = 300

export async function dev(options: DevOptions): Promise<number> {
  using interrupt = listenForInterrupt()
  const secret = `whsec_${randomBytes(24).toString('base64')}`
  const demo = await openDemoInbox(secret, options.port)
  let service: WebhookService | null = null
  let session: Session | null = null
  try {
    service = new WebhookService({
      storage: options.data,
      secretKey: secret,
      retryScheduleMs: shortened(options.speed),
      allowedNetworks: ['127.0.0.0/8'],
      // Its secret is made for this run, so that it lies in the clear is no news either.
      logger: noticesOnly((notice) => session?.view.notice(notice), ['schedule_s', 'encryption']),
    })
    session = new Session(service, demo, options, interrupt)
    await service.ready()
    await refuseForeignFile(service, options.data)
    await session.run()
    return exitCodes.well
  } finally {
    session?.close()
    await service?.close()
    await demo.inbox.close()
    process.stdin.destroy()
  }
}

class Session {
  readonly view: DevView
  readonly #service: WebhookService
  readonly #demo: DemoInbox
  readonly #options: DevOptions
  readonly #interrupt: Interrupt
  readonly #ahead = new Ahead(aheadLimit)
  readonly #prompt: Prompt | null
  #linesTyped = 0
  #badLines = 0
  #ended = false
  #statisticsTimer: NodeJS.Timeout | null = null
  /** What an earlier run left is sent from the first moment on; shown after the introduction. */
  #early: BoardRow[] | null = []

  constructor(service: WebhookService, demo: DemoInbox, options: DevOptions, interrupt: Interrupt) {
    this.#service = service
    this.#demo = demo
    this.#options = options
    this.#interrupt = interrupt
    const { stdin, stdout } = process
    const live = stdout.isTTY && process.env.TERM !== 'dumb'
    this.#prompt = live && stdin.isTTY ? this.#createPrompt() : null
    this.view = live ? this.#createLiveView() : new PlainView(stdout, options.words)
    service.on('attempt.settled', (fact) => this.#settled(fact))
  }

  async run(): Promise<void> {
    const service = this.#service
    this.view.print(await this.#introduction())
    for (const row of this.#early ?? []) this.view.attempt(row)
    this.#early = null
    for (const endpoint of demoEndpoints) {
      await service.registerEndpoint({ ...endpoint, url: `${this.#demo.inbox.url}/${endpoint.id}` })
    }
    // Loads and compiles what sending needs, so that the first latencies are those of sending.
    await service.testEndpoint('healthy')
    await this.#dispatchDemoEvents()
    await this.#readInput()
    this.#ended = true
    if (this.#statisticsTimer !== null) clearTimeout(this.#statisticsTimer)
    await this.#showStatistics()
    this.view.finish(await this.#lastLine())
  }

  close(): void {
    this.#ended = true
    if (this.#statisticsTimer !== null) clearTimeout(this.#statisticsTimer)
    this.#prompt?.close()
    this.view.close()
  }

  #settled(fact: AttemptFact): void {
    if (this.#ended) return
    if (fact.attempt === 1) this.#ahead.leave(fact.deliveries)
    const row = { fact, signature: this.#demo.verdict(fact.deliveryId, fact.attempt) }
    if (this.#early === null) this.view.attempt(row)
    else this.#early.push(row)
    this.#refreshStatistics()
  }

  async #dispatchDemoEvents(): Promise<void> {
    await this.#service.dispatchEvents(demoEvents(new Date()))
    this.#refreshStatistics()
  }

  /** Resolves when the input has ended and everything is settled, or with Ctrl-C. */
  async #readInput(): Promise<void> {
    const { signal } = this.#interrupt
    if (this.#prompt !== null) {
      this.#prompt.open()
      await interrupted(signal)
      return
    }
    await feed(this.#service, readNdjson(until(signal, process.stdin)), this.#report, {
      ahead: this.#ahead,
      makeId: randomId,
      stop: signal,
    })
    await Promise.race([this.#service.drain(), interrupted(signal)])
  }

  readonly #report: FeedReport = {
    accepted: ({ duplicate, eventId }, { event, filledIn }) => {
      const { dev: words } = this.#options.words
      const remarks = [
        ...(filledIn.length > 0 ? [words.filledIn(filledIn)] : []),
        ...(duplicate ? [words.before] : []),
      ]
      if (remarks.length > 0) this.view.notice(`${event.type} ${eventId}: ${remarks.join(', ')}`)
      this.#refreshStatistics()
    },
    badLine: (number, problem) => {
      this.#badLines += 1
      this.view.notice(`${this.#options.words.send.line(number)}: ${problem}`)
    },
  }

  // ── what is shown ──────────────────────────────────────────────────────────────────────────────

  async #introduction(): Promise<string[]> {
    const { words, speed, data } = this.#options
    const file = shortPath(data)
    const labels = [words.data, words.inbox, words.retries]
    const wide = Math.max(...labels.map(displayWidth))
    const label = (text: string): string => pad(text, wide)
    const { backlog } = await this.#service.health()
    const left = (backlog?.waiting ?? 0) + (backlog?.delivering ?? 0)
    return [
      `${label(words.data)}  ${words.dev.data(file)}`,
      `${label(words.inbox)}  ${words.dev.inbox(this.#demo.inbox.url)}`,
      `${label(words.retries)}  ${words.dev.retries(firstDelays(speed), pace(speed, words))}`,
      ...demoEndpoints.map(
        ({ id, description }) => `  ${id.padEnd(8)}  ${words.dev.endpoints[id] ?? description}`,
      ),
      ...(left > 0 ? [words.dev.left(left)] : []),
    ]
  }

  #refreshStatistics(): void {
    this.#statisticsTimer ??= setTimeout(() => {
      this.#statisticsTimer = null
      // A closed service is no news: the session is ending.
      this.#showStatistics().catch(() => {})
    }, statisticsEveryMs)
  }

  async #showStatistics(): Promise<void> {
    const { words } = this.#options
    const ids = demoEndpoints.map(({ id }) => id)
    const rows = await statisticsRows(this.#service, ids, words)
    const { backlog } = await this.#service.health()
    this.view.statistics({
      lines: (width, colours) => statisticsLines(rows, words, colours, width),
      waiting: (backlog?.waiting ?? 0) + (backlog?.delivering ?? 0),
    })
  }

  async #lastLine(): Promise<string> {
    const { words } = this.#options
    const { backlog } = await this.#service.health()
    const left = (backlog?.waiting ?? 0) + (backlog?.delivering ?? 0)
    const bad = this.#badLines > 0 ? ` ${words.dev.badLines(this.#badLines)}` : ''
    return `${left === 0 ? words.allSettled : words.goesOn(count(left))}${bad}`
  }

  #createPrompt(): Prompt {
    return new Prompt(process.stdin, {
      changed: () => (this.view as LiveView).redraw(),
      interrupt: () => this.#interrupt.interrupt(),
      line: (text) =>
        void this.#typed(text).catch((error: Error) => this.view.notice(error.message)),
    })
  }

  async #typed(text: string): Promise<void> {
    this.#linesTyped += 1
    const line = parseLine(Buffer.from(text), this.#linesTyped)
    if (line === null) return await this.#dispatchDemoEvents()
    await feed(this.#service, once(line), this.#report, {
      ahead: this.#ahead,
      makeId: randomId,
      stop: this.#interrupt.signal,
    })
  }

  #createLiveView(): LiveView {
    const screen = new Screen(process.stdout)
    const prompt = this.#prompt
    const colours = coloursFor(process.stdout)
    const { words, data, speed } = this.#options
    const view = new LiveView(screen, {
      title: [shortPath(data), this.#demo.inbox.url, pace(speed, words)].join(' · '),
      endpointIds: demoEndpoints.map(({ id }) => id),
      words,
      colours,
      typed: prompt && (() => prompt.text),
    })
    process.stdout.on('resize', () => view.resized())
    this.#interrupt.beforeExit(() => this.close())
    return view
  }
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value
}

function standardDelaysMs(): readonly number[] {
  const { delays } = new RetryManager({ retryScheduleMs: 'standard' }).policyFor()
  return delays.kind === 'list' ? delays.delaysMs : []
}

function shortened(speed: number): number[] {
  return standardDelaysMs().map((delayMs) => Math.round(delayMs / speed))
}

function firstDelays(speed: number): string {
  return shortened(speed).slice(0, 3).map(duration).join(', ')
}

function pace(speed: number, words: Words): string {
  return words.dev.pace(speed === 1 ? null : count(speed))
}

function shortPath(file: string): string {
  return path.relative('', path.resolve(file))
}

/** Deliveries of somebody's real service must not be sent, or signed, by a demonstration. */
async function refuseForeignFile(service: WebhookService, data: string): Promise<void> {
  const own = new Set(demoEndpoints.map(({ id }) => id))
  const foreign = (await service.listEndpoints({ tenantId: '*' })).find(({ id }) => !own.has(id))
  if (foreign === undefined) return
  throw new UsageError(
    `Expected the data file of a demonstration, but ${data} holds the endpoint "${foreign.id}"; name another file with --data.`,
  )
}
