/**
 * The store's end of its thread: one promise per call, answered in order. Notices when the thread
 * dies, starts another and asks again whatever was not answered; every call can be repeated. Gives
 * up for good when the disk fails, or when threads keep dying.
 */
import type { Worker } from 'node:worker_threads'
import { WebhookError } from '../../model/errors.ts'
import type { StorageHost } from '../storage.ts'
import { errorFromWire } from './errors.ts'
import { startThread } from './leaving.ts'
import type { Answer, Call, Opened, Resume } from './protocol.ts'
import { loadFrom, workerUrl } from './worker-url.ts'

/** More deaths than this within a minute are no accident. */
const deathsPerMinute = 5
const minuteMs = 60_000

interface Pending {
  readonly call: Call
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

export class Thread {
  opened: Opened = { owner: 0, description: '' }
  readonly #location: string
  readonly #host: StorageHost
  readonly #pending = new Map<number, Pending>()
  readonly #deathsAtMs: number[] = []
  #worker: Worker | null = null
  #lastId = 0
  #closing: Promise<void> | null = null
  #fatal: Error | null = null
  #damage: Error | null = null

  constructor(location: string, host: StorageHost) {
    this.#location = location
    this.#host = host
  }

  /** What was found damaged in the file, by whatever call: writing elsewhere in it may go well. */
  get damage(): Error | null {
    return this.#damage
  }

  async open(): Promise<void> {
    this.opened = await this.#start(null)
  }

  call<Result>(verb: string, ...args: unknown[]): Promise<Result> {
    if (this.#fatal) return Promise.reject(this.#fatal)
    if (this.#closing !== null) return Promise.reject(closedError())
    return this.#ask<Result>(verb, args)
  }

  /**
   * Takes no call from now on. Resolves when all earlier ones are answered, what is awaited beside
   * them is over, and the thread has ended.
   */
  close(beside: Promise<unknown>): Promise<void> {
    this.#closing ??= beside
      // A thread that was given up has nothing to close; one whose disk failed still has files open.
      .then(() => (this.#fatal && !this.#worker ? null : this.#ask('close', [])))
      .then(() => this.#end())
    return this.#closing
  }

  #ask<Result>(verb: string, args: unknown[]): Promise<Result> {
    this.#lastId += 1
    const call: Call = [this.#lastId, verb, args]
    return new Promise<Result>((resolve, reject) => {
      this.#pending.set(call[0], { call, resolve: resolve as Pending['resolve'], reject })
      this.#worker?.postMessage(call)
    })
  }

  /** @returns when the thread has the file open; until then calls wait here */
  #start(resume: Resume | null): Promise<Opened> {
    const data = {
      location: this.#location,
      loadFrom: loadFrom(),
      code: workerUrl(),
      job: { kind: 'serve', nowMs: Math.round(this.#host.nowMs()), resume },
    } as const
    const worker = startThread(data, 'kmsg-sqlite')
    return new Promise((resolve, reject) => {
      let failure: Error | null = null
      worker.on('message', ([id, result, error]: Answer) => {
        if (id > 0) this.#settle(id, result, error)
        else if (error && this.#worker === worker) this.#failedBeside(errorFromWire(error))
        else if (error) failure = errorFromWire(error)
        else {
          this.#worker = worker
          resolve(result as Opened)
        }
      })
      worker.on('error', (error: Error) => {
        failure = error
      })
      worker.on('exit', (code) => {
        const wasOpen = this.#worker === worker
        if (wasOpen) this.#worker = null
        const cause = failure ?? new Error(`The thread ended with code ${code}.`)
        if (wasOpen) this.#died(cause)
        else reject(cause)
      })
    })
  }

  #settle(id: number, result: unknown, error: Answer[2]): void {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    if (!error) {
      pending?.resolve(result)
      return
    }
    const failure = errorFromWire(error)
    pending?.reject(failure)
    this.#giveUpIfUntrusted(failure)
    this.noteDamage(failure)
  }

  /** @param failure of any call; also of a read beside this thread */
  noteDamage(failure: unknown): void {
    const isDamage = failure instanceof WebhookError && failure.code === 'STORAGE_CORRUPT'
    if (!isDamage || this.#damage !== null) return
    this.#damage = failure
    const { message } = failure
    this.#host.log('error', 'the data file is damaged', {
      location: this.#location,
      error: message,
    })
  }

  /** A checkpoint failed. The log keeps what it could not move, so nothing is lost by going on. */
  #failedBeside(failure: Error): void {
    const { message } = failure
    this.#host.log('warn', 'a checkpoint failed', { location: this.#location, error: message })
    this.#giveUpIfUntrusted(failure)
  }

  /** A sync that failed once may report success the next time without having written anything. */
  #giveUpIfUntrusted(failure: Error): void {
    if (failure instanceof WebhookError && failure.code === 'STORAGE_IO') this.#giveUp(failure)
  }

  #died(cause: Error): void {
    if (this.#fatal || this.#isClosed()) return
    const nowMs = performance.now()
    this.#deathsAtMs.push(nowMs)
    const recent = this.#deathsAtMs.filter((atMs) => atMs > nowMs - minuteMs)
    this.#host.log('warn', 'the SQLite thread ended and is started again', {
      location: this.#location,
      error: cause.message,
      unanswered: this.#pending.size,
    })
    if (recent.length > deathsPerMinute) {
      this.#giveUp(unavailable(this.#location, cause))
      return
    }
    this.#resume().catch((error: Error) => this.#giveUp(unavailable(this.#location, error)))
  }

  /**
   * The new thread undoes claims that were not answered, then is asked everything again: a commit
   * recognises its own rows, and nobody holds what an unanswered claim took.
   */
  async #resume(): Promise<void> {
    const unansweredClaims = [...this.#pending.values()]
      .filter(({ call }) => call[1] === 'claim')
      .map(({ call }) => call[0])
    this.opened = await this.#start({ owner: this.opened.owner, unansweredClaims })
    for (const { call } of this.#pending.values()) this.#worker?.postMessage(call)
  }

  #isClosed(): boolean {
    return this.#closing !== null && this.#pending.size === 0
  }

  #giveUp(error: Error): void {
    if (this.#fatal) return
    this.#fatal = error
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
    this.#host.onFatal(error)
  }

  async #end(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    await worker?.terminate()
  }
}

function unavailable(location: string, cause: Error): WebhookError {
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    `Expected the SQLite thread for ${location} to keep running, it ended again and again: ${cause.message}; restart the process.`,
    { cause },
  )
}

function closedError(): WebhookError {
  return new WebhookError(
    'SERVICE_CLOSED',
    'Expected an open store, got a call after close(); open it again.',
  )
}
