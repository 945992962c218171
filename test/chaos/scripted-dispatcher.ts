/** Instead of requests: outcomes by the dice, at once or when the test lets go. Writes all down. */
import { WebhookDispatcher } from '@k-msg/webhook'
import type { AttemptReport, AttemptRequest } from '../../src/deliver/attempt-request.ts'
import type { Outcome } from '../../src/model/outcome.ts'

type Done = (report: AttemptReport) => void

export interface Sent {
  readonly request: AttemptRequest
  readonly atMs: number
  outcome: Outcome | null
}

export interface Script {
  nowMs(): number
  random(): number
  /** Called before an attempt is made: the rules are checked here. */
  begins(sent: Sent): void
  ends(sent: Sent): void
  /** Left out: at once. */
  runs?(callback: () => void): void
}

export class ScriptedDispatcher extends WebhookDispatcher {
  readonly #script: Script
  readonly #held = new Map<Sent, Done>()
  isDead = false

  constructor(script: Script) {
    super()
    this.#script = script
  }

  override attempt(request: AttemptRequest, done: Done): void {
    if (this.isDead) return
    const sent: Sent = { request, atMs: this.#script.nowMs(), outcome: null }
    this.#script.begins(sent)
    this.#held.set(sent, done)
    if (this.#script.random() < 0.6) setImmediate(() => this.#answer(sent))
  }

  /** Answers those that were held back. */
  letGo(): void {
    for (const sent of [...this.#held.keys()]) this.#answer(sent)
  }

  #answer(sent: Sent): void {
    const { runs } = this.#script
    const end = () => this.#end(sent, this.#choose())
    if (runs === undefined) end()
    else runs(end)
  }

  override abortAll(): void {
    for (const sent of [...this.#held.keys()]) {
      this.#end(sent, { kind: 'unreachable', code: 'ABORTED' })
    }
  }

  override async close(): Promise<void> {}

  #end(sent: Sent, outcome: Outcome): void {
    const done = this.#held.get(sent)
    if (done === undefined || this.isDead) return
    this.#held.delete(sent)
    sent.outcome = outcome
    this.#script.ends(sent)
    done({ outcome, startedAtMs: sent.atMs, latencyMs: 1, responseBody: null })
  }

  #choose(): Outcome {
    const dice = this.#script.random()
    if (dice < 0.55) return { kind: 'accepted', status: 200, redirected: false }
    if (dice < 0.57) return { kind: 'accepted', status: 302, redirected: true }
    if (dice < 0.75) return { kind: 'faulted', status: 500, retryAfterMs: null }
    if (dice < 0.82) return { kind: 'throttled', status: 429, retryAfterMs: dice * 10_000 }
    if (dice < 0.88) return { kind: 'unreachable', code: 'ECONNRESET' }
    if (dice < 0.93) return { kind: 'timed-out', phase: 'headers' }
    if (dice < 0.985) return { kind: 'refused', status: 400 }
    return { kind: 'gone', status: 410 }
  }
}
