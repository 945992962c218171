/**
 * Brings changes of endpoints to the store. A change is in force once it is written; what an outcome
 * changes meanwhile (a warning, a 410) is written by its settlement, and must not be undone
 * by a change that began before it.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { type EndpointChange, encryptedFields } from '../storage/endpoints.ts'
import type { EndpointTable } from './endpoint-table.ts'

export interface WritesTo {
  /** @returns false when another process has changed it since `seenVersion`, null: since never */
  save(record: EndpointRecord, change: EndpointChange, seenVersion: number | null): Promise<boolean>
  /** What other processes, too, have written since that version of all endpoints; -1: all of them. */
  changedSince(version: number): Promise<{
    readonly version: number
    readonly endpoints: readonly EndpointRecord[]
    readonly removedKeys: readonly string[]
  }>
  /** After the change is written and in force in memory. */
  changed(record: EndpointRecord, change: EndpointChange): void
}

/** Another process has changed the endpoint: begin again from what it is now. */
class ChangedElsewhere extends Error {}

/** Processes that all change one endpoint at one moment take turns; more than this is no accident. */
const maxTries = 10

interface Writing {
  /** What a settlement changed meanwhile. */
  takenOver: Partial<EndpointRecord> | null
}

export class EndpointWrites {
  readonly #table: EndpointTable
  readonly #to: () => WritesTo
  /** Endpoints that are on their way to the store, by key. */
  readonly #writing = new Map<string, Writing>()
  /** Which version of all endpoints memory has, as far as other processes changed any. */
  #version = -1

  constructor(table: EndpointTable, to: () => WritesTo) {
    this.#table = table
    this.#to = to
  }

  async write(record: EndpointRecord, change: EndpointChange): Promise<EndpointRecord> {
    let written = record
    for (;;) {
      const takenOver = await this.#save(written, { ...change, version: written.version })
      if (takenOver === null) break
      const version = written.version + 1
      written = { ...written, ...withoutChosen(takenOver, change), version }
    }
    this.#table.put(written)
    this.#to().changed(written, { ...change, version: written.version })
    return written
  }

  /** Repeats a change from its beginning, as long as another process is faster. */
  async untilWritten<Result>(change: () => Promise<Result>, nowMs: () => number): Promise<Result> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await change()
      } catch (error) {
        if (!(error instanceof ChangedElsewhere) || tries === maxTries) throw error
        await this.refresh(nowMs())
      }
    }
  }

  /**
   * Takes over what other processes have written. Not while a change of this one is on its way.
   *
   * @returns the version of all endpoints that memory has now
   */
  async refresh(atMs: number): Promise<number> {
    const { version, endpoints, removedKeys } = await this.#to().changedSince(this.#version)
    for (const key of removedKeys) {
      const known = this.#table.byKey(key)
      if (known === undefined) continue
      this.#table.remove(known)
      const gone = { ...known, status: 'disabled', statusReason: 'removed' } as const
      this.#to().changed(gone, elsewhere(known, atMs, 'removed', []))
    }
    for (const record of endpoints) {
      const known = this.#table.byKey(record.key)
      // Read before what a settlement has changed since, and answered after it.
      if (known !== undefined && record.version < known.version) continue
      const fields = known === undefined ? [] : differing(known, record)
      if (known !== undefined && fields.length === 0) continue
      this.#table.put(record)
      const what = known === undefined ? 'registered' : 'updated'
      this.#to().changed(record, elsewhere(record, atMs, what, fields))
    }
    this.#version = version
    return version
  }

  /** Writes an endpoint as it is; nobody is told, because nothing about it has changed. */
  async writeAgain(endpointKey: string, what: string, atMs: number): Promise<void> {
    for (;;) {
      const record = this.#table.byKey(endpointKey)
      if (record === undefined) return
      const { version } = record
      const change = { atMs, version, what, reason: null, fields: encryptedFields }
      // What a settlement wrote meanwhile has been overwritten: it is in memory, and goes again.
      if ((await this.#save(record, change)) === null) return
    }
  }

  /** Takes over into memory what a settlement already wrote to the store. */
  takeOver(
    endpointKey: string,
    changed: Partial<EndpointRecord>,
    change: Omit<EndpointChange, 'version' | 'fields'>,
  ): EndpointRecord | undefined {
    const known = this.#table.byKey(endpointKey)
    if (known === undefined) return undefined
    const version = known.version + 1
    const record = { ...known, ...changed, version, updatedAtMs: change.atMs }
    this.#table.put(record)
    this.#alsoWrite(endpointKey, changed)
    this.#to().changed(record, { ...change, version, fields: Object.keys(changed) })
    return record
  }

  /** A change that is on its way to the store began before this one, and would undo it there. */
  #alsoWrite(endpointKey: string, changed: Partial<EndpointRecord>): void {
    const writing = this.#writing.get(endpointKey)
    if (writing !== undefined) writing.takenOver = { ...writing.takenOver, ...changed }
  }

  /** @returns what a settlement changed meanwhile, and this save has overwritten */
  async #save(record: EndpointRecord, change: EndpointChange): Promise<Writing['takenOver']> {
    const writing: Writing = { takenOver: null }
    this.#writing.set(record.key, writing)
    const seenVersion = this.#table.byKey(record.key)?.version ?? null
    try {
      const isWritten = await this.#to().save(record, change, seenVersion)
      if (!isWritten) throw new ChangedElsewhere(`Endpoint "${record.id}" is changed elsewhere.`)
    } finally {
      this.#writing.delete(record.key)
    }
    return writing.takenOver
  }
}

function elsewhere(
  { version }: EndpointRecord,
  atMs: number,
  what: string,
  fields: readonly string[],
): EndpointChange {
  return { atMs, version, what, reason: 'by another process', fields }
}

/** Names of the fields that are not the same. */
function differing(a: EndpointRecord, b: EndpointRecord): string[] {
  return Object.keys(b).filter((name) => {
    const field = name as keyof EndpointRecord
    return a[field] !== b[field] && JSON.stringify(a[field]) !== JSON.stringify(b[field])
  })
}

/** Who pauses or resumes at the moment of a 410 has the last word on the status. */
function withoutChosen(
  changed: Partial<EndpointRecord>,
  { fields }: EndpointChange,
): Partial<EndpointRecord> {
  if (!fields.includes('status')) return changed
  const { status: _, statusReason: __, statusChangedAtMs: ___, ...rest } = changed
  return rest
}
