/**
 * Many events from one call. All are checked before any is stored; they are handed over some thousand
 * at a time, so that neither the host's event loop nor the commits of others wait for all of them.
 */
import { WebhookError } from '../model/errors.ts'
import type { AcceptAnswers } from './acceptor.ts'
import type { DispatchReceipt } from './handover.ts'

/** Checked in one go: a few milliseconds. */
const checkStep = 500
/** Handed over in one go, while others are written. */
const acceptStep = 2_500
/** Handed over and not yet on disk, at the most: one is written, one waits, one is prepared. */
const stepsAtOnce = 3

/**
 * @param accept takes one event; its outcome is told to `answers`
 * @throws what `check` throws, nothing is stored then; else the first error of `accept`. The events
 *   beside one whose id is another's are stored; after any other error no more are handed over.
 */
export async function acceptMany<Event, Checked>(
  events: readonly Event[],
  check: (event: Event) => Checked,
  accept: (checked: Checked, index: number, answers: AcceptAnswers) => void,
): Promise<DispatchReceipt[]> {
  const checked: Checked[] = []
  for (const event of events) {
    if (checked.length > 0 && checked.length % checkStep === 0) await breath()
    checked.push(check(event))
  }
  const answers = new Answers(checked.length)
  for (let from = 0; from < checked.length; from += acceptStep) {
    const step = from / acceptStep
    if (step > 0) await (answers.steps[step - stepsAtOnce]?.isOver ?? breath())
    if (answers.mustStop) break
    const some = checked.slice(from, from + acceptStep)
    answers.begin(some.length)
    for (const [i, one] of some.entries()) accept(one, from + i, answers)
  }
  await Promise.all(answers.steps.map(({ isOver }) => isOver))
  if (answers.firstError !== null) throw answers.firstError
  return answers.receipts
}

/** What became of them, and of each step as a whole. */
class Answers implements AcceptAnswers {
  readonly receipts: DispatchReceipt[]
  readonly steps: Step[] = []
  firstError: Error | null = null
  mustStop = false

  constructor(count: number) {
    this.receipts = new Array(count)
  }

  begin(count: number): void {
    this.steps.push(new Step(count))
  }

  accepted(index: number, receipt: DispatchReceipt): void {
    this.receipts[index] = receipt
    this.#answered(index)
  }

  refused(index: number, error: Error): void {
    this.firstError ??= error
    this.mustStop ||= !isConflict(error)
    this.#answered(index)
  }

  #answered(index: number): void {
    this.steps[Math.floor(index / acceptStep)]?.answered()
  }
}

class Step {
  readonly isOver: Promise<void>
  #unanswered: number
  #end: () => void = () => {}

  constructor(count: number) {
    this.#unanswered = count
    this.isOver = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  answered(): void {
    this.#unanswered -= 1
    if (this.#unanswered === 0) this.#end()
  }
}

function isConflict(error: Error): boolean {
  return error instanceof WebhookError && error.code === 'EVENT_ID_CONFLICT'
}

function breath(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
