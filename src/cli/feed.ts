/**
 * From lines to accepted events, no further ahead of sending than some thousand: what is accepted
 * but was never tried stays bounded, however long the input is. Events that wait for a retry do not
 * hold the others up; they are on disk.
 */
import { type DispatchReceipt, WebhookError, type WebhookService } from '../index.ts'
import { eventOfLine, type LineEvent, type MakeId } from './event-of-line.ts'
import { problemOfLine } from './flags.ts'
import type { Line } from './ndjson.ts'

export interface FeedReport {
  accepted(receipt: DispatchReceipt, line: LineEvent): void
  /** The line is not sent; the next ones are. */
  badLine(number: number, problem: string): void
}

/** Deliveries accepted and not yet tried once. */
export class Ahead {
  readonly #limit: number
  #deliveries = 0
  #waiting: (() => void) | null = null

  constructor(limit: number) {
    this.#limit = limit
  }

  enter(deliveries: number): void {
    this.#deliveries += deliveries
  }

  /** Never below none: what an earlier run left is tried, too, and was not counted. */
  leave(deliveries: number): void {
    this.#deliveries = Math.max(0, this.#deliveries - deliveries)
    if (this.#deliveries < this.#limit) this.release()
  }

  release(): void {
    this.#waiting?.()
    this.#waiting = null
  }

  room(): Promise<void> | null {
    if (this.#deliveries < this.#limit) return null
    return new Promise((resolve) => {
      this.#waiting = resolve
    })
  }
}

/**
 * Dispatches every line as it comes; the engine commits together what arrives together.
 *
 * @param stop ends it after the line at hand
 * @throws WebhookError what is no fault of a line: STORAGE_FULL, STORAGE_…
 */
export async function feed(
  service: WebhookService,
  lines: AsyncIterable<Line>,
  report: FeedReport,
  options: { ahead: Ahead; makeId: MakeId; stop: AbortSignal },
): Promise<void> {
  const { ahead, makeId, stop } = options
  const underWay = new Set<Promise<void>>()
  let failure: unknown = null
  const dispatch = async (number: number, line: LineEvent): Promise<void> => {
    try {
      const receipt = await service.dispatchEvent(line.event)
      if (receipt.duplicate) ahead.leave(1)
      else ahead.enter(receipt.deliveryIds.length - 1)
      report.accepted(receipt, line)
    } catch (error) {
      ahead.leave(1)
      if (isFaultOfLine(error)) report.badLine(number, problemOfLine(error.message))
      else failure ??= error
    }
  }
  const release = (): void => ahead.release()
  stop.addEventListener('abort', release)
  for await (const line of lines) {
    await ahead.room()
    if (stop.aborted || failure !== null) break
    if ('problem' in line) {
      report.badLine(line.number, line.problem)
      continue
    }
    if (line.value.tenantId !== undefined) {
      report.badLine(line.number, ofTenant)
      continue
    }
    ahead.enter(1)
    const one = dispatch(
      line.number,
      eventOfLine(line, makeId, () => new Date()),
    )
    underWay.add(one)
    void one.finally(() => underWay.delete(one))
  }
  await Promise.all(underWay)
  stop.removeEventListener('abort', release)
  if (failure !== null) throw failure
}

/** It would be accepted, and reach nobody: what the commands register is of no tenant. */
const ofTenant =
  'Expected an event without `tenantId`, since this command sends for no tenant, got one with it; leave it out.'

/**
 * Ends an input when nobody wants more of it. For chunks, not for lines: every race leaves a
 * reaction behind on the signal's promise.
 */
export async function* until<T>(stop: AbortSignal, input: AsyncIterable<T>): AsyncGenerator<T> {
  const stopped = new Promise<null>((resolve) => {
    if (stop.aborted) resolve(null)
    stop.addEventListener('abort', () => resolve(null), { once: true })
  })
  const iterator = input[Symbol.asyncIterator]()
  for (;;) {
    const next = await Promise.race([iterator.next(), stopped])
    if (next === null || next.done === true) return
    yield next.value
  }
}

function isFaultOfLine(error: unknown): error is WebhookError {
  return error instanceof WebhookError && /^(?:EVENT|TENANT|OPTION)_/.test(error.code)
}
