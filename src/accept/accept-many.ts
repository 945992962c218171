/**
 * Many events from one call. All are checked before any is stored; they are handed over some thousand
 * at a time, so that neither the host's event loop nor the commits of others wait for all of them.
 */
import { WebhookError } from '../model/errors.ts'
import type { DispatchReceipt } from './handover.ts'

/** Checked in one go: a few milliseconds. */
const checkStep = 500
/** Handed over in one go; the next ones follow when those before the last are on disk. */
const acceptStep = 5_000

/**
 * @throws what `check` throws, nothing is stored then; else the first error of `accept`. The events
 *   beside one whose id is another's are stored; after any other error no more are handed over.
 */
export async function acceptMany<Event, Checked>(
  events: readonly Event[],
  check: (event: Event) => Checked,
  accept: (checked: Checked) => Promise<DispatchReceipt>,
): Promise<DispatchReceipt[]> {
  const checked: Checked[] = []
  for (const event of events) {
    if (checked.length > 0 && checked.length % checkStep === 0) await breath()
    checked.push(check(event))
  }
  const receipts: DispatchReceipt[] = []
  let firstError: unknown = null
  let isOver = false
  const handOver = async (from: number) => {
    const some = checked.slice(from, from + acceptStep).map((one) => accept(one))
    for (const [i, one] of (await Promise.allSettled(some)).entries()) {
      if (one.status === 'fulfilled') receipts[from + i] = one.value
      else {
        firstError ??= one.reason
        isOver ||= !isConflict(one.reason)
      }
    }
  }
  let before = Promise.resolve()
  let last = Promise.resolve()
  for (let from = 0; from < checked.length; from += acceptStep) {
    await before
    if (isOver) break
    before = last
    last = handOver(from)
  }
  await Promise.all([before, last])
  if (firstError !== null) throw firstError
  return receipts
}

function isConflict(error: unknown): boolean {
  return error instanceof WebhookError && error.code === 'EVENT_ID_CONFLICT'
}

function breath(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
