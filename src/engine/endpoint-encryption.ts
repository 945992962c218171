/**
 * The boundary between endpoints in memory and in the store: what is secret about one goes to any
 * store encrypted, and comes back through here. No store ever sees a key.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { type KeyRing, keyIdOf, missingKey, type Place } from '../security/key-ring.ts'
import { type EncryptedField, encryptedFields, type StoredEndpoint } from '../storage/endpoints.ts'

export class EndpointEncryption {
  /** Null: stored in the clear. */
  readonly #ring: KeyRing | null
  /** Keys of endpoints that lie in the store in the clear or under an older key. */
  readonly #outdated = new Set<string>()

  constructor(ring: KeyRing | null) {
    this.#ring = ring
  }

  get newestKeyId(): string | null {
    return this.#ring?.newestId ?? null
  }

  /** Endpoints still to be encrypted with the newest key. */
  get outdated(): ReadonlySet<string> {
    return this.#outdated
  }

  /** @throws WebhookError ENCRYPTION_KEY_MISSING naming every key that is wanted, ENCRYPTION_KEY_WRONG */
  openAll(stored: readonly StoredEndpoint[]): EndpointRecord[] {
    const known = this.#ring?.ids ?? []
    const wanted = new Set(stored.flatMap(keyIdsOf))
    const missing = [...wanted].filter((id) => !known.includes(id))
    if (missing.length > 0) throw missingKey(missing, known)
    return stored.map((one) => this.#open(one))
  }

  #open(stored: StoredEndpoint): EndpointRecord {
    const ring = this.#ring
    if (ring !== null && !isUnder(ring.newestId, stored)) this.#outdated.add(stored.key)
    if (ring === null) return stored as EndpointRecord
    const open = (field: EncryptedField) => {
      const value = stored[field]
      const isSealed = typeof value === 'string'
      return [field, isSealed ? JSON.parse(ring.open(value, placeOf(stored, field))) : value]
    }
    return { ...stored, ...Object.fromEntries(encryptedFields.map(open)) }
  }

  seal(record: EndpointRecord): StoredEndpoint {
    const ring = this.#ring
    if (ring === null) return record
    const seal = (field: EncryptedField) => [
      field,
      ring.seal(JSON.stringify(record[field]), placeOf(record, field)),
    ]
    return { ...record, ...Object.fromEntries(encryptedFields.map(seal)) }
  }

  /** It is in the store as `seal` gave it, or is no longer there. */
  settled(endpointKey: string): void {
    this.#outdated.delete(endpointKey)
  }
}

/** Also whose it is and where it sends: nobody can give a secret to another tenant's URL. */
function placeOf({ key, tenantId, id, url }: StoredEndpoint, field: EncryptedField): Place {
  const row = JSON.stringify([key, tenantId, id, url])
  const ofTenant = tenantId === '' ? '' : ` of tenant ${JSON.stringify(tenantId)}`
  return { table: 'endpoint', row, name: `${JSON.stringify(id)}${ofTenant}`, field }
}

function keyIdsOf(stored: StoredEndpoint): string[] {
  return encryptedFields
    .map((field) => stored[field])
    .filter((value) => typeof value === 'string')
    .map(keyIdOf)
}

function isUnder(id: string, stored: StoredEndpoint): boolean {
  return keyIdsOf(stored).filter((one) => one === id).length === encryptedFields.length
}
