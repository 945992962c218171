/**
 * What a written settlement means here: for lanes that wait, for the endpoint as memory has it, for
 * what counts, and for whoever listens. The store has all of it already; nothing here can fail it.
 */
import type { Backlog } from '../accept/backlog.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Outcome } from '../model/outcome.ts'
import { loggableUrl } from '../observe/log.ts'
import type { WebhookRegistry } from '../registry/webhook-registry.ts'
import type { Scheduler } from '../schedule/scheduler.ts'
import type { Claim } from '../storage/claims.ts'
import type { SettlementRecord, SettlementResult } from '../storage/commit-records.ts'
import type { Cancelling } from './cancelling.ts'
import type { HealthKeeper } from './health-keeper.ts'
import { isFailedEnd } from './health-telling.ts'
import type { SystemEvents } from './system-events.ts'
import { type TellTools, tellSettled, tellWarning } from './tell.ts'

export interface ConsequencesTools extends TellTools {
  readonly registry: WebhookRegistry
  readonly scheduler: Scheduler
  readonly cancelling: Cancelling
  readonly health: HealthKeeper
  readonly systemEvents: SystemEvents
  /** Null: nothing is limited, so nothing is counted. */
  readonly backlog: Backlog | null
  /** Counts as unrest until it is done. */
  readonly during: (work: Promise<unknown>) => void
}

export class Consequences {
  readonly #tools: ConsequencesTools

  constructor(tools: ConsequencesTools) {
    this.#tools = tools
  }

  /** @param endpoint as it was when the attempt began */
  recorded(
    claim: Claim,
    record: SettlementRecord,
    endpoint: EndpointRecord,
    result: SettlementResult,
    outcome: Outcome,
  ): void {
    const { scheduler, cancelling, health } = this.#tools
    this.#uncount(claim, record, result)
    const written = cancelling.asWritten(record)
    if (result !== 'late') this.#follow(claim, written, endpoint)
    // Now its endpoint is disabled, or was before, or it came too late to say anything.
    if (record.settlement.effect?.kind === 'disable') scheduler.unsuspend(claim.endpointKey)
    tellSettled(this.#tools, claim, record, endpoint, result, outcome)
    if (result === 'late') return
    health.attempted(endpoint, {
      outcome,
      startedAtMs: record.attempt.startedAtMs,
      settledAtMs: record.settledAtMs,
      ended: isFailedEnd(record.settlement.state) ? (claim.members?.length ?? 1) : 0,
    })
  }

  /** A member of a batch is a delivery of its own. */
  #uncount(claim: Claim, { settlement }: SettlementRecord, result: SettlementResult): void {
    const { backlog } = this.#tools
    if (backlog === null || result !== 'written' || settlement.state === 'waiting') return
    backlog.ended(claim.tenantId, claim.endpointKey, claim.members?.length ?? 1)
  }

  #follow(claim: Claim, { settlement, settledAtMs }: SettlementRecord, used: EndpointRecord): void {
    const { registry, scheduler } = this.#tools
    if (settlement.state === 'waiting') scheduler.stored(claim.endpointKey, settlement.dueAtMs)
    else if (claim.ordered) scheduler.stored(claim.endpointKey, settledAtMs)
    const { effect } = settlement
    if (effect === null) return
    const endpoint = registry.byKey(used.key)
    if (endpoint === undefined) return
    if (effect.kind === 'hold') {
      registry.flows.noteHold(used.key, effect.untilMs)
      // Again: what was lifted while this was on its way was another one.
      scheduler.hold(used.key, effect.untilMs)
    } else if (effect.kind === 'disable' && endpoint.status !== 'disabled') {
      this.#disabled(endpoint, effect.reason, settledAtMs)
    } else if (effect.kind === 'warn' && endpoint.warning !== effect.warning) {
      this.#takeOver(endpoint, settledAtMs, 'warned', effect.warning, { warning: effect.warning })
      tellWarning(this.#tools.facts, endpoint, effect.warning)
    }
  }

  #disabled(endpoint: EndpointRecord, reason: string, atMs: number): void {
    const { systemEvents, during } = this.#tools
    this.#takeOver(endpoint, atMs, 'disabled', reason, {
      status: 'disabled',
      statusReason: reason,
      statusChangedAtMs: atMs,
    })
    during(systemEvents.tell('disabled', endpoint, atMs, { reason }))
  }

  /** The store wrote it together with the settlement; memory follows. */
  #takeOver(
    { key, id, url }: EndpointRecord,
    atMs: number,
    what: string,
    reason: string,
    changed: Partial<EndpointRecord>,
  ): void {
    const { registry, logger } = this.#tools
    registry.takeOver(key, changed, { atMs, what, reason })
    logger.warn({ endpoint: id, url: loggableUrl(url), reason }, `endpoint.${what}`)
  }
}
