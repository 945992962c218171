/** From a recorded settlement to facts and one wide log line. Nothing here may change a delivery. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Breaker } from '../model/flow.ts'
import { type Outcome, outcomeCause } from '../model/outcome.ts'
import type { DeliveryFact, Facts } from '../observe/facts.ts'
import { type Logger, loggableUrl } from '../observe/log.ts'
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
  outcome: Outcome,
): void {
  const { attempt, settlement, settledAtMs } = record
  if (outcome.kind === 'blocked') tellBlocked(tools.logger, endpoint, outcome.address)
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
        cause: outcomeCause(outcome),
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

export function tellBreaker(
  { facts, logger }: TellTools,
  { id, tenantId, url }: EndpointRecord,
  { state, untilMs, openings }: Breaker,
): void {
  const whose = { endpointId: id, tenantId: tenantId || null }
  const line = { endpoint: id, tenant: tenantId || undefined, url: loggableUrl(url) }
  switch (state) {
    case 'open': {
      const until = new Date(untilMs)
      logger.warn({ ...line, until: until.toISOString(), openings }, 'endpoint.breaker.opened')
      facts.tell('endpoint.breaker.opened', { ...whose, until, openings })
      return
    }
    case 'half-open':
      logger.info(line, 'endpoint.breaker.half-open')
      facts.tell('endpoint.breaker.half-open', whose)
      return
    case 'closed':
      logger.info(line, 'endpoint.breaker.closed')
      facts.tell('endpoint.breaker.closed', whose)
      return
    default:
      state satisfies never
  }
}

/** Versions of endpoints whose target was refused and spoken of: each of their events would be. */
const toldBlocked = new WeakSet<EndpointRecord>()

/** An operator has to see what a customer must not: to which address a name has led. */
function tellBlocked(logger: Logger, endpoint: EndpointRecord, address: string): void {
  if (toldBlocked.has(endpoint)) return
  toldBlocked.add(endpoint)
  logger.warn(
    { endpoint: endpoint.id, tenant: endpoint.tenantId || undefined, address },
    'the address guard refused an endpoint: it leads to an address outside of `allowedNetworks`',
  )
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
  if (state === 'cancelled') {
    const { deliveryId } = claim
    facts.tell('delivery.cancelled', { deliveryId, endpointId: endpoint.id, reason })
    return
  }
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
