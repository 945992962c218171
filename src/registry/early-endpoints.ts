/** What was registered before a store was there, as it was asked for; it keeps nothing after that. */
import type { EndpointRecord, WebhookEndpointInput } from '../model/endpoint.ts'
import { idKey } from './endpoint-table.ts'

type Id = Pick<WebhookEndpointInput, 'id' | 'tenantId'>

export class EarlyEndpoints {
  /** By `idKey`; null once a store is there. */
  #inputs: Map<string, WebhookEndpointInput> | null = new Map()
  /** Endpoints whose secret was created, and shown, before a store was there. */
  readonly #created = new Set<string>()

  note(input: WebhookEndpointInput): void {
    this.#inputs?.set(idKey(input.tenantId, input.id), input)
  }

  /** @param changes a field that is undefined is not asked for any more */
  change(id: Id, changes: Partial<WebhookEndpointInput>): void {
    const input = this.#inputs?.get(idKey(id.tenantId, id.id))
    if (input !== undefined) this.note({ ...input, ...changes })
  }

  noteCreatedSecret({ tenantId, id }: Id): void {
    if (this.#inputs !== null) this.#created.add(idKey(tenantId, id))
  }

  hasCreatedSecret({ tenantId, id }: EndpointRecord): boolean {
    return this.#created.has(idKey(tenantId, id))
  }

  remove({ tenantId, id }: Id): void {
    this.#inputs?.delete(idKey(tenantId, id))
  }

  /** A store is there: what was asked for until now, by `idKey`. */
  end(): ReadonlyMap<string, WebhookEndpointInput> {
    const inputs = this.#inputs ?? new Map<string, WebhookEndpointInput>()
    this.#inputs = null
    return inputs
  }
}
