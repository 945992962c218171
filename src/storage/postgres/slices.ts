/**
 * Long questions and long work, slice by slice: each slice is a transaction of its own, so that no
 * row stays locked and no snapshot stays open for long.
 */
import type { DeliveryFound, DeliveryQuery } from '../questions.ts'
import type { CancelledDelivery } from '../repairs.ts'
import type { EraseResult, EraseSelection, RetentionCutoffs } from '../upkeep.ts'
import { eraseSlice } from './erase.ts'
import { listSlice, rowsPerSlice } from './list.ts'
import { type PruneWalk, planPass, pruneStep } from './prune.ts'
import { DayNotes } from './prune-days.ts'
import { dropGone } from './replace-day.ts'
import type { Session } from './session.ts'

export async function listDeliveries(
  { database }: Session,
  query: DeliveryQuery,
): Promise<DeliveryFound[]> {
  const found: DeliveryFound[] = []
  let before = query.before
  // Most pages are one slice; a filter that leaves little needs larger ones.
  let rows = Math.min(query.limit, rowsPerSlice)
  do {
    // Of one moment: a delivery that ends between two statements would be there twice, or not at all.
    const slice = await database.snapshot((connection) =>
      listSlice(connection, { ...query, before }, rows),
    )
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
  session: Session,
): (cutoffs: RetentionCutoffs, limit: number) => Promise<number> {
  const { database } = session
  const notes = new DayNotes()
  let walks: PruneWalk[] = []
  return async (cutoffs, limit) => {
    if (walks.length === 0) {
      await session.makeDays()
      await dropGone(database)
      walks = await planPass(session, cutoffs)
    }
    let deleted = 0
    while (walks[0] !== undefined && deleted === 0) {
      const step = await pruneStep(session, cutoffs, limit, walks[0], notes)
      if (step === null) {
        // Another process does the same at this moment; what is left then is not known here.
        walks = []
        return 0
      }
      deleted = step.deleted
      if (step.next === null) walks.shift()
      else walks[0] = step.next
      if (step.gone.length > 0) await dropGone(database)
    }
    return deleted
  }
}

/** One call erases up to about `limit` events, and tells what is in flight among all it passed. */
export function createErasing(
  session: Session,
): (selection: EraseSelection, nowMs: number, limit: number) => Promise<EraseResult> {
  const positions = new Map<string, ErasePosition>()
  return async (selection, nowMs, limit) => {
    const name = JSON.stringify(selection)
    let { after, inFlight, mayBegin } = positions.get(name) ?? eraseStart(selection)
    let erased = 0
    const marked: CancelledDelivery[] = []
    const freed: string[] = []
    for (;;) {
      const slice = await eraseSlice(session, selection, nowMs, limit, after)
      erased += slice.erased
      inFlight += slice.inFlight
      mayBegin += slice.mayBegin
      marked.push(...slice.marked)
      freed.push(...slice.freed)
      if (slice.next === null) {
        positions.delete(name)
        return { erased, inFlight, marked, freed, mayBegin, more: inFlight > 0 }
      }
      after = slice.next
      if (erased < limit) continue
      positions.set(name, { after, inFlight, mayBegin })
      return { erased, inFlight, marked, freed, mayBegin, more: true }
    }
  }
}

interface ErasePosition {
  readonly after: string
  readonly inFlight: number
  readonly mayBegin: number
}

function eraseStart({ kind }: EraseSelection): ErasePosition {
  return { after: kind === 'ids' ? '0' : '', inFlight: 0, mayBegin: 0 }
}
