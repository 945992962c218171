/**
 * One request and its answer: the handler that undici calls while it happens. It ends exactly once,
 * by the answer, an error, its deadline or an abort, and then reports.
 *
 * It uses undici's raw callbacks: the newer ones build an object of all headers for every answer, of
 * which at most `retry-after` is read.
 */
import type { Outcome } from '../model/outcome.ts'
import type { AttemptReport, AttemptRequest, RedirectRule } from './attempt-request.ts'
import { classifyError, classifyStatus, mayCarryRetryAfter } from './classify.ts'
import type { Connection, Connections, ConnectionUser } from './connections.ts'
import type { Deadlines, Expiring } from './deadlines.ts'
import type { PreparedEndpoint, Target } from './prepare.ts'
import type { RequestHeaders } from './request-headers.ts'
import { retryAfterMs } from './retry-after.ts'

const maxBodyBytes = 65_536
const maxKeptBytes = 4096
const maxInterimReplies = 16

/** What all exchanges of a dispatcher share. */
export interface ExchangeTools {
  readonly connections: Connections
  readonly deadlines: Deadlines
  readonly redirects: RedirectRule
  readonly headers: RequestHeaders
  nowMs(): number
  monotonicMs(): number
  ended(exchange: Exchange, report: AttemptReport): void
}

type Phase = 'waiting' | 'connect' | 'headers' | 'body' | 'ended'

export class Exchange implements Expiring, ConnectionUser {
  deadlineMs = 0
  before: Expiring | null = null
  after: Expiring | null = null
  readonly target: Target
  readonly done: (report: AttemptReport) => void
  readonly #request: AttemptRequest
  readonly #prepared: PreparedEndpoint
  readonly #tools: ExchangeTools
  #connection: Connection | null = null
  #phase: Phase = 'waiting'
  #startedAtMs = 0
  #startMs = 0
  #interimReplies = 0
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
  use(connection: Connection): void {
    const { body, timeoutMs } = this.#request
    const tools = this.#tools
    this.#connection = connection
    this.#phase = 'connect'
    this.#startedAtMs = tools.nowMs()
    this.#startMs = tools.monotonicMs()
    tools.deadlines.add(timeoutMs, this.#startMs, this)
    let headers: string[]
    try {
      headers = tools.headers.build(this.#request, this.#prepared, this.#startedAtMs)
    } catch (error) {
      this.#end(classifyError(error, false), true)
      return
    }
    connection.client.dispatch(
      // `blocking` would only make undici look for more to pipeline.
      { method: 'POST', path: this.#prepared.path, headers, body, blocking: false },
      this,
    )
  }

  expire(): void {
    const phase = this.#phase === 'headers' ? 'headers' : (this.#connection?.opening ?? 'connect')
    this.#end(this.#outcome ?? { kind: 'timed-out', phase }, false)
  }

  abort(code: string): void {
    this.#tools.connections.cancel(this)
    this.#end(this.#outcome ?? { kind: 'unreachable', code }, false)
  }

  /** undici: the request is about to be written to a connection. */
  onConnect(): void {
    if (this.#phase === 'connect') this.#phase = 'headers'
  }

  onHeaders(status: number, rawHeaders: Buffer[]): boolean {
    if (status < 200) {
      this.#interimReplies += 1
      if (this.#interimReplies > maxInterimReplies) {
        this.#end({ kind: 'unreachable', code: 'EPROTO' }, false)
      }
      return true
    }
    this.#phase = 'body'
    const waitMs = mayCarryRetryAfter(status)
      ? retryAfterMs(valuesOf(rawHeaders, 'retry-after'), this.#tools.nowMs())
      : null
    this.#outcome = classifyStatus(status, waitMs, this.#tools.redirects)
    return true
  }

  onData(chunk: Buffer): boolean {
    this.#keep(chunk)
    this.#bodyBytes += chunk.length
    if (this.#bodyBytes > maxBodyBytes && this.#outcome !== null) this.#end(this.#outcome, false)
    return true
  }

  onComplete(): void {
    if (this.#outcome !== null) this.#end(this.#outcome, true)
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

  /** @param reusable true when the answer was read to its end */
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

function valuesOf(rawHeaders: Buffer[], name: string): string[] {
  const values: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toString('latin1').toLowerCase() === name) {
      values.push(rawHeaders[i + 1]?.toString('latin1') ?? '')
    }
  }
  return values
}
