/**
 * What other processes do, as this one learns of it: by asking every second, and at once when a hint
 * says so. One statement tells who lives, which version the endpoints have and whose flow has changed;
 * another when each lane's next unowned delivery is due.
 */
import type { CancelledDelivery } from '../repairs.ts'
import type { StorageHost, StoreWatcher } from '../storage.ts'
import type { Claims } from './claim.ts'
import { heads } from './claim.ts'
import { flowAsJson, fromJson } from './flow.ts'
import type { Hint } from './hints.ts'
import { refusedKeys } from './intake.ts'
import type { Session } from './session.ts'
import type { Sharer, Shares } from './shares.ts'
import { textArray } from './text.ts'
import type { WorkerClock } from './worker.ts'

/** A change is seen within a second where NOTIFY is not heard: asking and reading take the rest. */
export const pollEveryMs = 900
/** One whose lease is over may be held by its last commit for a moment. */
const notSoonerMs = 100
/** While callers' transactions bring events, and nobody says so, they are looked for this often. */
const intakeEveryMs = 10
/** Reading the heads of ten thousand lanes takes a while; it may take this part of the time. */
const headsShare = 0.02

/**
 * Flows by the transaction that changed them: every one below `mark` had ended when this was read, so
 * whatever was not seen by then is at it or above. Some rows are read twice; none is missed.
 */
const whoAndWhat = `
  select number as version,
         (select json_agg(json_build_array(id, beat, delivers, keeps_to,
                  case silent_beat when beat then silent_ms else 0 end, watcher)) from kmsg.worker) as workers,
         exists (select from kmsg.intake where key <> all($2::text[])) as intake,
         exists (select from kmsg.repair where state = 'running') as repairs,
         (extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms,
         pg_snapshot_xmin(pg_current_snapshot())::text as mark,
         (select json_agg(${flowAsJson}) from kmsg.endpoint_flow where changed >= $1::xid8) as flows,
         (select json_agg(json_build_object('id', id, 'endpointKey', endpoint_key)) from kmsg.live
           where cancel_reason is not null and cancel_heard is null and owner = $3) as marked
    from kmsg.endpoints_version`

const heardOfMarked = `
  update kmsg.live set cancel_heard = true where owner = $1 and id = any($2::text[])`

const isThereIntake = `
  select exists (select from kmsg.intake where key <> all($1::text[])) as intake`

interface Seen {
  readonly version: number
  readonly workers: string | null
  readonly intake: boolean
  readonly repairs: boolean
  readonly now_ms: number
  readonly mark: string
  readonly flows: string | null
  readonly marked: string | null
}

type WorkerRow = [
  id: number,
  beat: number,
  delivers: boolean,
  keepsTo: string,
  silentMs: number,
  watcher: number,
]

export class Watch {
  readonly #session: Session
  readonly #claims: Claims
  readonly #shares: Shares
  readonly #clock: WorkerClock
  readonly #host: StorageHost
  #watcher: StoreWatcher | null = null
  #version = -1
  /** Flows changed by transactions below this one are known. */
  #flowMark = '0'
  #headsNotBeforeMs = 0
  #polling: Promise<void> | null = null
  #again = false
  #failed = false
  #cancelTimer: (() => void) | null = null
  #intakePauseMs = pollEveryMs
  #cancelIntake: (() => void) | null = null
  #stopped = false

  constructor(
    session: Session,
    claims: Claims,
    shares: Shares,
    clock: WorkerClock,
    host: StorageHost,
  ) {
    this.#session = session
    this.#claims = claims
    this.#shares = shares
    this.#clock = clock
    this.#host = host
  }

  get watcher(): StoreWatcher | null {
    return this.#watcher
  }

  /** Resolves when the watcher has been told how things are. */
  async start(watcher: StoreWatcher): Promise<void> {
    const { worker, hints } = this.#session
    this.#watcher = watcher
    // Who only looks in, such as a tool, must not be waited for when shares change.
    if (this.#host.delivers ?? true) {
      await worker.startDelivering()
      hints.workers()
    }
    await this.#look()
    if (this.#again) await this.poll()
    this.#later()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelTimer?.()
    this.#cancelIntake?.()
    await this.#polling
  }

  /** Somebody saw that the endpoints have changed. */
  sawVersion(version: number): void {
    if (version <= this.#version || this.#stopped) return
    this.#version = version
    this.#watcher?.endpointsChanged(version)
  }

  heard(sender: number, { endpoints, flows, marked, workers, due = [], intake }: Hint): void {
    if (sender === this.#session.worker.id || this.#stopped) return
    if (intake) this.#watcher?.intake()
    const nowMs = this.#session.nowMs()
    if (due) this.#watcher?.due(due.map((endpointKey) => ({ endpointKey, dueAtMs: nowMs })))
    else this.#headsNotBeforeMs = 0
    if (endpoints || flows || marked || workers || !due) void this.poll()
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
    const askedMs = this.#clock.steadyMs()
    const row = await database.read((connection) =>
      connection.get<Seen>(whoAndWhat, this.#flowMark, refusedKeys(this.#session), worker.id),
    )
    if (row === undefined) return
    this.#host.follow?.(row.now_ms, this.#clock.steadyMs() - askedMs)
    const workers = JSON.parse(row.workers ?? '[]') as WorkerRow[]
    if (!workers.some(([id]) => id === worker.id)) worker.lost(worker.id)
    this.sawVersion(row.version)
    this.#flowMark = row.mark
    if (row.flows !== null) this.#watcher?.flowsChanged(fromJson(row.flows))
    if (row.marked !== null) await this.#hearOfMarked(JSON.parse(row.marked))
    if (row.intake) this.#sawIntake()
    if (row.repairs) this.#watcher?.repairs()
    hints.isAlone = workers.length < 2
    await this.#share(workers)
    await worker.watch(
      workers.map(([id, beat, , , silentMs, watcher]) => ({ id, beat, silentMs, watcher })),
    )
    await this.#claims.releaseLost()
    await this.#readHeads()
  }

  /** Whoever has marked them waits until their owner has heard of it. */
  async #hearOfMarked(marked: readonly CancelledDelivery[]): Promise<void> {
    const { database, worker } = this.#session
    const { id: ownId } = worker
    this.#watcher?.marked(marked)
    const ids = textArray(marked.map(({ id }) => id))
    await database.read((connection) => connection.run(heardOfMarked, ownId, ids))
  }

  async #share(workers: readonly WorkerRow[]): Promise<void> {
    const { worker, hints } = this.#session
    const { id: ownId } = worker
    const sharers: Sharer[] = workers
      .filter(([, , delivers]) => delivers)
      .map(([id, , , keepsTo]) => ({ id, keepsTo }))
    if (this.#shares.saw(ownId, sharers)) this.#watcher?.sharesChanged()
    const group = this.#shares.toSay(ownId, sharers)
    if (group === null || this.#watcher?.sharesChanged() !== true) return
    await worker.sayKeepsTo(group)
    hints.workers()
    // The last to say so need not wait for a hint of its own.
    this.#again = true
  }

  async #readHeads(): Promise<void> {
    const startMs = this.#clock.steadyMs()
    if (startMs < this.#headsNotBeforeMs) return
    const asked = this.#claims.noteAsked()
    const found = await this.#session.database.read(heads)
    // A claim tells of its lanes itself, and what was read before it would call up what it has taken.
    this.#watcher?.due(found.filter(({ endpointKey }) => !asked.has(endpointKey)))
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

  // ── events of callers' transactions ────────────────────────────────────────────────────────────

  #sawIntake(): void {
    this.#watcher?.intake()
    this.#intakePauseMs = intakeEveryMs
    if (this.#cancelIntake === null) this.#lookForIntakeLater()
  }

  /** Sooner after some was found, then ever later, until the poll of every second is as often. */
  #lookForIntakeLater(): void {
    if (this.#stopped || this.#intakePauseMs >= pollEveryMs) {
      this.#cancelIntake = null
      return
    }
    this.#cancelIntake = this.#clock.setTimer(() => {
      void this.#lookForIntake().then(() => this.#lookForIntakeLater())
    }, this.#intakePauseMs)
    this.#intakePauseMs *= 2
  }

  async #lookForIntake(): Promise<void> {
    try {
      const row = await this.#session.database.read((connection) =>
        connection.get<{ intake: boolean }>(isThereIntake, refusedKeys(this.#session)),
      )
      if (row?.intake && !this.#stopped) this.#sawIntake()
    } catch (error) {
      this.#sayOnce(error)
    }
  }

  #sayOnce(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    const text = error instanceof Error ? error.message : String(error)
    this.#host.log('warn', 'other processes cannot be watched', { error: text })
  }
}
