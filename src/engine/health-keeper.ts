/**
 * Follows which endpoints fail, over restarts and processes, and carries out what policy/health.ts
 * decides. An attempt that changes nothing costs a look into a map that is empty when all is well; a
 * dead endpoint is written about once an hour, not for each attempt.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointHealth } from '../model/health.ts'
import { type Outcome, outcomeStatus } from '../model/outcome.ts'
import type { Logger } from '../observe/log.ts'
import {
  afterFailure,
  cleared,
  type FailureNote,
  type HealthRule,
  isWorthWriting,
  judge,
  testimonyOf,
  unknownHealth,
  type Verdict,
  withWarning,
} from '../policy/health.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import type { Store } from '../storage/storage.ts'

export interface HealthKeeperTools {
  readonly store: Pick<Store, 'loadHealth' | 'saveHealth'>
  readonly rule: HealthRule
  readonly logger: Logger
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  /** Resolves when it is told, and stored where an endpoint is to be told of it. */
  readonly warn: (endpoint: EndpointRecord, health: EndpointHealth) => Promise<void>
  readonly recovered: (endpoint: EndpointRecord, run: EndpointHealth) => Promise<void>
  /** Resolves when it is disabled. */
  readonly disable: (endpoint: EndpointRecord, health: EndpointHealth) => Promise<void>
  /** Counts as unrest until it is done. */
  readonly during: (work: Promise<unknown>) => void
}

/** One attempt, as far as health is concerned. */
export interface HealthReport {
  readonly outcome: Outcome
  readonly startedAtMs: number
  readonly settledAtMs: number
  /** Deliveries that ended with it without success. */
  readonly ended: number
}

type Note = ({ readonly kind: 'failure' } & FailureNote) | { kind: 'clear'; atMs: number }

/** Silence counts where another endpoint answered not longer before. */
const reachedWithinMs = 60_000

export class HealthKeeper {
  readonly #tools: HealthKeeperTools
  /** Endpoints that fail. What is not worth a write yet is only here. */
  readonly #failing = new Map<string, EndpointHealth>()
  /** Notes about endpoints that are being written about. */
  readonly #waiting = new Map<string, Note[]>()
  readonly #writes = new Set<Promise<void>>()
  /** The two endpoints that answered last. */
  #reachedKey = ''
  #reachedAtMs = 0
  #otherReachedAtMs = 0

  constructor(tools: HealthKeeperTools) {
    this.#tools = tools
  }

  /** Takes over what other processes have seen: a success here ends a run that was seen there. */
  async sync(): Promise<void> {
    const stored = await this.#tools.store.loadHealth()
    const keys = new Set(stored.map(({ endpointKey }) => endpointKey))
    for (const key of this.#failing.keys()) {
      if (!keys.has(key) && !this.#waiting.has(key)) this.#failing.delete(key)
    }
    for (const health of stored) {
      const known = this.#failing.get(health.endpointKey)
      if (known === undefined || known.revision < health.revision) this.#keep(health)
    }
  }

  attempted({ key, statusChangedAtMs }: EndpointRecord, report: HealthReport): void {
    const { outcome, settledAtMs: atMs, ended } = report
    const testimony = testimonyOf(outcome)
    if (outcomeStatus(outcome) !== null) this.#reached(key, atMs)
    if (testimony === 'answers') {
      if (this.#failing.size > 0) this.clear(key, atMs)
      return
    }
    // Disabled meanwhile, by its own 410 for one: there is nothing left to warn of.
    if (this.#tools.endpoint(key)?.status === 'disabled') return
    const counts =
      testimony === 'fails' ||
      (testimony === 'unclear' && this.#reachedOther(key, report.startedAtMs - reachedWithinMs))
    if (counts) this.#note(key, { kind: 'failure', atMs, enabledAtMs: statusChangedAtMs, ended })
  }

  /** It answers, or it has another address: the run is over. */
  clear(endpointKey: string, atMs: number): void {
    if (!this.#failing.has(endpointKey) && !this.#waiting.has(endpointKey)) return
    this.#note(endpointKey, { kind: 'clear', atMs })
  }

  #reached(key: string, atMs: number): void {
    if (key !== this.#reachedKey) {
      this.#otherReachedAtMs = this.#reachedAtMs
      this.#reachedKey = key
    }
    this.#reachedAtMs = atMs
  }

  #reachedOther(key: string, sinceMs: number): boolean {
    return (key === this.#reachedKey ? this.#otherReachedAtMs : this.#reachedAtMs) >= sinceMs
  }

  #note(endpointKey: string, note: Note): void {
    const waiting = this.#waiting.get(endpointKey)
    if (waiting !== undefined) {
      waiting.push(note)
      return
    }
    const before = this.#failing.get(endpointKey) ?? unknownHealth(endpointKey)
    const step = this.#step(before, [note])
    if (!isWorthWriting(before, step.after) && step.verdict !== 'disable') {
      this.#keep(step.after)
      return
    }
    const notes = [note]
    this.#waiting.set(endpointKey, notes)
    const write = this.#write(before, notes).finally(() => this.#writes.delete(write))
    this.#writes.add(write)
    this.#tools.during(write)
  }

  /** Resolves when what was noted is written, and told. */
  async written(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes)
  }

  async #write(before: EndpointHealth, notes: Note[]): Promise<void> {
    const { endpointKey } = before
    let seen = before
    try {
      while (notes.length > 0) {
        const some = notes.splice(0)
        for (let isWritten = false; !isWritten; ) {
          const step = this.#step(seen, some)
          const saved = await this.#tools.store.saveHealth(step.after, step.change)
          isWritten = saved.isWritten
          // Another process was faster: judged anew, from what it saw.
          if (isWritten) await this.#act(step, saved.health, seen)
          seen = saved.health
        }
        this.#keep(seen)
      }
    } catch (error) {
      // The next attempt says the same again.
      const text = error instanceof Error ? error.message : String(error)
      this.#tools.logger.warn({ error: text }, 'the health of an endpoint could not be written')
    } finally {
      this.#waiting.delete(endpointKey)
    }
  }

  #step(
    seen: EndpointHealth,
    notes: readonly Note[],
  ): { after: EndpointHealth; verdict: Verdict; change: EndpointChange | null } {
    let after = seen
    let atMs = 0
    for (const note of notes) {
      after = note.kind === 'clear' ? cleared(after, note.atMs) : afterFailure(after, note)
      atMs = note.atMs
    }
    const verdict = judge(after, this.#tools.rule, atMs)
    if (verdict !== 'early' && verdict !== 'final') return { after, verdict, change: null }
    const version = this.#tools.endpoint(seen.endpointKey)?.version ?? 1
    const what = verdict === 'early' ? 'failing' : 'to be disabled'
    const reason = failingSince(after)
    return {
      after: withWarning(after, verdict, atMs),
      verdict,
      change: { atMs, version, what, reason, fields: [] },
    }
  }

  async #act(
    { verdict }: { readonly verdict: Verdict },
    health: EndpointHealth,
    before: EndpointHealth,
  ): Promise<void> {
    const endpoint = this.#tools.endpoint(health.endpointKey)
    if (endpoint === undefined) return
    if (verdict === 'disable') await this.#tools.disable(endpoint, health)
    else if (verdict !== null) await this.#tools.warn(endpoint, health)
    else if (health.failingSinceMs === null && before.warned !== 'no') {
      await this.#tools.recovered(endpoint, before)
    }
  }

  #keep(health: EndpointHealth): void {
    if (health.failingSinceMs === null) this.#failing.delete(health.endpointKey)
    else this.#failing.set(health.endpointKey, health)
  }
}

/** For people: `no attempt has succeeded since 2026-01-05T12:00:00.000Z`. */
export function failingSince({ failingSinceMs }: EndpointHealth): string {
  return `no attempt has succeeded since ${new Date(failingSinceMs ?? 0).toISOString()}`
}
