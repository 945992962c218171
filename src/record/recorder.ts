/**
 * What follows an attempt: settle it (pure), write the settlement until it is written, then tell the
 * lanes and the listeners. Recording is not delivering: nothing that happens here can make an
 * attempt count as failed.
 */
import type { AttemptReport } from '../deliver/attempt-request.ts'
import type { Clock, Random } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { type Outcome, outcomeError, outcomeStatus } from '../model/outcome.ts'
import type { Settlement } from '../model/settlement.ts'
import type { RetryManager } from '../policy/retry-manager.ts'
import type { RetryPolicy } from '../policy/retry-policy.ts'
import { settle } from '../policy/settle.ts'
import type { Claim } from '../storage/claims.ts'
import type { SettlementRecord, SettlementResult } from '../storage/commit-records.ts'
import type { GroupCommit } from '../storage/group-commit.ts'

export interface RecorderTools {
  readonly clock: Clock
  readonly random: Random
  readonly retries: RetryManager
  readonly commits: GroupCommit
  /** As it is now. */
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  /** After the settlement is written. */
  readonly recorded: (
    claim: Claim,
    record: SettlementRecord,
    endpoint: EndpointRecord,
    result: SettlementResult,
    outcome: Outcome,
  ) => void
}

export class Recorder {
  readonly #tools: RecorderTools
  /** Per record object: an endpoint that changes gets a new record, and a new policy. */
  readonly #policies = new WeakMap<EndpointRecord, RetryPolicy>()

  constructor(tools: RecorderTools) {
    this.#tools = tools
  }

  /** Returns the settlement at once; writing it goes on behind. */
  record(claim: Claim, endpoint: EndpointRecord, report: AttemptReport): Settlement {
    const { clock, random, commits, recorded } = this.#tools
    const number = claim.attempts + 1
    const nowMs = clock.nowMs()
    const policy = this.#policy(endpoint)
    const { expiresAtMs = null } = claim
    const outcome = this.#asOfAddress(report.outcome, endpoint)
    const settlement = settle(number, outcome, policy, nowMs, random, expiresAtMs)
    const record: SettlementRecord = {
      deliveryId: claim.deliveryId,
      endpointKey: claim.endpointKey,
      tenantId: claim.tenantId,
      eventType: claim.eventType,
      token: claim.token,
      attempt: {
        number,
        startedAtMs: report.startedAtMs,
        latencyMs: report.latencyMs,
        outcome: report.outcome.kind,
        httpStatus: outcomeStatus(report.outcome),
        error: outcomeError(report.outcome),
        responseBody: report.responseBody,
        endpointVersion: endpoint.version,
      },
      settlement,
      settledAtMs: nowMs,
      ordered: claim.ordered,
    }
    commits.settle(record, (result) => recorded(claim, record, endpoint, result, report.outcome))
    return settlement
  }

  /** For how long an address wants to be left alone says nothing about the one that replaced it. */
  #asOfAddress(outcome: Outcome, used: EndpointRecord): Outcome {
    if (!('retryAfterMs' in outcome) || outcome.retryAfterMs === null) return outcome
    const url = this.#tools.endpoint(used.key)?.url ?? used.url
    return url === used.url ? outcome : { ...outcome, retryAfterMs: null }
  }

  #policy(endpoint: EndpointRecord): RetryPolicy {
    let policy = this.#policies.get(endpoint)
    if (policy === undefined) {
      policy = this.#tools.retries.policyFor(endpoint.retryConfig)
      this.#policies.set(endpoint, policy)
    }
    return policy
  }
}
