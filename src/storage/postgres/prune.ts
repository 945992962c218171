/**
 * Retention: deletes what has outlived its time, in steps of bounded cost, one process at a time.
 * Days that are over leave as a whole (prune-days.ts); rows one by one only where there are few of
 * them, or where they lie in no day (prune-rows.ts). What must outlive its time stays: a body that is
 * still to be sent, a delivery that holds its key up (and its body, so that it can be retried), the row
 * and the id of an event that has deliveries.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { RetentionCutoffs } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { readDays } from './days.ts'
import { blockingOf } from './order.ts'
import {
  type DayNotes,
  type DayWalk,
  forgetIdsOfDay,
  pruneDeliveriesOfDay,
  pruneEventsOfDay,
  retireEventsOfDay,
  type Step,
  type Tools,
} from './prune-days.ts'
import { deleteDeliveryRows, pruneBatches, pruneEventRows } from './prune-rows.ts'
import type { Session } from './session.ts'
import { pruneSlots, slotOf } from './slot.ts'

/** One walk of a pass; `after` is the last id looked at. */
export type PruneWalk =
  | DayWalk
  | {
      readonly kind: 'deliveries' | 'batches' | 'events' | 'slots' | 'repairs'
      readonly after: string
    }

export type PruneStep = Step<PruneWalk>

/** Other processes may think that younger slots are written, and not write them again. */
const keepSlotsMs = 3_600_000

const takeTurn = `
  select pg_try_advisory_xact_lock(hashtextextended('kmsg retention ' || $1, 0)) as taken`

/**
 * Held by who makes deliveries of old events: retention neither judges nor takes any meanwhile, and what
 * it has begun ends first. Taken before any table is touched, so nobody waits in a circle.
 */
const shareOldEvents = `
  select pg_advisory_xact_lock_shared(hashtextextended('kmsg old events ' || $1, 0))`
const ownOldEvents = `
  select pg_advisory_xact_lock(hashtextextended('kmsg old events ' || $1, 0))`

/** The walks of one pass, in their order: ended deliveries first, then what they have kept. */
export async function planPass(
  { database }: Session,
  cutoffs: RetentionCutoffs,
): Promise<PruneWalk[]> {
  const days = await database.read((connection) => readDays(connection, database.schema.name))
  const newestMs = Math.max(...Object.values(cutoffs))
  const walks: PruneWalk[] = []
  for (const { day, tables } of days.values()) {
    if (day.fromMs >= newestMs) continue
    if (day.fromMs < cutoffs.settledBeforeMs && (tables.has('done') || tables.has('attempt'))) {
      walks.push({ kind: 'deliveries-of-day', day, tables })
    }
    if (tables.has('event')) walks.push({ kind: 'events-of-day', day })
  }
  for (const kind of ['deliveries', 'batches', 'events', 'slots', 'repairs'] as const) {
    walks.push({ kind, after: '' })
  }
  return walks
}

const deleteRepairs = `
  delete from kmsg.repair
   where id in (select id from kmsg.repair where ended_at_ms < $1 order by id limit $2)`

/** Until the end of the transaction retention takes nothing. */
export async function keepOldEvents({ database }: Session, connection: Connection): Promise<void> {
  await connection.all(shareOldEvents, database.schema.name)
}

/** @returns null when another process is at it */
export async function pruneStep(
  session: Session,
  cutoffs: RetentionCutoffs,
  limit: number,
  walk: PruneWalk,
  notes: DayNotes,
): Promise<PruneStep | null> {
  const { database } = session
  return await database.write(async (connection) => {
    const turn = await connection.get<{ taken: boolean }>(takeTurn, database.schema.name)
    if (!turn?.taken) return null
    await connection.all(ownOldEvents, database.schema.name)
    const tools: Tools = { session, connection, cutoffs, limit, notes }
    switch (walk.kind) {
      case 'deliveries-of-day':
        return await pruneDeliveriesOfDay(tools, walk)
      case 'events-of-day':
        return await pruneEventsOfDay(tools, walk)
      case 'ids-of-day':
        return await forgetIdsOfDay(tools, walk)
      case 'retire-events':
        return await retireEventsOfDay(tools, walk)
      case 'deliveries':
        return await pruneStrayDeliveries(tools, walk.after)
      case 'batches': {
        const below = `bat_${eventKeyFloor(cutoffs.settledBeforeMs)}`
        const range = { after: walk.after, below, limit }
        const { deleted, last } = await pruneBatches(connection, cutoffs, range)
        return { deleted, next: onwards(walk.kind, last), gone: [] }
      }
      case 'events':
        return await pruneStrayEvents(tools, walk.after)
      case 'slots': {
        const keepFrom = slotOf(`dlv_${eventKeyFloor(session.nowMs() - keepSlotsMs)}`)
        const last = await pruneSlots(connection, limit, walk.after, keepFrom)
        return { deleted: 0, next: onwards(walk.kind, last), gone: [] }
      }
      case 'repairs': {
        // They are few, and no other row needs theirs.
        const deleted = await connection.run(deleteRepairs, cutoffs.settledBeforeMs, limit)
        return { deleted, next: null, gone: [] }
      }
      default:
        return walk satisfies never
    }
  })
}

function onwards(
  kind: 'deliveries' | 'batches' | 'events' | 'slots',
  lastOfFullStep: string | null | undefined,
): PruneWalk | null {
  return lastOfFullStep ? { kind, after: lastOfFullStep } : null
}

// ── what lies in no day ──────────────────────────────────────────────────────────────────────────

const strayDeliveries = `
  select id, settled_at_ms from kmsg.done_default where id > $1 and id < $2 order by id limit $3`
const strayEvents = `
  select key from kmsg.event_default where key > $1 and key < $2 order by key limit $3`

async function pruneStrayDeliveries(
  { connection, cutoffs: { settledBeforeMs }, limit }: Tools,
  after: string,
): Promise<PruneStep> {
  const below = `dlv_${eventKeyFloor(settledBeforeMs)}`
  const rows = await connection.all<{ id: string; settled_at_ms: number }>(
    strayDeliveries,
    ...[after, below, limit],
  )
  const old = rows.filter((row) => row.settled_at_ms < settledBeforeMs).map(({ id }) => id)
  const blocking = await blockingOf(connection, old)
  const gone = old.filter((id) => !blocking.has(id))
  const deleted = await deleteDeliveryRows(connection, gone)
  return { deleted, next: onwards('deliveries', rows[limit - 1]?.id), gone: [] }
}

async function pruneStrayEvents(
  { connection, cutoffs, limit }: Tools,
  after: string,
): Promise<PruneStep> {
  const below = eventKeyFloor(Math.max(...Object.values(cutoffs)))
  const rows = await connection.all<{ key: string }>(strayEvents, ...[after, below, limit])
  const keys = rows.map(({ key }) => key)
  const deleted = await pruneEventRows(connection, cutoffs, keys)
  return { deleted, next: onwards('events', keys[limit - 1]), gone: [] }
}
