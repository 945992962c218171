/** What the live table shows: the latest state of every delivery. */
import type { AttemptFact } from '../index.ts'
import type { SignatureVerdict } from '../testing/index.ts'
import type { Colours } from './colour.ts'
import { duration } from './figures.ts'
import type { Column } from './table.ts'
import { displayWidth, printable } from './text-width.ts'
import type { Words } from './words.ts'

export interface BoardRow {
  readonly fact: AttemptFact
  readonly signature: SignatureVerdict | null
}

/** Far more than a terminal shows; what is older is in the data file. */
const rowsKept = 500

export class Board {
  readonly #rows = new Map<string, BoardRow>()
  readonly #endpointIds: readonly string[]

  /** @param endpointIds in the order in which they are shown */
  constructor(endpointIds: readonly string[]) {
    this.#endpointIds = endpointIds
  }

  put(row: BoardRow): void {
    const { deliveryId } = row.fact
    this.#rows.delete(deliveryId)
    this.#rows.set(deliveryId, row)
    if (this.#rows.size <= rowsKept) return
    const [oldest] = this.#rows.keys()
    if (oldest !== undefined) this.#rows.delete(oldest)
  }

  /**
   * The latest rows of every endpoint, together: a busy endpoint must not push the others off the
   * screen. What one does not need of its share goes to the others.
   */
  fairly(count: number): BoardRow[] {
    const groups = new Map<string, BoardRow[]>()
    for (const row of this.#rows.values()) {
      const group = groups.get(row.fact.endpointId)
      if (group === undefined) groups.set(row.fact.endpointId, [row])
      else group.push(row)
    }
    const smallestFirst = [...groups].sort(([, a], [, b]) => a.length - b.length)
    const shown = new Map<string, BoardRow[]>()
    let left = count
    for (const [index, [endpointId, group]] of smallestFirst.entries()) {
      const share = Math.floor(left / (smallestFirst.length - index))
      shown.set(endpointId, share === 0 ? [] : group.slice(-share))
      left -= Math.min(share, group.length)
    }
    return this.#endpointIds.flatMap((endpointId) => shown.get(endpointId) ?? [])
  }
}

/** @param nowMs asked when a cell is made, so that a repeated drawing counts down */
export function boardColumns(
  words: Words,
  colours: Colours,
  nowMs: () => number,
): Column<BoardRow>[] {
  const verdict = ({ signature }: BoardRow): string => words.verdicts[signature ?? 'unknown']
  return [
    {
      title: words.event,
      width: 28,
      minWidth: 20,
      text: ({ fact }) =>
        fact.eventType === 'batch' ? words.batch(fact.deliveries) : printable(fact.eventType),
    },
    { title: words.id, width: 16, dispensable: 4, text: ({ fact }) => printable(fact.eventId) },
    { title: words.endpoint, width: widest(words.endpoint, 'filtered'), text: endpointOf },
    {
      title: words.attempt,
      width: widest(words.attempt, '99'),
      align: 'right',
      text: ({ fact }) => String(fact.attempt),
    },
    {
      title: words.status,
      width: widest(words.status, 'unreachable'),
      minWidth: widest(words.status, 'timed-out'),
      text: ({ fact }) => String(fact.httpStatus ?? fact.outcome),
      paint: (cell, { fact }) => colours[toneOf(fact)](cell),
    },
    {
      title: words.latency,
      width: widest(words.latency, '9.9 min'),
      align: 'right',
      dispensable: 2,
      text: ({ fact }) => duration(fact.latencyMs),
    },
    {
      title: words.next,
      width: widest(words.next, words.inTime('59.9 min'), words.done, words.givenUp),
      minWidth: widest(words.next, words.inTime('9.9 s'), words.done, words.givenUp),
      dispensable: 1,
      text: ({ fact }) => whatFollows(fact, words, nowMs()),
    },
    {
      title: words.signature,
      width: widest(words.signature, ...Object.values(words.verdicts)),
      dispensable: 3,
      text: verdict,
      paint: (cell, { signature }) => colours[signature === 'valid' ? 'good' : 'bad'](cell),
    },
  ]
}

function endpointOf({ fact }: BoardRow): string {
  return printable(fact.endpointId)
}

function whatFollows(fact: AttemptFact, words: Words, nowMs: number): string {
  if (fact.nextAttemptAt === null) return fact.outcome === 'accepted' ? words.done : words.givenUp
  const leftMs = fact.nextAttemptAt.getTime() - nowMs
  if (leftMs <= 0) return words.now
  // A countdown in milliseconds is a flicker that nobody can read.
  return words.inTime(
    leftMs < 100 || leftMs >= 60_000 ? duration(leftMs) : `${(leftMs / 1_000).toFixed(1)} s`,
  )
}

function toneOf(fact: AttemptFact): 'good' | 'pending' | 'bad' {
  if (fact.outcome === 'accepted') return 'good'
  return fact.nextAttemptAt === null ? 'bad' : 'pending'
}

function widest(...texts: readonly string[]): number {
  return Math.max(...texts.map(displayWidth))
}
