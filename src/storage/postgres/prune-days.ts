/**
 * Retention by days: whether one has passed a limit, and then what of it goes as a whole (retire.ts)
 * and what row by row (prune-rows.ts).
 *
 * A large day is looked at when all of it has passed a limit, so that its rows go up to a day late
 * and together; a small one is kept to the minute.
 */
import type { RetentionCutoffs } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { boundsOf, type DailyTable, type Day, keyColumns } from './days.ts'
import { isBlocking } from './order.ts'
import { deleteDeliveryRows, forgetIds, pruneEventRows } from './prune-rows.ts'
import {
  examineDeliveries,
  examineEvents,
  goneEvents,
  overEvents,
  retireAttempts,
  retireDeliveries,
  retireEvents,
} from './retire.ts'
import type { Session } from './session.ts'

export type DayWalk =
  | { readonly kind: 'deliveries-of-day'; readonly day: Day; readonly tables: Set<DailyTable> }
  | { readonly kind: 'events-of-day'; readonly day: Day }
  // What may follow it: ids of events that are over, then the day without them, by the same limits.
  | (OverEvents & { readonly kind: 'ids-of-day'; readonly after: string })
  | (OverEvents & { readonly kind: 'retire-events' })

interface OverEvents {
  readonly day: Day
  readonly cutoffs: RetentionCutoffs
}

export interface Step<Walk> {
  readonly deleted: number
  /** The same walk, further on, or what follows it; null when it is through. */
  readonly next: Walk | null
  /** Tables that belong to nothing any more. */
  readonly gone: readonly string[]
}

type DayStep = Step<DayWalk>

/** Up to so many rows are deleted one by one; a day of fewer is not waited for to be over. */
const fewRows = 10_000

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

export interface Tools {
  readonly session: Session
  readonly connection: Connection
  readonly cutoffs: RetentionCutoffs
  readonly limit: number
  readonly notes: DayNotes
}

const nothing: DayStep = { deleted: 0, next: null, gone: [] }

/** The tag of tables that take the place of others: a name is never met twice. */
function newTag({ session }: Tools): string {
  return session.newKey(session.nowMs()).slice(-8)
}

async function isSmall(connection: Connection, table: DailyTable, day: Day): Promise<boolean> {
  const { from, to } = boundsOf(table, day)
  const column = keyColumns[table]
  const [counted] = await connection.once<{ n: number }>(`
    select count(*) as n from (
      select from kmsg.${table} where ${column} >= ${from} and ${column} < ${to}
       limit ${fewRows + 1}) as few`)
  return (counted?.n ?? 0) <= fewRows
}

export async function pruneDeliveriesOfDay(
  tools: Tools,
  walk: DayWalk & { kind: 'deliveries-of-day' },
): Promise<DayStep> {
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
      where id >= ${from} and id < ${to} and settled_at_ms < $1::bigint
        and not ${isBlocking(from, to)} limit ${limit}`,
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
export async function pruneEventsOfDay(
  tools: Tools,
  walk: DayWalk & { kind: 'events-of-day' },
): Promise<DayStep> {
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
    const next: DayWalk = notes.forgotten.has(day.name)
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

export async function forgetIdsOfDay(
  { connection, limit, notes }: Tools,
  walk: DayWalk & { kind: 'ids-of-day' },
): Promise<DayStep> {
  const { day, cutoffs, after } = walk
  const rows = await connection.all<{ key: string }>(
    eventsInOrder,
    ...[after, day.fromKey, day.toKey, limit],
  )
  const keys = rows.map(({ key }) => key)
  const [first] = keys
  const last = keys.at(-1)
  let deleted = 0
  if (first !== undefined && last !== undefined) {
    const { withBody, bare } = await goneEvents(connection, { first, last }, cutoffs)
    deleted += await forgetIds(connection, bare)
    // They are few by now, and go one by one.
    deleted += await pruneEventRows(connection, cutoffs, withBody)
    if (keys.length === limit) return { deleted, next: { ...walk, after: last }, gone: [] }
  }
  notes.forgotten.add(day.name)
  return { deleted, next: { kind: 'retire-events', day, cutoffs }, gone: [] }
}

export async function retireEventsOfDay(
  tools: Tools,
  { day, cutoffs }: DayWalk & { kind: 'retire-events' },
): Promise<DayStep> {
  const retired = await retireEvents(tools.connection, day, cutoffs, newTag(tools))
  if (retired === null) return nothing
  tools.notes.forgotten.delete(day.name)
  return { deleted: retired.gone, next: null, gone: retired.tables }
}
