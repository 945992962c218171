/** Endpoints as a store keeps them: encrypted where they are secret, with their history and health. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { EndpointHealth } from '../model/health.ts'

/** What is secret about an endpoint: texts `<key id>:<base64>` when the service has a key. */
export const encryptedFields = ['secrets', 'headers', 'tls'] as const

export type EncryptedField = (typeof encryptedFields)[number]

/** An endpoint as a store keeps it. */
export type StoredEndpoint = Omit<EndpointRecord, EncryptedField> & {
  readonly [Field in EncryptedField]: EndpointRecord[Field] | string
}

export interface EndpointChange {
  readonly atMs: number
  readonly version: number
  /**
   * `registered`, `updated`, `secret rotated`, `rotation ended`, `re-encrypted`, `warned`, `paused`,
   * `resumed`, `failing`, `to be disabled`, `disabled`, `enabled`, `removed`
   */
  readonly what: string
  readonly reason: string | null
  /** Names of the changed fields; never their values, which may be secret. */
  readonly fields: readonly string[]
}

/**
 * What was learned of an endpoint's address says nothing any more: it has another one, or somebody
 * has seen to it and says that it may be sent to.
 */
export function liftsFlow({ status }: Pick<EndpointRecord, 'status'>, { fields }: EndpointChange) {
  return fields.includes('url') || (status === 'active' && fields.includes('status'))
}

/** A store keeps so many changes of each endpoint, the newest. */
export const historyLength = 1_000

/** Endpoints as they are now, where they are not as they were. */
export interface ChangedEndpoints {
  readonly version: number
  readonly endpoints: readonly StoredEndpoint[]
  readonly removedKeys: readonly string[]
}

export interface HealthSaved {
  readonly isWritten: boolean
  readonly health: EndpointHealth
}
