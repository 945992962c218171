/**
 * This process as an owner of deliveries. Its lease is one row with a number that is raised at every
 * beat, never a lease per delivery. Whoever sees the number stand still for the length of the lease,
 * by his own steady clock, takes over what it holds: no clock of another machine, and no jump of the
 * server's, can end a lease. The row goes with the takeover, and without it nothing can be owned.
 *
 * Nobody need live for a whole lease to do that: the newest process notes how long it has seen each of
 * the others silent, and who comes after it counts on from there.
 *
 * The process itself starts no attempt later than two thirds of the lease after its last good beat
 * was sent, so it has stopped before anybody else begins.
 */
import { WebhookError } from '../../model/errors.ts'
import type { LaneHead } from '../claims.ts'
import { endCancelled } from './cancel.ts'
import type { Connection, Database } from './connection.ts'
import { numberArray } from './text.ts'

/** Steady time for durations; wall time only to notice that the machine slept. */
export interface WorkerClock {
  steadyMs(): number
  wallMs(): number
  setTimer(callback: () => void, delayMs: number): () => void
}

const takeTurn = `select pg_advisory_xact_lock(hashtextextended('kmsg worker ' || $1, 0))`

const begin = `
  insert into kmsg.worker (slot, delivers)
  select min(n), $1 from generate_series(0, (select count(*)::int from kmsg.worker)) as free (n)
   where n not in (select slot from kmsg.worker)
  returning id, slot`

const beat = `
  update kmsg.worker set beat = beat + 1, beaten_at = clock_timestamp() where id = $1`

/**
 * Compare and delete: whoever has beaten since then keeps its row. One that is held by a commit under
 * way is passed over: it lives, or its last transaction is about to be ended by the server.
 */
const remove = `
  delete from kmsg.worker
   where id in (select id from kmsg.worker where id = $1 and beat = $2 for update skip locked)`

const removeOwn = 'delete from kmsg.worker where id = $1'

const deliver = 'update kmsg.worker set delivers = true where id = $1'
const say = 'update kmsg.worker set keeps_to = $2 where id = $1'

/** Due when they were: their attempts may have happened. Also what an owner left without a row. */
const releaseDead = `
  with released as (
    update kmsg.live set state = 'waiting', owner = null, claim_no = null
     where owner is not null and owner not in (select id from kmsg.worker)
    returning endpoint_key, due_at_ms
  )
  select endpoint_key, min(due_at_ms) as due_at_ms from released group by endpoint_key`

/**
 * One process at a time notes, so that no time is counted twice: the newest that has come. What was
 * noted of an earlier beat is void.
 */
const noteSilence = `
  update kmsg.worker
     set silent_ms = case silent_beat when note.beat then silent_ms else 0 end + note.ms,
         silent_beat = note.beat, watcher = $1
    from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as note (id, beat, ms)
   where worker.id = note.id and worker.beat = note.beat
     and (watcher = $1 or (watcher < $1 and note.ms = 0))`

async function release(database: Database, connection: Connection): Promise<LaneHead[]> {
  const rows = await connection.all<{ endpoint_key: string; due_at_ms: number }>(releaseDead)
  await endCancelled({ database }, connection, null)
  return rows.map((row) => ({ endpointKey: row.endpoint_key, dueAtMs: row.due_at_ms }))
}

export interface WorkerEvents {
  /** What this process held is not its own any more; it is somebody new from now on. */
  lost(): void
  /** The lease is good again after it was in doubt. */
  confirmed(): void
  failed(error: unknown): void
  /** What a dead process held waits to be claimed: the first of each lane. */
  tookOver(heads: readonly LaneHead[]): void
}

/** Who looked less often than so has seen nothing by which to judge others. */
const blindMs = 2_000

/** Silence is noted so many times in a lease. */
const notesPerLease = 10

/** Another process, as just read. */
export interface WorkerSeen {
  readonly id: number
  readonly beat: number
  /** Since this beat, as noted by others. */
  readonly silentMs: number
  /** Who notes it. */
  readonly watcher: number
}

interface Seen {
  readonly beat: number
  /** When the beat was first seen to be this one, steady time, and had been seen by others before. */
  readonly sinceMs: number
  notedMs: number
}

export class Worker {
  id = 0
  /** Which of its few writers of sums this process is. */
  slot = 0
  readonly #database: Database
  readonly #clock: WorkerClock
  readonly #leaseMs: number
  readonly #events: WorkerEvents
  readonly #others = new Map<number, Seen>()
  #lookedMs = Number.NEGATIVE_INFINITY
  #goodSteadyMs = 0
  #goodWallMs = 0
  #beating: Promise<void> | null = null
  #renewing: Promise<void> | null = null
  #cancelBeat: (() => void) | null = null
  #inDoubt = false
  #delivers = false
  #closed = false

  constructor(database: Database, clock: WorkerClock, leaseMs: number, events: WorkerEvents) {
    this.#database = database
    this.#clock = clock
    this.#leaseMs = leaseMs
    this.#events = events
  }

  /** Becomes an owner, and goes on being one until `close`. */
  async open(): Promise<void> {
    await this.#begin()
    await this.#database.write((connection) => release(this.#database, connection))
    this.#beatLater()
  }

  /** False while others may already have taken over what this process holds. */
  get isSure(): boolean {
    const steadyMs = this.#clock.steadyMs() - this.#goodSteadyMs
    const wallMs = this.#clock.wallMs() - this.#goodWallMs
    if (Math.max(steadyMs, wallMs) <= (this.#leaseMs * 2) / 3) return true
    this.#inDoubt = true
    void this.beat()
    return false
  }

  /**
   * The row of that incarnation is gone: begins a new one.
   *
   * @returns what the call that noticed fails with; it can be repeated
   */
  lost(id: number): WebhookError {
    if (id === this.id && !this.#closed) this.#renewing ??= this.#renew()
    return new WebhookError(
      'STORAGE_UNAVAILABLE',
      'Expected this process to hold its lease, but another one has taken over what it held: it did not answer for longer than `leaseMs`. It goes on under a new one.',
    )
  }

  /** Resolves when the server has answered, or failed to. Never rejects. */
  beat(): Promise<void> {
    this.#beating ??= this.#beat().finally(() => {
      this.#beating = null
    })
    return this.#beating
  }

  /** How long until another one's lease may be over, as far as this one has seen. */
  get nextTakeOverMs(): number {
    const oldestMs = Math.min(...[...this.#others.values()].map(({ sinceMs }) => sinceMs))
    return oldestMs + this.#leaseMs - this.#clock.steadyMs()
  }

  /** @param rows the workers there are, as just read */
  async watch(rows: readonly WorkerSeen[]): Promise<void> {
    const nowMs = this.#clock.steadyMs()
    // The database was away, or this process stopped: others could not beat, or be seen to.
    if (nowMs - this.#lookedMs > Math.max(blindMs, this.#leaseMs / 2)) this.#others.clear()
    this.#lookedMs = nowMs
    const alive = new Set(rows.map(({ id }) => id))
    for (const id of this.#others.keys()) if (!alive.has(id)) this.#others.delete(id)
    const notes: { id: number; beat: number; ms: number }[] = []
    for (const { id, beat, silentMs, watcher } of rows) {
      if (id === this.id) continue
      const seen = this.#others.get(id)
      if (seen?.beat !== beat) {
        this.#others.set(id, { beat, sinceMs: nowMs - silentMs, notedMs: nowMs })
        if (watcher < this.id) notes.push({ id, beat, ms: 0 })
      } else if (nowMs - seen.sinceMs >= this.#leaseMs) await this.#takeOver(id, beat)
      else if (watcher === this.id && nowMs - seen.notedMs >= this.#leaseMs / notesPerLease) {
        notes.push({ id, beat, ms: nowMs - seen.notedMs })
        seen.notedMs = nowMs
      }
    }
    if (notes.length > 0) await this.#note(notes)
  }

  async #note(notes: readonly { id: number; beat: number; ms: number }[]): Promise<void> {
    await this.#database.read((connection) =>
      connection.run(
        noteSilence,
        this.id,
        numberArray(notes.map(({ id }) => id)),
        numberArray(notes.map(({ beat }) => beat)),
        numberArray(notes.map(({ ms }) => Math.floor(ms))),
      ),
    )
  }

  /** From now on it has a share of what endpoints may be sent at the same time. */
  async startDelivering(): Promise<void> {
    this.#delivers = true
    await this.#database.read((connection) => connection.run(deliver, this.id))
  }

  /** The list of workers whose shares it keeps to by now, see shares.ts. */
  async sayKeepsTo(group: string): Promise<void> {
    await this.#database.read((connection) => connection.run(say, this.id, group))
  }

  /** Gives everything back at once. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelBeat?.()
    await this.#beating
    await this.#renewing
    await this.#database.write(async (connection) => {
      await connection.run(removeOwn, this.id)
      await release(this.#database, connection)
    })
  }

  async #begin(): Promise<void> {
    const sentSteadyMs = this.#clock.steadyMs()
    const sentWallMs = this.#clock.wallMs()
    const row = await this.#database.write((connection) => this.#insert(connection))
    this.#goodSteadyMs = sentSteadyMs
    this.#goodWallMs = sentWallMs
    this.id = row?.id ?? 0
    this.slot = row?.slot ?? 0
  }

  async #insert(connection: Connection): Promise<{ id: number; slot: number } | undefined> {
    await connection.all(takeTurn, this.#database.schema.name)
    return await connection.get(begin, this.#delivers)
  }

  async #beat(): Promise<void> {
    const sentSteadyMs = this.#clock.steadyMs()
    const sentWallMs = this.#clock.wallMs()
    const { id } = this
    try {
      const rows = await this.#database.read((connection) => connection.run(beat, id))
      if (rows === 0) {
        this.lost(id)
        await this.#renewing
        return
      }
      this.#goodSteadyMs = sentSteadyMs
      this.#goodWallMs = sentWallMs
      if (this.#inDoubt && this.isSure) {
        this.#inDoubt = false
        this.#events.confirmed()
      }
    } catch (error) {
      this.#events.failed(error)
    }
  }

  async #renew(): Promise<void> {
    try {
      await this.#begin()
      this.#inDoubt = false
      this.#events.lost()
      this.#events.confirmed()
    } catch (error) {
      this.#events.failed(error)
    } finally {
      this.#renewing = null
    }
  }

  #beatLater(): void {
    this.#cancelBeat = this.#clock.setTimer(() => {
      void this.beat().then(() => {
        if (!this.#closed) this.#beatLater()
      })
    }, this.#leaseMs / 3)
  }

  async #takeOver(id: number, seenBeat: number): Promise<void> {
    const heads = await this.#database.write(async (connection) => {
      if ((await connection.run(remove, id, seenBeat)) === 0) return null
      return await release(this.#database, connection)
    })
    if (heads === null) return
    this.#others.delete(id)
    this.#events.tookOver(heads)
  }
}
