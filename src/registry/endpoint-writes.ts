/**
 * Brings changes of endpoints to the store. A change is in force once it is written; what an outcome
 * changes meanwhile (a hold, a warning, a 410) is written by its settlement, and must not be undone
 * by a change that began before it.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { type EndpointChange, encryptedFields } from '../storage/storage.ts'
import type { EndpointTable } from './endpoint-table.ts'

export interface WritesTo {
  save(record: EndpointRecord, change: EndpointChange): Promise<void>
  /** After the change is written and in force in memory. */
  changed(record: EndpointRecord, change: EndpointChange): void
}

interface Writing {
  /** What a settlement changed meanwhile. */
  takenOver: Partial<EndpointRecord> | null
}

export class EndpointWrites {
  readonly #table: EndpointTable
  readonly #to: () => WritesTo
  /** Endpoints that are on their way to the store, by key. */
  readonly #writing = new Map<string, Writing>()

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

  /** The store has noted how long the endpoint asked to be left alone. */
  noteHold(endpointKey: string, untilMs: number): void {
    const known = this.#table.byKey(endpointKey)
    if (known === undefined || known.heldUntilMs >= untilMs) return
    this.#table.put({ ...known, heldUntilMs: untilMs })
    this.#alsoWrite(endpointKey, { heldUntilMs: untilMs })
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
    try {
      await this.#to().save(record, change)
    } finally {
      this.#writing.delete(record.key)
    }
    return writing.takenOver
  }
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
