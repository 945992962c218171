/**
 * Which endpoints have deliveries, by slots of about a second: how the deliveries of one endpoint are
 * found without an index of (endpoint, id), of which every commit would write many leaves.
 */
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { textArray } from './text.ts'

/** `dlv_` and the first 8 of the 10 characters of an event key that hold its milliseconds. */
const slotLength = 12

/** Slots known to be written, at the most: beyond it they are forgotten and written again. */
const maxKnown = 20_000

export const insertSlots = `
  insert into kmsg.delivery_slot (endpoint_key, slot)
  select * from unnest($1::text[], $2::text[]) as slot (endpoint_key, slot)
  on conflict do nothing`

const slotBelow = `
  select max(slot) as slot from kmsg.delivery_slot
   where endpoint_key = $1 and slot < $2 and slot >= $3`

/** The oldest slot that reaches above an id. */
const slotAbove = `
  select min(slot) as slot from kmsg.delivery_slot
   where endpoint_key = $1 and slot || '{' > $2 and slot >= $3`

const nextEndpoints = `
  with recursive step (key, n) as (
    (select min(endpoint_key), 1 from kmsg.delivery_slot where endpoint_key > $1)
    union all
    select (select min(endpoint_key) from kmsg.delivery_slot where endpoint_key > step.key), n + 1
      from step where step.key is not null and n < $2)
  select key from step where key is not null`

const oldestDelivery = `
  select min(id) as id from (
    (select id from kmsg.done order by id limit 1) union all
    (select id from kmsg.live where id < 'dlv\`' and id >= 'dlv_' order by id limit 1)) as oldest`

export function slotOf(deliveryId: string): string {
  return deliveryId.slice(0, slotLength)
}

/** The smallest text above every id in a slot. '{' is the character after 'z'. */
export function slotEnd(slot: string): string {
  return `${slot}{`
}

/** @returns null when the endpoint has nothing in that range of ids */
export async function newestSlot(
  connection: Connection,
  endpointKey: string,
  { below, from }: { below: string; from: string },
): Promise<string | null> {
  const found = await connection.get<{ slot: string | null }>(
    slotBelow,
    endpointKey,
    below,
    slotOf(from),
  )
  return found?.slot ?? null
}

/** @returns null when the endpoint has nothing above that id */
export async function nextSlot(
  connection: Connection,
  endpointKey: string,
  above: string,
): Promise<string | null> {
  const found = await connection.get<{ slot: string | null }>(
    slotAbove,
    endpointKey,
    above,
    slotOf(above),
  )
  return found?.slot ?? null
}

/** Collects the slots of the deliveries that one transaction creates. */
export class SlotsToWrite {
  readonly #session: Session
  readonly #slots = new Map<string, readonly [endpointKey: string, slot: string]>()

  constructor(session: Session) {
    this.#session = session
  }

  add(endpointKey: string, deliveryId: string): void {
    const slot = slotOf(deliveryId)
    const name = endpointKey + slot
    if (!this.#session.knownSlots.has(name)) this.#slots.set(name, [endpointKey, slot])
  }

  /** In their order: two processes that write the same ones wait in one direction only. */
  columns(): [endpointKeys: string, slots: string] {
    const sorted = [...this.#slots].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row)
    return [textArray(sorted.map(([key]) => key)), textArray(sorted.map(([, slot]) => slot))]
  }

  /** The transaction is committed. */
  written(): void {
    const { knownSlots } = this.#session
    if (knownSlots.size > maxKnown) knownSlots.clear()
    for (const name of this.#slots.keys()) knownSlots.add(name)
  }
}

/**
 * Forgets slots older than every delivery, of up to `limit` endpoints.
 *
 * @param keepFrom slots that other processes may think are written: from a while ago
 * @returns the last endpoint looked at; null when there is none after it
 */
export async function pruneSlots(
  connection: Connection,
  limit: number,
  after: string,
  keepFrom: string,
): Promise<string | null> {
  const oldest = (await connection.get<{ id: string | null }>(oldestDelivery))?.id ?? null
  const below = oldest === null || slotOf(oldest) > keepFrom ? keepFrom : slotOf(oldest)
  const keys = await connection.all<{ key: string }>(nextEndpoints, after, limit)
  await connection.run(
    'delete from kmsg.delivery_slot where endpoint_key = any($1::text[]) and slot < $2',
    textArray(keys.map(({ key }) => key)),
    below,
  )
  return keys[limit - 1]?.key ?? null
}
