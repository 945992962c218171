/**
 * One request and its answer. It ends exactly once, by the answer, an error, its deadline or an
 * abort, and then reports.
 */
import type { Outcome } from '../model/outcome.ts'
import type { AttemptReport, AttemptRequest, RedirectRule } from './attempt-request.ts'
import { classifyError, classifyStatus, mayCarryRetryAfter } from './classify.ts'
import type { Carried } from './connection.ts'
import type { Connections, ConnectionUser, PooledConnection } from './connections.ts'
import type { Deadlines, Expiring } from './deadlines.ts'
import type { PreparedEndpoint, Target } from './prepare.ts'
import type { ReplyHead } from './reply-reader.ts'
import type { RequestHeads } from './request-head.ts'
import { retryAfterMs } from './retry-after.ts'

const maxBodyBytes = 65_536
const maxKeptBytes = 4096

/** What all exchanges of a dispatcher share. */
export interface ExchangeTools {
  readonly connections: Connections
  readonly deadlines: Deadlines
  readonly redirects: RedirectRule
  readonly heads: RequestHeads
  nowMs(): number
  monotonicMs(): number
  ended(exchange: Exchange, report: AttemptReport): void
}

type Phase = 'waiting' | 'connect' | 'headers' | 'body' | 'ended'

export class Exchange implements Expiring, ConnectionUser, Carried {
  deadlineMs = 0
  before: Expiring | null = null
  after: Expiring | null = null
  readonly target: Target
  readonly done: (report: AttemptReport) => void
  readonly #request: AttemptRequest
  readonly #prepared: PreparedEndpoint
  readonly #tools: ExchangeTools
  #connection: PooledConnection | null = null
  #phase: Phase = 'waiting'
  #startedAtMs = 0
  #startMs = 0
  #bodyBytes = 0
  #kept: Uint8Array | null = null
  /** Known from the head of the answer on. */
  #outcome: Outcome | null = null

  constructor(
    request: AttemptRequest,
    prepared: PreparedEndpoint,
    tools: ExchangeTools,
    done: (report: AttemptReport) => void,
  ) {
    this.#request = request
    this.#prepared = prepared
    this.#tools = tools
    this.target = prepared.target
    this.done = done
  }

  /** The time limit begins here: waiting for a free connection is not the receiver's fault. */
  use(connection: PooledConnection): void {
    const { body, timeoutMs } = this.#request
    const tools = this.#tools
    this.#connection = connection
    this.#phase = 'connect'
    this.#startedAtMs = tools.nowMs()
    this.#startMs = tools.monotonicMs()
    tools.deadlines.add(timeoutMs, this.#startMs, this)
    let head: string
    try {
      head = tools.heads.build(this.#request, this.#prepared, this.#startedAtMs)
    } catch (error) {
      this.#end(classifyError(error, false), true)
      return
    }
    connection.send(head, body, this)
  }

  expire(): void {
    const phase = this.#phase === 'headers' ? 'headers' : (this.#connection?.opening ?? 'connect')
    this.#end(this.#outcome ?? { kind: 'timed-out', phase }, false)
  }

  abort(code: string): void {
    this.#tools.connections.cancel(this)
    this.#end(this.#outcome ?? { kind: 'unreachable', code }, false)
  }

  onSend(): void {
    if (this.#phase === 'connect') this.#phase = 'headers'
  }

  onHead({ status, retryAfter }: ReplyHead): void {
    this.#phase = 'body'
    const { nowMs, redirects } = this.#tools
    const waitMs = mayCarryRetryAfter(status) ? retryAfterMs(retryAfter, nowMs()) : null
    this.#outcome = classifyStatus(status, waitMs, redirects)
  }

  onBody(bytes: Uint8Array): void {
    this.#keep(bytes)
    this.#bodyBytes += bytes.length
    if (this.#bodyBytes > maxBodyBytes && this.#outcome !== null) this.#end(this.#outcome, false)
  }

  onComplete(reusable: boolean): void {
    if (this.#outcome !== null) this.#end(this.#outcome, reusable)
  }

  onError(error: Error): void {
    this.#end(this.#outcome ?? classifyError(error, this.#phase === 'headers'), false)
  }

  /** Copied into a buffer of its own: a view would keep all that was read with it alive. */
  #keep(chunk: Uint8Array): void {
    const kept = this.#kept
    if (kept === null) {
      this.#kept = new Uint8Array(chunk.subarray(0, maxKeptBytes))
    } else if (kept.length < maxKeptBytes) {
      const more = chunk.subarray(0, maxKeptBytes - kept.length)
      const joined = new Uint8Array(kept.length + more.length)
      joined.set(kept)
      joined.set(more, kept.length)
      this.#kept = joined
    }
  }

  /** @param reusable whether the connection can carry another request */
  #end(outcome: Outcome, reusable: boolean): void {
    if (this.#phase === 'ended') return
    this.#phase = 'ended'
    const tools = this.#tools
    const began = this.#connection !== null
    const report: AttemptReport = {
      outcome,
      startedAtMs: began ? this.#startedAtMs : tools.nowMs(),
      latencyMs: began ? tools.monotonicMs() - this.#startMs : 0,
      responseBody: this.#kept,
    }
    if (this.#connection !== null) {
      tools.deadlines.remove(this.#request.timeoutMs, this)
      // Given back before reporting, so that the attempt that follows a report can reuse it.
      if (reusable) tools.connections.release(this.#connection)
      else tools.connections.discard(this.#connection)
    }
    tools.ended(this, report)
  }
}
