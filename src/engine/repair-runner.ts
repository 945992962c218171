/**
 * Runs repairs step by step: finds what may be meant, chooses, queues a few, and waits until those
 * are through. Queueing few at a time is what gives live traffic its way: an event that is accepted now
 * never waits behind more than `maxPerSecond / 5` of a repair. How far it has come is in the store, so
 * that another process, or this one after a crash, goes on from there.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { isTransientStorageError } from '../model/errors.ts'
import type { Logger } from '../observe/log.ts'
import { chooseForRepair, needsBody } from '../policy/repair.ts'
import type { CandidateQuery, NewRepair, RepairRecord, RepairStep } from '../storage/repairs.ts'
import type { Store } from '../storage/storage.ts'

export interface RunnerTools {
  readonly store: Store
  readonly registry: { byKey(key: string): EndpointRecord | undefined }
  readonly clock: Clock
  readonly logger: Logger
  /** A delivery of this endpoint is in the store and due then. */
  readonly stored: (endpointKey: string, dueAtMs: number) => void
  /** Resolves when memory has the endpoints as the store has them. */
  readonly refresh: () => Promise<void>
  /** Counts as unrest until it is done. */
  readonly during: (work: Promise<unknown>) => void
  readonly moved: (record: RepairRecord) => void
}

/** A step queues what the rate allows for so long. */
const stepMs = 100
/** What is queued and not through holds up further steps; looked at again after so long, then less often. */
const longestLookMs = 1_000
/** Another process has made the last step: it has so long to make the next. */
const takeOverAfterMs = 2_000
const failedAgainMs = 1_000
const longestFailedMs = 60_000
const manyRunning = 1_000
const fewestRows = 50
const mostRows = 1_000
/** With their bodies, which may be large. */
const mostRowsWithBodies = 100

interface Running {
  rows: number
  /** Times in a row that nothing could be queued, or that the store failed. */
  waits: number
  failures: number
  cancelTimer: (() => void) | null
}

export class RepairRunner {
  readonly #tools: RunnerTools
  readonly #running = new Map<string, Running>()
  #looking = false
  #cancelLook: (() => void) | null = null
  #stopped = false

  constructor(tools: RunnerTools) {
    this.#tools = tools
  }

  stop(): void {
    this.#stopped = true
    this.#cancelLook?.()
    for (const { cancelTimer } of this.#running.values()) cancelTimer?.()
  }

  /** There may be repairs that run, of an earlier process or of another one. */
  look(): void {
    if (this.#looking || this.#stopped) return
    this.#looking = true
    const query = { tenantId: null, id: null, onlyRunning: true, limit: manyRunning }
    const looked = this.#tools.store
      .listRepairs(query, this.#tools.clock.nowMs())
      .then((records) => {
        for (const { id } of records) this.run(id)
      })
      .catch((error: unknown) => {
        if (this.#stopped) return
        this.#warn(error, 'repairs cannot be read')
        this.#cancelLook = this.#tools.clock.setTimer(() => this.look(), failedAgainMs)
      })
      .finally(() => {
        this.#looking = false
      })
    this.#tools.during(looked)
  }

  run(id: string): void {
    if (this.#stopped || this.#running.has(id)) return
    this.#running.set(id, { rows: fewestRows, waits: 0, failures: 0, cancelTimer: null })
    this.#go(id)
  }

  #go(id: string): void {
    this.#tools.during(this.#steps(id))
  }

  /** Steps until there is something to wait for. Never rejects. */
  async #steps(id: string): Promise<void> {
    const running = this.#running.get(id)
    if (running === undefined) return
    running.cancelTimer = null
    try {
      let waitMs: number | null = 0
      while (waitMs === 0 && !this.#stopped) waitMs = await this.#step(id, running)
      running.failures = 0
      if (waitMs === null) this.#running.delete(id)
      else this.#wait(id, running, waitMs)
    } catch (error) {
      if (this.#stopped) return
      running.failures += 1
      if (running.failures === 1) this.#warn(error, 'a repair cannot go on, and is tried again')
      const waitMs = isTransientStorageError(error)
        ? failedAgainMs
        : failedAgainMs * 2 ** running.failures
      this.#wait(id, running, Math.min(waitMs, longestFailedMs))
    }
  }

  #wait(id: string, running: Running, ms: number): void {
    if (this.#stopped) return
    running.cancelTimer = this.#tools.clock.setTimer(() => this.#go(id), ms)
  }

  /** @returns how long to wait for the next; null when it has ended */
  async #step(id: string, running: Running): Promise<number | null> {
    const { store, clock } = this.#tools
    const query = { tenantId: null, id, onlyRunning: false, limit: 1 }
    const [record] = await store.listRepairs(query, clock.nowMs())
    if (record?.state !== 'running') return null
    const tooEarlyMs =
      record.nextStepAtMs + (record.isOwn ? 0 : takeOverAfterMs) - Math.floor(clock.nowMs())
    if (tooEarlyMs > 0) return tooEarlyMs
    const share = Math.ceil((record.maxPerSecond * stepMs) / 1_000)
    const room = Math.min(share, 2 * share - record.pending)
    if (room <= 0) {
      running.waits += 1
      return Math.min(stepMs * running.waits, longestLookMs)
    }
    running.waits = 0
    const step = await this.#choose(record, room, running)
    if (step === null) return null
    return await this.#write(record, step)
  }

  async #write(before: RepairRecord, step: RepairStep): Promise<number | null> {
    const { store, clock, stored, moved } = this.#tools
    const nowMs = clock.nowMs()
    // Done or not, when no answer comes: to look costs little, and nobody else would.
    const look = () => {
      if (step.take.length > 0) stored(before.endpointKey, nowMs)
    }
    const { isWritten, record } = await store.stepRepair(step, nowMs).finally(look)
    if (record === null) return null
    if (isWritten) moved(record)
    if (record.state !== 'running') return null
    return Math.max(0, record.nextStepAtMs - Math.floor(clock.nowMs()))
  }

  async #choose(record: RepairRecord, room: number, running: Running): Promise<RepairStep | null> {
    const { registry, refresh, store, clock } = this.#tools
    const { id, kind, criteria, endpointKey } = record
    // Another process may have registered it a moment ago.
    if (registry.byKey(endpointKey) === undefined) await refresh()
    const endpoint = registry.byKey(endpointKey)
    if (endpoint === undefined) {
      const nowMs = clock.nowMs()
      if (await store.endRepair(id, 'failed', 'endpoint_removed', nowMs)) {
        this.#tools.moved({
          ...record,
          state: 'failed',
          reason: 'endpoint_removed',
          endedAtMs: nowMs,
        })
      }
      return null
    }
    const withBodies = kind === 'backfill' && needsBody(criteria, endpoint)
    const limit = Math.min(running.rows, withBodies ? mostRowsWithBodies : mostRows)
    const page = await store.findCandidates({ ...asked(record), withBodies, limit })
    const nowMs = clock.nowMs()
    const skipped: Record<string, number> = {}
    const take: string[] = []
    let to = page.next
    let matched = 0
    for (const [i, candidate] of page.candidates.entries()) {
      const choice = chooseForRepair(kind, criteria, endpoint, candidate, nowMs)
      if (choice === 'unwanted') continue
      matched += 1
      if (choice === 'take') take.push(candidate.delivery?.id ?? candidate.eventKey)
      else skipped[choice] = (skipped[choice] ?? 0) + 1
      if (take.length < room || i + 1 === page.candidates.length) continue
      to = candidate.eventKey
      break
    }
    // A page that held too little has to pass over much.
    if (take.length < room) running.rows = Math.min(running.rows * 4, mostRows)
    const nextStepAtMs = Math.ceil(nowMs + (take.length * 1_000) / record.maxPerSecond)
    return { id, from: record.cursor, to, nextStepAtMs, matched, skipped, take }
  }

  #warn(error: unknown, message: string): void {
    const text = error instanceof Error ? error.message : String(error)
    this.#tools.logger.warn({ error: text }, message)
  }
}

/** What of a repair says which candidates there are. */
export function asked(repair: Omit<NewRepair, 'id'>): Omit<CandidateQuery, 'withBodies' | 'limit'> {
  const { kind, tenantId, endpointKey, criteria, cursor } = repair
  return { kind, tenantId, endpointKey, criteria, after: cursor }
}
