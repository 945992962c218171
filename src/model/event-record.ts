/** An event after the door: validated, serialised once, ready to be committed and sent. */
export interface EventRecord {
  /** Ours, growing with time; see ids.ts. The caller's `id` is unique only within a tenant. */
  readonly key: string
  /** `''` for no tenant. */
  readonly tenantId: string
  readonly id: string
  readonly type: string
  readonly acceptedAtMs: number
  /** Exactly the bytes that are signed and sent. */
  readonly body: Uint8Array
  /** SHA-256 of type, data, metadata and version; the timestamp is left out. */
  readonly contentHash: Uint8Array
  /** Endpoints it matched when it was accepted: how many deliveries there must be. */
  readonly matched: number
}
