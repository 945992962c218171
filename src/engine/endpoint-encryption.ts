/**
 * The boundary between endpoints in memory and in the store: what is secret about one goes to any
 * store encrypted, and comes back through here. No store ever sees a key.
 */
import type { EndpointRecord } from '../model/endpoint.ts'
import { type KeyRing, keyIdOf, missingKey } from '../security/key-ring.ts'
import type { StoredEndpoint } from '../storage/storage.ts'

type SecretField = 'secrets' | 'headers'

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
    const open = <Value>(field: SecretField, value: Value | string): Value =>
      typeof value === 'string' && ring !== null
        ? (JSON.parse(ring.open(value, placeOf(stored.key, field))) as Value)
        : (value as Value)
    return {
      ...stored,
      secrets: open('secrets', stored.secrets),
      headers: open('headers', stored.headers),
    }
  }

  seal(record: EndpointRecord): StoredEndpoint {
    const ring = this.#ring
    if (ring === null) return record
    const seal = (field: SecretField): string =>
      ring.seal(JSON.stringify(record[field]), placeOf(record.key, field))
    return { ...record, secrets: seal('secrets'), headers: seal('headers') }
  }

  /** It is in the store as `seal` gave it, or is no longer there. */
  settled(endpointKey: string): void {
    this.#outdated.delete(endpointKey)
  }
}

function placeOf(row: string, field: SecretField): { table: string; row: string; field: string } {
  return { table: 'endpoint', row, field }
}

function keyIdsOf({ secrets, headers }: StoredEndpoint): string[] {
  return [secrets, headers].filter((one) => typeof one === 'string').map(keyIdOf)
}

function isUnder(id: string, stored: StoredEndpoint): boolean {
  return keyIdsOf(stored).filter((one) => one === id).length === 2
}
