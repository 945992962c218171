/** What stands behind a registry: a store that a service attaches, or, alone, nothing but memory. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { SignatureScheme } from '../model/signature.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import type { ChangeRules } from './endpoint-changes.ts'
import type { EndpointRules } from './endpoint-input.ts'
import type { WritesTo } from './endpoint-writes.ts'

/** What the service puts behind the registry. */
export interface RegistryBacking extends ChangeRules, WritesTo {
  remove(record: EndpointRecord, change: EndpointChange): Promise<void>
  /** Resolves when nothing waits any more of this endpoint, which is disabled. */
  endWaiting(endpointKey: string): Promise<void>
  /** It was told to wait, or its breaker is not closed. */
  isHeldUp(endpointKey: string): Promise<boolean>
  /** Signatures of endpoints that do not say otherwise. */
  readonly schemes: readonly SignatureScheme[]
}

/** What endpoints are checked and changed by; others from the moment a service attaches. */
export interface Terms {
  readonly backing: RegistryBacking
  readonly rules: EndpointRules
  readonly nowMs: () => number
}

export const memoryBacking = {
  save: () => Promise.resolve(true),
  remove: () => Promise.resolve(),
  endWaiting: () => Promise.resolve(),
  isHeldUp: () => Promise.resolve(false),
  changed: () => {},
  changedSince: (version) => Promise.resolve({ version, endpoints: [], removedKeys: [] }),
  needsSecret: true,
  sharedSecret: null,
  rotationOverlapMs: 86_400_000,
  schemes: ['standard', 'body'],
} satisfies RegistryBacking
