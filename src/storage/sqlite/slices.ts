/**
 * Long questions, asked slice by slice: each slice is a call of its own, so that commits and claims
 * get their turn in between.
 */
import type { DeliveryFound, DeliveryQuery } from '../questions.ts'
import type { CancelledDelivery } from '../repairs.ts'
import type { EraseResult, EraseSelection, RetentionCutoffs } from '../upkeep.ts'
import type { EraseSlice } from './erase.ts'
import { type ListSlice, rowsPerSlice } from './list.ts'
import { type PrunePosition, type PruneSlice, pruneStart } from './prune.ts'
import type { Thread } from './thread.ts'

export async function listDeliveries(
  thread: Thread,
  query: DeliveryQuery,
): Promise<DeliveryFound[]> {
  const found: DeliveryFound[] = []
  let before = query.before
  // Most pages are one slice; a filter that leaves little needs larger ones.
  let rows = Math.min(query.limit, rowsPerSlice)
  do {
    const slice: ListSlice = await thread.call('listSlice', { ...query, before }, rows)
    found.push(...slice.deliveries)
    before = slice.next
    rows = rowsPerSlice
  } while (before !== null && found.length < query.limit)
  return found.slice(0, query.limit)
}

/**
 * Retention goes on where the last call stopped, until one pass is through. Without that, every
 * call would first pass over everything that is old and has to stay.
 */
export function createPruning(
  thread: Thread,
): (cutoffs: RetentionCutoffs, limit: number) => Promise<number> {
  let position: PrunePosition | null = null
  return async (cutoffs, limit) => {
    position ??= pruneStart
    let deleted = 0
    while (position !== null && deleted === 0) {
      const slice: PruneSlice = await thread.call('pruneSlice', cutoffs, limit, position)
      deleted = slice.deleted
      position = slice.next
    }
    return deleted
  }
}

/** One call erases up to about `limit` events, and tells what is in flight among all it passed. */
export function createErasing(
  thread: Thread,
): (selection: EraseSelection, nowMs: number, limit: number) => Promise<EraseResult> {
  const positions = new Map<string, { after: string; inFlight: number }>()
  return async (selection, nowMs, limit) => {
    const name = JSON.stringify(selection)
    let { after, inFlight } = positions.get(name) ?? { after: start(selection), inFlight: 0 }
    let erased = 0
    const marked: CancelledDelivery[] = []
    const freed: string[] = []
    for (;;) {
      const slice: EraseSlice = await thread.call('eraseSlice', selection, nowMs, limit, after)
      erased += slice.erased
      inFlight += slice.inFlight
      marked.push(...slice.marked)
      freed.push(...slice.freed)
      if (slice.next === null) {
        positions.delete(name)
        return { erased, inFlight, marked, freed, mayBegin: 0, more: inFlight > 0 }
      }
      after = slice.next
      if (erased < limit) continue
      positions.set(name, { after, inFlight })
      return { erased, inFlight, marked, freed, mayBegin: 0, more: true }
    }
  }
}

function start({ kind }: EraseSelection): string {
  return kind === 'ids' ? '0' : ''
}
