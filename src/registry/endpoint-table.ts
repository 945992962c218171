/** The endpoints in memory: by key, by tenant and id, and by what they want. */
import type { EndpointRecord } from '../model/endpoint.ts'
import { MatchIndex } from './match-index.ts'

/** Of so many endpoints that are gone the id is known, for what is said of their deliveries. */
const maxGone = 1_000

export class EndpointTable {
  /** Ids by key, the one that went first in front. */
  readonly #gone = new Map<string, string>()
  readonly #byKey = new Map<string, EndpointRecord>()
  readonly #byId = new Map<string, EndpointRecord>()
  readonly #index = new MatchIndex()

  put(record: EndpointRecord): void {
    this.#byKey.set(record.key, record)
    this.#byId.set(idKey(record.tenantId, record.id), record)
    this.#index.put(record)
  }

  remove(record: EndpointRecord): void {
    this.#byKey.delete(record.key)
    this.#byId.delete(idKey(record.tenantId, record.id))
    this.#index.remove(record)
    this.#gone.set(record.key, record.id)
    const [first] = this.#gone.keys()
    if (this.#gone.size > maxGone && first !== undefined) this.#gone.delete(first)
  }

  /** Its id, also of one that is gone; its key when that went long ago. */
  idOf(key: string): string {
    return this.#byKey.get(key)?.id ?? this.#gone.get(key) ?? key
  }

  byKey(key: string): EndpointRecord | undefined {
    return this.#byKey.get(key)
  }

  byId(tenantId: string | undefined, id: string): EndpointRecord | undefined {
    return this.#byId.get(idKey(tenantId, id))
  }

  all(): EndpointRecord[] {
    return [...this.#byKey.values()]
  }

  match(
    tenantId: string,
    eventType: string,
    metadata: Readonly<Record<string, unknown>>,
    data?: () => unknown,
  ): readonly EndpointRecord[] {
    return this.#index.match(tenantId, eventType, metadata, data)
  }
}

export function idKey(tenantId: string | undefined, id: string): string {
  // A tenant id has no '/', so the pair cannot be read two ways.
  return `${tenantId ?? ''}/${id}`
}
