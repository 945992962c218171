/** From a recorded settlement to facts and one wide log line. Nothing here may change a delivery. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { DeliveryFact, Facts } from '../observe/facts.ts'
import type { Logger } from '../observe/log.ts'
import type { BatchMember, Claim, SettlementRecord, SettlementResult } from '../storage/storage.ts'

export interface TellTools {
  readonly facts: Facts
  readonly logger: Logger
  readonly logAttempts: boolean
}

export function tellSettled(
  tools: TellTools,
  claim: Claim,
  record: SettlementRecord,
  endpoint: EndpointRecord,
  result: SettlementResult,
): void {
  const { attempt, settlement, settledAtMs } = record
  if (tools.logAttempts || result === 'late') {
    tools.logger[result === 'late' ? 'warn' : 'info'](
      {
        delivery: claim.deliveryId,
        event: claim.eventId,
        type: claim.eventType,
        endpoint: endpoint.id,
        attempt: attempt.number,
        outcome: attempt.outcome,
        status: attempt.httpStatus,
        error: attempt.error,
        duration_ms: Math.round(attempt.latencyMs),
        state: settlement.state,
        next_attempt_in_ms:
          settlement.state === 'waiting' ? settlement.dueAtMs - settledAtMs : undefined,
      },
      result === 'late' ? 'attempt.late' : 'attempt.settled',
    )
  }
  if (result === 'late') return
  if (tools.facts.wants('attempt.settled')) tellAttempt(tools.facts, claim, record, endpoint)
  if (settlement.state !== 'waiting') tellEnd(tools.facts, claim, record, endpoint)
}

function tellAttempt(
  facts: Facts,
  claim: Claim,
  { attempt, settlement }: SettlementRecord,
  endpoint: EndpointRecord,
): void {
  facts.tell('attempt.settled', {
    deliveryId: claim.deliveryId,
    eventId: claim.eventId,
    eventType: claim.eventType,
    endpointId: endpoint.id,
    tenantId: claim.tenantId || null,
    attempt: attempt.number,
    outcome: attempt.outcome,
    httpStatus: attempt.httpStatus,
    error: attempt.error,
    latencyMs: attempt.latencyMs,
    nextAttemptAt: settlement.state === 'waiting' ? new Date(settlement.dueAtMs) : null,
    deliveries: claim.members?.length ?? 1,
  })
}

function tellEnd(
  facts: Facts,
  claim: Claim,
  { attempt, settlement }: SettlementRecord,
  endpoint: EndpointRecord,
): void {
  const { state, reason } = settlement
  const name = state === 'delivered' ? 'delivery.delivered' : 'delivery.failed'
  if (!facts.wants(name)) return
  const single: BatchMember = claim
  for (const member of claim.members ?? [single]) {
    const fact: DeliveryFact = {
      deliveryId: member.deliveryId,
      eventId: member.eventId,
      eventType: member.eventType,
      endpointId: endpoint.id,
      tenantId: claim.tenantId || null,
      attempts: attempt.number,
      reason,
      batchId: claim.members === null ? null : claim.deliveryId,
    }
    if (state === 'delivered') facts.tell('delivery.delivered', fact)
    else if (state === 'exhausted' || state === 'rejected') {
      facts.tell('delivery.failed', { ...fact, state })
    }
  }
}
