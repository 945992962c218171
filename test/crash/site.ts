/**
 * What watches the process that dies: a receiver that writes down what arrives before it answers,
 * the publisher's ledger, and the comparison of the two once everything has come to rest.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInbox, type Inbox, type ReceivedRequest } from '@k-msg/webhook/testing'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'

const child = path.join(import.meta.dirname, 'child.mjs')
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

/** Endpoints that must get every message; see child.mjs. */
const messageEndpoints = ['healthy', 'flaky', 'batched']

export interface ChildOptions {
  readonly mode: 'load' | 'steps' | 'finish'
  readonly steps?: readonly string[]
  readonly crashAt?: string
  readonly nth?: number
  readonly pruneAtOnce?: boolean
  readonly config?: Record<string, unknown>
  /** Leaves with `process.exit(0)`, as an app that does not close its service. */
  readonly exitAfterMs?: number
  /** Callers that publish at the same time. Default 8. */
  readonly publishers?: number
  /** Url of the package to run instead of `dist/`. */
  readonly package?: string
}

/** What the product says in the end, see `finish` in child.mjs. */
export interface Finished {
  readonly unended: readonly string[]
  readonly forgotten: readonly string[]
  readonly problems: readonly { readonly invariant: string }[]
  readonly counts: Record<string, number>
  readonly backlog: { readonly waiting: number; readonly delivering: number }
  readonly repairs: readonly { readonly state: string; readonly queued: number }[]
}

export interface Verdict {
  readonly accepted: number
  readonly delivered: number
  readonly lost: readonly string[]
  readonly unexpected: readonly string[]
  readonly badSignatures: number
  readonly duplicates: number
  /** Events that reached an endpoint under two webhook-ids: a batch that was formed anew. */
  readonly regrouped: readonly string[]
  /** Never accepted, and yet delivered to some endpoints but not to all. */
  readonly half: readonly string[]
}

interface Arrival {
  readonly endpoint: string
  readonly webhookId: string
  readonly eventIds: readonly string[]
  readonly answered: number
  readonly signed: boolean
}

export class Site implements AsyncDisposable {
  readonly inbox: Inbox
  readonly folder: string
  readonly dataFile: string
  readonly #ledgerFile: string
  readonly #inFlightFile: string
  readonly #arrivals: Arrival[] = []
  readonly #triedOnce = new Set<string>()
  readonly #children: ChildProcess[] = []
  /** What else to do with a request; its answer replaces the usual one. */
  intercept: (request: ReceivedRequest) => { after: Promise<never> } | undefined = () => undefined

  /** @param dataFolder where the process keeps its data; the ledgers are elsewhere */
  static async open(dataFolder?: string): Promise<Site> {
    const inbox = await createInbox({ secret })
    const site = new Site(inbox, mkdtempSync(path.join(tmpdir(), 'kmsg-crash-')), dataFolder)
    inbox.setAnswer((request) => site.#receive(request))
    return site
  }

  constructor(inbox: Inbox, folder: string, dataFolder = path.join(folder, 'data')) {
    this.inbox = inbox
    this.folder = folder
    this.dataFile = path.join(dataFolder, 'webhooks.db')
    this.#ledgerFile = path.join(folder, 'ledger')
    this.#inFlightFile = path.join(folder, 'in-flight')
  }

  /** Starts from a file that another site has left; its endpoints are here now. */
  startFrom(dataFile: string): void {
    mkdirSync(path.dirname(this.dataFile), { recursive: true })
    copyFileSync(dataFile, this.dataFile)
    const database = loadDriver([import.meta.url]).open(this.dataFile)
    database
      .prepare("update endpoint set url = ? || substr(url, instr(url, '/wide_'))")
      .run(this.inbox.url)
    database.close()
  }

  start(options: ChildOptions): ChildProcess {
    const started = spawn(
      process.execPath,
      [
        child,
        JSON.stringify({
          ...options,
          secret,
          dataFile: this.dataFile,
          ledgerFile: this.#ledgerFile,
          inFlightFile: this.#inFlightFile,
          url: this.inbox.url,
          prefix: `p${this.#children.length}`,
        }),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    this.#children.push(started)
    return started
  }

  /** Requests on their way, or answered and not known to be written, when the process was killed. */
  get inFlight(): number {
    const bytes = existsSync(this.#inFlightFile)
      ? readFileSync(this.#inFlightFile)
      : Buffer.alloc(0)
    return bytes.length === 4 ? bytes.readInt32LE() : 0
  }

  async finish(options: Partial<ChildOptions> = {}): Promise<Finished> {
    const finishing = this.start({ ...options, mode: 'finish' })
    let output = ''
    finishing.stdout?.on('data', (chunk) => {
      output += chunk
    })
    const [code] = (await once(finishing, 'close')) as [number | null]
    if (code !== 0) throw new Error(`the process that finishes ended with ${code}: ${output}`)
    return JSON.parse(output) as Finished
  }

  /** Deliveries that arrived at an endpoint, each once. */
  /** How many endpoints of a wide event got it. */
  get wideReached(): number {
    const there = this.#arrivals.filter(({ endpoint }) => endpoint.startsWith('wide_'))
    return new Set(there.map(({ endpoint }) => endpoint)).size
  }

  judge(): Verdict {
    const submitted = this.#published('+')
    const accepted = this.#published('=')
    const reached = new Map<string, Set<string>>()
    const successes = new Map<string, number>()
    for (const { endpoint, webhookId, eventIds, answered } of this.#arrivals) {
      if (answered !== 200) continue
      const request = `${endpoint} ${webhookId}`
      successes.set(request, (successes.get(request) ?? 0) + 1)
      for (const eventId of eventIds) {
        const key = `${endpoint} ${eventId}`
        reached.set(key, (reached.get(key) ?? new Set()).add(webhookId))
      }
    }
    const received = this.#arrivals.flatMap((one) => one.eventIds)
    const missing = (id: string) =>
      messageEndpoints.filter((endpoint) => !reached.has(`${endpoint} ${id}`))
    const messages = (ids: Set<string>) => [...ids].filter((id) => id.startsWith('message_'))
    return {
      accepted: accepted.size,
      delivered: [...accepted].filter((id) => reached.has(`healthy ${id}`)).length,
      lost: messages(accepted).flatMap((id) =>
        missing(id).map((endpoint) => `${id} to ${endpoint}`),
      ),
      half: messages(submitted).filter(
        (id) => ![0, messageEndpoints.length].includes(missing(id).length),
      ),
      unexpected: received.filter((id) => !submitted.has(id)),
      badSignatures: this.#arrivals.filter((one) => !one.signed).length,
      duplicates: [...successes.values()].reduce((sum, times) => sum + times - 1, 0),
      regrouped: [...reached].filter(([, ids]) => ids.size > 1).map(([key]) => key),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#children) one.kill('SIGKILL')
    await this.inbox.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  #receive(request: ReceivedRequest): { status?: number; after?: Promise<never> } {
    const endpoint = request.path.slice(1)
    const webhookId = request.headers['webhook-id'] ?? ''
    const held = this.intercept(request)
    const answered = endpoint === 'flaky' && this.#isFirst(webhookId) ? 500 : 200
    this.#arrivals.push({
      endpoint,
      webhookId,
      eventIds: request.events.map((event) => event.id),
      answered,
      signed: request.signature === 'valid',
    })
    return held ?? { status: answered }
  }

  #isFirst(webhookId: string): boolean {
    if (this.#triedOnce.has(webhookId)) return false
    this.#triedOnce.add(webhookId)
    return true
  }

  #published(mark: '+' | '='): Set<string> {
    const lines = existsSync(this.#ledgerFile)
      ? readFileSync(this.#ledgerFile, 'utf8').split('\n')
      : []
    return new Set(lines.filter((line) => line.startsWith(mark)).map((line) => line.slice(2)))
  }
}
