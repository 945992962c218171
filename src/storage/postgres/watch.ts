/**
 * What other processes do, as this one learns of it: by asking every second, and at once when a hint
 * says so. One statement tells who lives and which version the endpoints have; another when each
 * lane's next unowned delivery is due.
 */
import type { StorageHost, StoreWatcher } from '../storage.ts'
import type { Claims } from './claim.ts'
import { heads } from './claim.ts'
import type { Hint } from './hints.ts'
import type { Session } from './session.ts'
import type { WorkerClock } from './worker.ts'

export const pollEveryMs = 1_000
/** One whose lease is over may be held by its last commit for a moment. */
const notSoonerMs = 100
/** Reading the heads of ten thousand lanes takes a while; it may take this part of the time. */
const headsShare = 0.02

const whoAndWhat = `
  select number as version,
         (select json_agg(json_build_array(id, beat)) from kmsg.worker) as workers,
         exists (select from kmsg.intake) as intake,
         exists (select from kmsg.repair where state = 'running') as repairs
    from kmsg.endpoints_version`

interface SeenRow {
  readonly version: number
  readonly workers: string | null
  readonly intake: boolean
  readonly repairs: boolean
}

export class Watch {
  readonly #session: Session
  readonly #claims: Claims
  readonly #clock: WorkerClock
  readonly #host: StorageHost
  #watcher: StoreWatcher | null = null
  #version = -1
  #headsNotBeforeMs = 0
  #polling: Promise<void> | null = null
  #again = false
  #failed = false
  #cancelTimer: (() => void) | null = null
  #stopped = false

  constructor(session: Session, claims: Claims, clock: WorkerClock, host: StorageHost) {
    this.#session = session
    this.#claims = claims
    this.#clock = clock
    this.#host = host
  }

  get watcher(): StoreWatcher | null {
    return this.#watcher
  }

  /** Resolves when the watcher has been told how things are. */
  async start(watcher: StoreWatcher): Promise<void> {
    this.#watcher = watcher
    await this.#look()
    this.#later()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelTimer?.()
    await this.#polling
  }

  /** Somebody saw that the endpoints have changed. */
  sawVersion(version: number): void {
    if (version <= this.#version || this.#stopped) return
    this.#version = version
    this.#watcher?.endpointsChanged(version)
  }

  heard(sender: number, { endpoints, due = [], intake }: Hint): void {
    if (sender === this.#session.worker.id || this.#stopped) return
    if (intake) this.#watcher?.intake()
    const nowMs = this.#session.nowMs()
    if (due) this.#watcher?.due(due.map((endpointKey) => ({ endpointKey, dueAtMs: nowMs })))
    else this.#headsNotBeforeMs = 0
    if (endpoints || !due) void this.poll()
  }

  /** Never rejects. A poll that is asked for while one runs follows it. */
  poll(): Promise<void> {
    this.#again = true
    this.#polling ??= this.#pollAll().finally(() => {
      this.#polling = null
    })
    return this.#polling
  }

  async #pollAll(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false
      try {
        await this.#look()
        this.#failed = false
      } catch (error) {
        this.#sayOnce(error)
      }
    }
  }

  async #look(): Promise<void> {
    const { database, worker, hints } = this.#session
    const row = await database.read((connection) => connection.get<SeenRow>(whoAndWhat))
    const workers = JSON.parse(row?.workers ?? '[]') as [number, number][]
    if (!workers.some(([id]) => id === worker.id)) worker.lost(worker.id)
    this.sawVersion(row?.version ?? 0)
    if (row?.intake) this.#watcher?.intake()
    if (row?.repairs) this.#watcher?.repairs()
    hints.isAlone = workers.length < 2
    await worker.watch(workers)
    await this.#claims.releaseLost()
    await this.#readHeads()
  }

  async #readHeads(): Promise<void> {
    const startMs = this.#clock.steadyMs()
    if (startMs < this.#headsNotBeforeMs) return
    this.#watcher?.due(await this.#session.database.read(heads))
    const tookMs = this.#clock.steadyMs() - startMs
    this.#headsNotBeforeMs = startMs + tookMs / headsShare
  }

  #later(): void {
    if (this.#stopped) return
    const { nextTakeOverMs } = this.#session.worker
    this.#cancelTimer = this.#clock.setTimer(
      () => void this.poll().then(() => this.#later()),
      Math.min(pollEveryMs, Math.max(notSoonerMs, nextTakeOverMs)),
    )
  }

  #sayOnce(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    const text = error instanceof Error ? error.message : String(error)
    this.#host.log('warn', 'other processes cannot be watched', { error: text })
  }
}
