/**
 * Which endpoints have deliveries, by slots of about a second: how the deliveries of one endpoint are
 * found. An index of (endpoint, id) would find them directly, but with a hundred endpoints each commit
 * then writes a hundred of its leaves, which cost a tenth of all CPU. One row per endpoint and second
 * costs next to nothing, and the rows of a second are passed over in milliseconds.
 */
import type { Session } from './session.ts'

/** `dlv_` and the first 8 of the 10 characters of an event key that hold its milliseconds. */
const slotLength = 12

const insertSlot =
  'insert into delivery_slot (endpoint_key, slot) values (?, ?) on conflict do nothing'

/** The newest slot that reaches below an id. */
const slotBelow = `
  select max(slot) as slot from delivery_slot where endpoint_key = ? and slot < ? and slot >= ?`

/** The oldest slot that reaches above an id. */
const slotAbove = `
  select min(slot) as slot from delivery_slot where endpoint_key = ? and slot || '{' > ?
     and slot >= ?`

const nextEndpoint = 'select min(endpoint_key) as key from delivery_slot where endpoint_key > ?'
const deleteSlots = 'delete from delivery_slot where endpoint_key = ? and slot < ?'
const oldestDelivery = `
  select min(id) as id from (
    select * from (select id from done order by id limit 1) union all
    select * from (select id from live where kind = 'single' order by id limit 1))`

/** Slots known to be written, at the most: beyond it they are forgotten and written again. */
const maxKnown = 20_000

export function slotOf(deliveryId: string): string {
  return deliveryId.slice(0, slotLength)
}

/** The smallest text above every id in a slot. '{' is the character after 'z'. */
export function slotEnd(slot: string): string {
  return `${slot}{`
}

/** @returns null when the endpoint has nothing in that range of ids */
export function newestSlot(
  { connection }: Session,
  endpointKey: string,
  { below, from }: { below: string; from: string },
): string | null {
  const found = connection.get<{ slot: string | null }>(slotBelow, endpointKey, below, slotOf(from))
  return found?.slot ?? null
}

/** @returns null when the endpoint has nothing above that id */
export function nextSlot(
  { connection }: Session,
  endpointKey: string,
  above: string,
): string | null {
  const found = connection.get<{ slot: string | null }>(
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

  write(): void {
    if (this.#slots.size === 0) return
    const { connection, knownSlots } = this.#session
    for (const values of this.#slots.values()) connection.run(insertSlot, ...values)
    connection.afterCommit(() => {
      if (knownSlots.size > maxKnown) knownSlots.clear()
      for (const name of this.#slots.keys()) knownSlots.add(name)
    })
  }
}

/**
 * Forgets slots older than every delivery, of up to `limit` endpoints.
 *
 * @returns the last endpoint looked at; null when there is none after it
 */
export function pruneSlots(session: Session, limit: number, after: string): string | null {
  const { connection, knownSlots } = session
  const oldest = connection.get<{ id: string | null }>(oldestDelivery)?.id ?? null
  // Nothing is left at all: what has just been accepted into fan-out has no slot yet either.
  const keepFrom = oldest === null ? '~' : slotOf(oldest)
  let position = after
  for (let i = 0; i < limit; i += 1) {
    const key = connection.get<{ key: string | null }>(nextEndpoint, position)?.key ?? null
    if (key === null) return null
    connection.run(deleteSlots, key, keepFrom)
    position = key
  }
  connection.afterCommit(() => knownSlots.clear())
  return position
}
