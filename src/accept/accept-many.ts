/**
 * Many events from one call. All are checked before any is stored; they are handed over some thousand
 * at a time, so that neither the host's event loop nor the commits of others wait for all of them.
 */
import { WebhookError } from '../model/errors.ts'
import type { DispatchReceipt } from './handover.ts'

/** Checked in one go: a few milliseconds. */
const checkStep = 500
/** Handed over in one go, while others are written. */
const acceptStep = 2_500
/** Handed over and not yet on disk, at the most: one is written, one waits, one is prepared. */
const stepsAtOnce = 3

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
  const steps: Promise<void>[] = []
  for (let from = 0; from < checked.length; from += acceptStep) {
    await (steps.at(-stepsAtOnce) ?? breath())
    if (isOver) break
    steps.push(handOver(from))
  }
  await Promise.all(steps)
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
