/** What a lane may do: as its endpoint says, else as the service's options do. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { LaneLimits } from '../schedule/lane.ts'
import type { ConcurrencyShares } from '../storage/flows.ts'
import type { ServiceOptions } from './options.ts'

export function laneLimits(
  endpoint: EndpointRecord,
  options: ServiceOptions,
  shares: ConcurrencyShares,
): LaneLimits {
  const batch =
    endpoint.batch === true
      ? { size: options.batchSize, timeoutMs: options.batchTimeoutMs }
      : endpoint.batch || null
  const concurrency = endpoint.concurrency ?? options.endpointConcurrency
  const share = shares.of(endpoint.key, concurrency)
  return {
    concurrency: share,
    isShared: share < concurrency,
    rateLimit: endpoint.rateLimit ?? options.endpointRateLimit,
    timeoutMs: endpoint.timeoutMs ?? options.timeoutMs,
    batch,
  }
}
