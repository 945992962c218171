/**
 * Retention: deletes what has outlived its time, in steps of bounded cost, one process at a time.
 * Days that are over leave as a whole (retire.ts); rows one by one only where there are few of them,
 * or where they lie in no day (prune-rows.ts). What must outlive its time (a body that is still to be
 * sent, the row of an event that has deliveries) stays.
 *
 * A large day is looked at when all of it has passed a limit, so that its rows go up to a day late
 * and together; a small one is kept to the minute.
 */
import { eventKeyFloor } from '../../model/ids.ts'
import type { RetentionCutoffs } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { boundsOf, type DailyTable, type Day, keyColumns, readDays } from './days.ts'
import { deleteDeliveryRows, forgetEventRows, pruneBatches, pruneEventRows } from './prune-rows.ts'
import {
  examineDeliveries,
  examineEvents,
  overEvents,
  retireAttempts,
  retireDeliveries,
  retireEvents,
} from './retire.ts'
import type { Session } from './session.ts'
import { pruneSlots, slotOf } from './slot.ts'

/** One walk of a pass; `after` is the last id looked at. */
export type PruneWalk =
  | { readonly kind: 'deliveries-of-day'; readonly day: Day; readonly tables: Set<DailyTable> }
  | { readonly kind: 'events-of-day'; readonly day: Day }
  // What may follow it: ids of events that are over, then the day without them, by the same limits.
  | (OverEvents & { readonly kind: 'ids-of-day'; readonly after: string })
  | (OverEvents & { readonly kind: 'retire-events' })
  | {
      readonly kind: 'deliveries' | 'batches' | 'events' | 'slots' | 'repairs'
      readonly after: string
    }

interface OverEvents {
  readonly day: Day
  readonly cutoffs: RetentionCutoffs
}

export interface PruneStep {
  readonly deleted: number
  /** The same walk, further on; null when it is through. */
  readonly next: PruneWalk | null
  /** Tables that belong to nothing any more. */
  readonly gone: readonly string[]
}

/** Other processes may think that younger slots are written, and not write them again. */
const keepSlotsMs = 3_600_000

/** Up to so many rows are deleted one by one; a day of fewer is not waited for to be over. */
export const fewRows = 10_000

/** A large day that is kept for long is looked at again and again; it may take this part of the time. */
const examineShare = 0.0005
const atOnceMs = 20

/** What this process knows of days, so that it does not look at each in every pass. */
export class DayNotes {
  readonly #notBeforeMs = new Map<string, number>()
  /** Days that have lost the ids of what is over in them, and then could not be locked. */
  readonly forgotten = new Set<string>()

  isDue(name: string): boolean {
    return performance.now() >= (this.#notBeforeMs.get(name) ?? 0)
  }

  looked(name: string, startMs: number): void {
    const tookMs = performance.now() - startMs
    if (tookMs > atOnceMs) this.#notBeforeMs.set(name, startMs + tookMs / examineShare)
  }
}

const takeTurn = `
  select pg_try_advisory_xact_lock(hashtextextended('kmsg retention ' || $1, 0)) as taken`

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

interface Tools {
  readonly session: Session
  readonly connection: Connection
  readonly cutoffs: RetentionCutoffs
  readonly limit: number
  readonly notes: DayNotes
}

const nothing: PruneStep = { deleted: 0, next: null, gone: [] }

function onwards(
  kind: 'deliveries' | 'batches' | 'events' | 'slots',
  lastOfFullStep: string | null | undefined,
): PruneWalk | null {
  return lastOfFullStep ? { kind, after: lastOfFullStep } : null
}

/** The tag of tables that take the place of others: a name is never met twice. */
function newTag({ session }: Tools): string {
  return session.newKey(session.nowMs()).slice(-8)
}

// ── days ─────────────────────────────────────────────────────────────────────────────────────────

async function isSmall(connection: Connection, table: DailyTable, day: Day): Promise<boolean> {
  const { from, to } = boundsOf(table, day)
  const column = keyColumns[table]
  const [counted] = await connection.once<{ n: number }>(`
    select count(*) as n from (
      select from kmsg.${table} where ${column} >= ${from} and ${column} < ${to}
       limit ${fewRows + 1}) as few`)
  return (counted?.n ?? 0) <= fewRows
}

async function pruneDeliveriesOfDay(
  tools: Tools,
  walk: PruneWalk & { kind: 'deliveries-of-day' },
): Promise<PruneStep> {
  const { connection, cutoffs, limit, notes } = tools
  const { day, tables } = walk
  const isOver = day.toMs <= cutoffs.settledBeforeMs
  const name = `deliveries ${day.name}`
  if (!isOver && !(await isSmall(connection, 'done', day))) return nothing
  if (isOver && !notes.isDue(name)) return nothing
  const startMs = performance.now()
  if (!tables.has('done')) {
    const gone = isOver ? await retireAttempts(connection, day, newTag(tools)) : null
    if (gone === null && !(await isSmall(connection, 'attempt', day))) notes.looked(name, startMs)
    return { deleted: 0, next: null, gone: gone ?? [] }
  }
  const { total, over } = await examineDeliveries(connection, day, cutoffs)
  if (isOver && tables.has('attempt') && (over === total || over > fewRows)) {
    const gone = await retireDeliveries(connection, day, cutoffs, newTag(tools))
    return gone === null ? nothing : { deleted: over, next: null, gone }
  }
  if (total > fewRows) notes.looked(name, startMs)
  if (over === 0) return nothing
  const { from, to } = boundsOf('done', day)
  const rows = await connection.once<{ id: string }>(
    `select id from kmsg.done
      where id >= ${from} and id < ${to} and settled_at_ms < $1::bigint limit ${limit}`,
    Math.floor(cutoffs.settledBeforeMs),
  )
  const ids = rows.map(({ id }) => id)
  const deleted = await deleteDeliveryRows(connection, ids)
  return { deleted, next: deleted < over ? walk : null, gone: [] }
}

/** What of the day a limit has passed: of a large day all or nothing. */
function roundToDay(cutoffs: RetentionCutoffs, day: Day): RetentionCutoffs {
  const round = (ms: number) => (ms >= day.toMs ? ms : Math.min(ms, day.fromMs))
  return {
    settledBeforeMs: round(cutoffs.settledBeforeMs),
    deliveredBodiesBeforeMs: round(cutoffs.deliveredBodiesBeforeMs),
    failedBodiesBeforeMs: round(cutoffs.failedBodiesBeforeMs),
    eventIdsBeforeMs: round(cutoffs.eventIdsBeforeMs),
  }
}

/**
 * Bodies first, so that an event that is left without its id has nothing to be found by it: ids are
 * forgotten in steps, and the day can only be changed when nobody reads it.
 */
async function pruneEventsOfDay(
  tools: Tools,
  walk: PruneWalk & { kind: 'events-of-day' },
): Promise<PruneStep> {
  const { connection, limit, notes } = tools
  const { day } = walk
  const cutoffs = (await isSmall(connection, 'event', day))
    ? tools.cutoffs
    : roundToDay(tools.cutoffs, day)
  const passed = Object.values(cutoffs).filter((ms) => ms > day.fromMs).length
  const name = `events ${day.name} ${passed}`
  if (passed === 0 || !notes.isDue(name)) return nothing
  const startMs = performance.now()
  const { total, gone, bodies } = await examineEvents(connection, day, cutoffs)
  if (bodies > fewRows) {
    const retired = await retireEvents(connection, day, cutoffs, newTag(tools))
    if (retired === null) return nothing
    return { deleted: bodies, next: walk, gone: retired.tables }
  }
  const isOver = gone === total && day.toMs <= Math.min(...Object.values(cutoffs))
  if (isOver || gone > fewRows) {
    const next: PruneWalk = notes.forgotten.has(day.name)
      ? { kind: 'retire-events', day, cutoffs }
      : { kind: 'ids-of-day', day, cutoffs, after: '' }
    return { deleted: 0, next, gone: [] }
  }
  if (total > fewRows) notes.looked(name, startMs)
  if (gone + bodies === 0) return nothing
  const keys = await overEvents(connection, day, cutoffs, limit)
  const deleted = await pruneEventRows(connection, cutoffs, keys)
  return { deleted, next: deleted > 0 && keys.length === limit ? walk : null, gone: [] }
}

const eventsInOrder = `
  select key from kmsg.event where key > $1 and key >= $2 and key < $3 order by key limit $4`

async function forgetIdsOfDay(
  { connection, limit, notes }: Tools,
  walk: PruneWalk & { kind: 'ids-of-day' },
): Promise<PruneStep> {
  const { day, cutoffs, after } = walk
  const rows = await connection.all<{ key: string }>(
    eventsInOrder,
    ...[after, day.fromKey, day.toKey, limit],
  )
  const keys = rows.map(({ key }) => key)
  const deleted = await forgetEventRows(connection, cutoffs, keys)
  const last = keys[limit - 1]
  if (last !== undefined) return { deleted, next: { ...walk, after: last }, gone: [] }
  notes.forgotten.add(day.name)
  return { deleted, next: { kind: 'retire-events', day, cutoffs }, gone: [] }
}

async function retireEventsOfDay(
  tools: Tools,
  { day, cutoffs }: PruneWalk & { kind: 'retire-events' },
): Promise<PruneStep> {
  const retired = await retireEvents(tools.connection, day, cutoffs, newTag(tools))
  if (retired === null) return nothing
  tools.notes.forgotten.delete(day.name)
  return { deleted: retired.gone, next: null, gone: retired.tables }
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
  const deleted = await deleteDeliveryRows(connection, old)
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
