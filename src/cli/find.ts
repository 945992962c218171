/** `kmsg-webhook find`: where an event is, by an id and nothing else, in every tenant. Reads only. */
import { findInDatabase } from '../storage/postgres/find.ts'
import type { DeliveryFound, EventFound } from '../storage/questions.ts'
import { findInFile } from '../storage/sqlite/beside.ts'
import { exitCodes } from './failure.ts'
import { count } from './figures.ts'
import { isDatabaseUrl, withoutSchema } from './places.ts'
import { displayWidth, pad, printable } from './text-width.ts'
import type { Words } from './words.ts'

export interface FindOptions {
  /** Of an event or a delivery. */
  readonly id: string
  /** A file, or the URL of a database. */
  readonly data: string
  readonly schema?: string | undefined
  readonly json: boolean
  readonly words: Words
}

export async function find({ id, data, schema, json, words }: FindOptions): Promise<number> {
  const events = isDatabaseUrl(data)
    ? await findInDatabase(data, id, { schema })
    : await findInFile(withoutSchema(data, schema), id)
  const text = json
    ? JSON.stringify(events.map(plainEvent), null, 2)
    : events.flatMap((event) => eventLines(event, words)).join('\n')
  if (json || events.length > 0) process.stdout.write(`${text}\n`)
  else process.stderr.write(`${words.find.unknown(printable(id))}\n`)
  return events.length > 0 ? exitCodes.well : exitCodes.failed
}

export function eventLines(event: EventFound, words: Words): string[] {
  const { id, type, tenantId, acceptedAtMs, deliveries, pendingFanOut } = event
  const tenant = tenantId === '' ? words.find.noTenant : words.find.tenant(tenantId)
  const facts = [id, type, tenant, words.find.accepted(iso(acceptedAtMs))]
  return [
    printable(facts.join(' · ')),
    ...aligned(deliveries.map((delivery) => deliveryCells(delivery, words))),
    ...(pendingFanOut > 0 ? [`  ${words.find.creating(count(pendingFanOut))}`] : []),
    ...(deliveries.length + pendingFanOut === 0 ? [`  ${words.find.nobody}`] : []),
  ]
}

function deliveryCells(delivery: DeliveryFound, words: Words): string[] {
  const { endpointId, state, attempts, reason, id } = delivery
  const [endedAt, dueAt] = [endOf(delivery), dueOf(delivery)]
  return [
    endpointId,
    words.doctor.counts[state] ?? state,
    words.find.attempts(attempts),
    endedAt ?? (dueAt === null ? '' : words.find.due(dueAt)),
    id,
    reason ?? '',
  ]
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const safe = rows.map((row) => row.map(printable))
  const widthOf = (at: number) => Math.max(...safe.map((row) => displayWidth(row[at] ?? '')))
  return safe.map((row) =>
    `  ${row.map((cell, at) => pad(cell, widthOf(at))).join('  ')}`.trimEnd(),
  )
}

/** For programs: no body, since what it is asked for is where an event is. */
function plainEvent({ id, type, tenantId, acceptedAtMs, deliveries, pendingFanOut }: EventFound) {
  return {
    id,
    type,
    tenantId: tenantId || null,
    acceptedAt: iso(acceptedAtMs),
    deliveries: deliveries.map((delivery) => ({
      id: delivery.id,
      endpointId: delivery.endpointId,
      state: delivery.state,
      reason: delivery.reason,
      attemptCount: delivery.attempts,
      nextAttemptAt: dueOf(delivery),
      settledAt: endOf(delivery),
    })),
    pendingDeliveries: pendingFanOut,
  }
}

function endOf({ settledAtMs }: DeliveryFound): string | null {
  return settledAtMs === null ? null : iso(settledAtMs)
}

/** Null for what has ended, and for what waits behind another of its key. */
function dueOf({ dueAtMs }: DeliveryFound): string | null {
  return dueAtMs === null || dueAtMs >= latestMs ? null : iso(dueAtMs)
}

/** The last moment of a Date: later are no times, but signs of the store. */
const latestMs = 8_640_000_000_000_000

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
