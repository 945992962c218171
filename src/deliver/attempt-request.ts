/** What one attempt needs, and what it reports. */
import type { LookupAddress } from 'node:dns'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Outcome } from '../model/outcome.ts'
import type { NetworkOptions } from './network-options.ts'

export interface AttemptRequest {
  readonly deliveryId: string
  /** Counted from 1. */
  readonly attempt: number
  /** Of the batch, when it is one. */
  readonly eventId: string
  /** `'batch'`, when it is one. */
  readonly eventType: string
  /** Exactly the bytes that are signed and sent; they are not copied. */
  readonly body: Uint8Array
  /** Must be a new object whenever the endpoint changes: what it takes to send to it is cached. */
  readonly endpoint: EndpointRecord
  /** Signs when the endpoint has no live secret of its own. */
  readonly fallbackSecret: string | null
  /** Of the whole attempt, to the last byte of the answer. */
  readonly timeoutMs: number
  readonly enableSecurity: boolean
}

export interface AttemptReport {
  readonly outcome: Outcome
  /** Wall clock, when the request got its connection slot. */
  readonly startedAtMs: number
  /** From then to the last byte read; fractions of a millisecond are kept. */
  readonly latencyMs: number
  /** The first 4 KiB of the answer in a buffer of its own; null when there was none. */
  readonly responseBody: Uint8Array | null
}

/** How 3xx answers count; they are never followed. */
export type RedirectRule = 'success' | 'failure'

/** Calls once after `delayMs`. Returns what cancels it. */
export type SetTimer = (callback: () => void, delayMs: number) => () => void

/** All addresses of a name, in the order they should be tried. */
export type LookupAll = (
  hostname: string,
  callback: (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void,
) => void

export interface DispatcherOptions extends NetworkOptions {
  /** CIDR blocks that are reachable although they are not public. Default none. */
  allowedNetworks?: readonly string[] | undefined
  /** Default `'success'`. */
  redirects?: RedirectRule | undefined
  /** Of `dispatch`, for endpoints without a `timeoutMs`. Default 30000. */
  timeoutMs?: number | undefined
  /** Open connections, all endpoints together. Default 1024. */
  maxConnections?: number | undefined
  /** DNS, connect and TLS together. Default 5000. */
  connectTimeoutMs?: number | undefined
  /** How long an unused connection is kept. Default 60000; a receiver's `Keep-Alive` shortens it. */
  idleConnectionMs?: number | undefined
  /** Default `K-Message-Webhook/<version>`. */
  userAgent?: string | undefined
  /** Wall clock for `webhook-timestamp`. */
  nowMs?: (() => number) | undefined
  /** Never goes backwards; measures latency and deadlines. */
  monotonicMs?: (() => number) | undefined
  setTimer?: SetTimer | undefined
  /** Resolves names instead of `dns`. Every address it finds is checked. */
  lookup?: LookupAll | undefined
}
