/**
 * One attempt, from a lane's claim to the request, and from its report back to the recorder and the
 * lane. It knows when attempts are cut off by `close()`, which counts for nothing.
 */
import { type CheckedEvent, encodeEvent } from '../accept/event-input.ts'
import type { AttemptReport, AttemptRequest } from '../deliver/attempt-request.ts'
import type { WebhookDispatcher } from '../deliver/dispatcher.ts'
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { verdictOf } from '../policy/breaker.ts'
import type { Recorder } from '../record/recorder.ts'
import type { Scheduler } from '../schedule/scheduler.ts'
import type { Claim } from '../storage/claims.ts'
import type { GroupCommit } from '../storage/group-commit.ts'
import { AtMost } from './at-most.ts'
import type { ServiceOptions } from './options.ts'

export interface AttemptsTools {
  readonly dispatcher: WebhookDispatcher
  readonly options: Pick<ServiceOptions, 'secretKey' | 'timeoutMs' | 'enableSecurity'>
  readonly clock: Clock
  readonly recorder: Recorder
  readonly commits: GroupCommit
  readonly scheduler: Scheduler
}

const maxTriesAtOnce = 16

type Sendable = Pick<Claim, 'deliveryId' | 'eventId' | 'eventType' | 'body'>

export class Attempts {
  readonly #tools: AttemptsTools
  /** Tests of endpoints share the connections of deliveries, and must not take them all. */
  readonly #tries = new AtMost(maxTriesAtOnce)
  /** Attempts that were cut off are given back, not counted. */
  #aborted = false

  constructor(tools: AttemptsTools) {
    this.#tools = tools
  }

  run(claim: Claim, endpoint: EndpointRecord): void {
    const attempt = claim.attempts + 1
    this.#tools.dispatcher.attempt(this.#request(claim, attempt, endpoint), (report) =>
      this.#ended(claim, endpoint, report),
    )
  }

  /** One request outside of any delivery: nothing is stored, counted or retried. */
  tryOnce(event: CheckedEvent, endpoint: EndpointRecord): Promise<AttemptReport> {
    const { id, type } = event
    const sendable = { deliveryId: id, eventId: id, eventType: type, body: encodeEvent(event).body }
    const attempt = () =>
      new Promise<AttemptReport>((resolve) => {
        this.#tools.dispatcher.attempt(this.#request(sendable, 1, endpoint), resolve)
      })
    return this.#tries.run(attempt)
  }

  /** Cuts off what is under way. */
  abort(): void {
    this.#aborted = true
    this.#tools.dispatcher.abortAll()
  }

  #request(
    { deliveryId, eventId, eventType, body }: Sendable,
    attempt: number,
    endpoint: EndpointRecord,
  ): AttemptRequest {
    const { options } = this.#tools
    return {
      deliveryId,
      attempt,
      eventId,
      eventType,
      body,
      endpoint,
      fallbackSecret: endpoint.tenantId === '' ? options.secretKey : null,
      timeoutMs: endpoint.timeoutMs ?? options.timeoutMs,
      enableSecurity: options.enableSecurity,
    }
  }

  #ended(claim: Claim, endpoint: EndpointRecord, report: AttemptReport): void {
    const { clock, commits, recorder, scheduler } = this.#tools
    if (this.#aborted && report.outcome.kind === 'unreachable') {
      const { deliveryId, token } = claim
      commits.release({ deliveryId, token, dueAtMs: clock.nowMs() })
    } else {
      const { effect } = recorder.record(claim, endpoint, report)
      // Before the slot is free again: the next request must not go out while this is written.
      if (effect?.kind === 'hold') scheduler.hold(claim.endpointKey, effect.untilMs)
      if (effect?.kind === 'disable') scheduler.suspend(claim.endpointKey)
    }
    const { outcome, startedAtMs } = report
    const verdict = verdictOf(outcome)
    const timedOut = verdict === 'neither' ? null : outcome.kind === 'timed-out'
    scheduler.finished(claim, verdict, startedAtMs, timedOut)
  }
}
