/** From what has happened to facts and log lines, one wide line each. Nothing here changes anything. */

import type { BacklogFull } from '../accept/backlog.ts'
import type { DispatchReceipt } from '../accept/handover.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { EventRecord } from '../model/event-record.ts'
import type { Breaker } from '../model/flow.ts'
import { type Outcome, outcomeCause } from '../model/outcome.ts'
import type { DeliveryFact, Facts } from '../observe/facts.ts'
import { type Logger, loggableUrl } from '../observe/log.ts'
import type { BatchMember, Claim } from '../storage/claims.ts'
import type { IntakeRecord, SettlementRecord, SettlementResult } from '../storage/commit-records.ts'
import type { EndpointChange } from '../storage/endpoints.ts'

export interface TellTools {
  readonly facts: Facts
  readonly logger: Logger
  readonly logAttempts: boolean
}

export function tellAccepted(facts: Facts, event: EventRecord, receipt: DispatchReceipt): void {
  if (!facts.wants('event.accepted')) return
  facts.tell('event.accepted', {
    eventId: event.id,
    eventType: event.type,
    tenantId: event.tenantId || null,
    deliveries: receipt.deliveryIds.length,
  })
}

/** Nobody waits for an answer: it came with a caller's transaction. */
export function tellRefused(
  { facts, logger }: TellTools,
  { id, type, tenantId }: IntakeRecord,
  error: Error,
): void {
  const code = error instanceof WebhookError ? error.code : 'unknown'
  logger.error({ event: id, code, error: error.message }, 'event.refused')
  const whose = { eventId: id, eventType: type, tenantId: tenantId || null }
  facts.tell('event.refused', { ...whose, code, message: error.message })
}

export function tellBacklogFull(
  { facts, logger }: TellTools,
  { scope, tenantId, endpoint, limit }: BacklogFull,
): void {
  const whose = { tenantId: tenantId || null, endpointId: endpoint?.id ?? null }
  logger.warn({ scope, ...whose, limit }, 'backlog.full')
  facts.tell('backlog.full', { scope, ...whose, limit })
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
  { facts, logger }: Pick<TellTools, 'facts' | 'logger'>,
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

export function tellWarning(facts: Facts, { id, tenantId }: EndpointRecord, warning: string): void {
  facts.tell('endpoint.warning', { endpointId: id, tenantId: tenantId || null, warning })
}

export function tellEndpointChange(
  facts: Facts,
  record: EndpointRecord,
  { what, reason, version }: EndpointChange,
): void {
  const whose = { endpointId: record.id, tenantId: record.tenantId || null }
  if (what === 'disabled') {
    facts.tell('endpoint.disabled', {
      ...whose,
      reason: record.statusReason ?? '',
      disabledAt: new Date(record.statusChangedAtMs),
    })
  }
  facts.tell('endpoint.changed', { ...whose, what, reason, version })
}

/** @param level `info`: the trouble is over */
export function tellStore(
  { facts, logger }: TellTools,
  level: 'info' | 'warn' | 'error',
  message: string,
  fields: Record<string, unknown>,
): void {
  logger[level](fields, message)
  if (level === 'info') facts.tell('storage.recovered', {})
  else {
    facts.tell('storage.trouble', {
      code: String(fields.code ?? 'unknown'),
      message: `${message}: ${String(fields.error ?? '')}`,
    })
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
