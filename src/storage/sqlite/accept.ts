/**
 * New events with their deliveries. The key of an event decides alone: who inserts (tenant, id) has
 * stored the event; everybody else finds out whose it is. Runs inside the transaction of a commit.
 */
import { deliveryIdRange } from '../../model/ids.ts'
import type { AcceptResult, Cancellation, DeliveryTerms } from '../commit-records.ts'
import type { Connection } from './connection.ts'
import type { SqlValue } from './driver.ts'
import { takePlace } from './order.ts'
import { closedReason, type Session } from './session.ts'
import { SlotsToWrite } from './slot.ts'
import { forManyRows, rowsAtOnce } from './statements.ts'
import { type ByteReader, type CommitOnWire, deliveryWidth, eventWidth } from './wire.ts'

const insertKey = `
  insert into event_key (tenant_id, id, key, content_hash, accepted_at_ms)
  values (?, ?, ?, ?, ?) on conflict do nothing`
const insertKeys = forManyRows(insertKey)

const insertEvent = `
  insert into event (key, tenant_id, id, type, accepted_at_ms, matched, body)
  values (?, ?, ?, ?, ?, ?, ?)`
const insertEvents = forManyRows(insertEvent)

const insertLive = `
  insert into live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                    due_at_ms, round, created_at_ms)
  values (?, 'single', 0, ?, ?, ?, ?, ?, 0, ?, 1, ?)`
const insertLives = forManyRows(insertLive)
const liveValues = 8

/** What has terms is rare, and written by itself. */
const insertWithTerms = `
  insert into live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                    due_at_ms, round, created_at_ms, expires_at_ms)
  values (?, 'single', ?, ?, ?, ?, ?, ?, 0, ?, 1, ?, ?)`

/** The endpoint was disabled or removed while the event was on its way here, or has too much. */
export const insertCancelled = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                    created_at_ms, settled_at_ms)
  values (?, ?, ?, 'cancelled', ?, 1, 0, 0, ?, ?)`

const insertFanOut = `
  insert into fan_out (event_key, targets, total, position)
  values (?1, ?2, json_array_length(?2), 0)`

const findKey = `
  select event_key.key, content_hash, event_key.accepted_at_ms, event.key is not null as stored,
         event.body
    from event_key left join event on event.key = event_key.key
   where event_key.tenant_id = ? and event_key.id = ?`

const findDeliveryIds = `
  select id from live where id >= ?1 and id < ?2
  union all select id from done where id >= ?1 and id < ?2 order by id`

interface FreshEvent {
  readonly key: string
  readonly tenantId: string
  readonly id: string
  readonly type: string
  readonly acceptedAtMs: number
  readonly matched: number
  readonly body: Uint8Array
  readonly hash: Uint8Array
  readonly targets: string | null
  /** Where its deliveries are in the flat array. */
  readonly from: number
  readonly to: number
}

/** @returns null when every event was stored, which is nearly always */
export function insertAccepts(
  session: Session,
  group: CommitOnWire,
  bytes: ByteReader,
  nowMs: number,
  cancelled: Cancellation[],
): AcceptResult[] | null {
  const events = readEvents(group, bytes)
  const lives = new LiveRows(session, group.deliveries, nowMs, cancelled)
  const results: AcceptResult[] = []
  for (let start = 0; start < events.length; start += rowsAtOnce) {
    const some = events.slice(start, start + rowsAtOnce)
    if (insertTogether(session.connection, some)) {
      for (const event of some) lives.add(event)
      continue
    }
    // Singly, in order: the same id can also be twice in this group.
    for (const [i, event] of some.entries()) {
      const result = insertSingly(session.connection, event, lives)
      if (result.kind === 'duplicate') results[start + i] = result
    }
  }
  lives.end()
  if (results.length === 0) return null
  return events.map((_, i) => results[i] ?? { kind: 'stored' })
}

function readEvents({ events: flat }: CommitOnWire, bytes: ByteReader): FreshEvent[] {
  const events: FreshEvent[] = []
  let from = 0
  for (let i = 0; i < flat.length; i += eventWidth) {
    const to = from + (flat[i + 8] as number) * deliveryWidth
    events.push({
      key: flat[i] as string,
      tenantId: flat[i + 1] as string,
      id: flat[i + 2] as string,
      type: flat[i + 3] as string,
      acceptedAtMs: flat[i + 4] as number,
      matched: flat[i + 5] as number,
      body: bytes.take(flat[i + 6] as number),
      hash: bytes.take(flat[i + 7] as number),
      targets: flat[i + 9] as string | null,
      from,
      to,
    })
    from = to
  }
  return events
}

/** @returns false when some key was taken; those that were free are inserted then, without event */
function insertTogether(connection: Connection, events: readonly FreshEvent[]): boolean {
  if (events.length < rowsAtOnce) return false
  const keys: SqlValue[] = []
  const rows: SqlValue[] = []
  for (const { tenantId, id, key, hash, acceptedAtMs, type, matched, body } of events) {
    keys.push(tenantId, id, key, hash, acceptedAtMs)
    rows.push(key, tenantId, id, type, acceptedAtMs, matched, body)
  }
  if (connection.run(insertKeys, ...keys) < rowsAtOnce) return false
  connection.run(insertEvents, ...rows)
  for (const event of events) addTargets(connection, event)
  return true
}

function insertSingly(connection: Connection, event: FreshEvent, lives: LiveRows): AcceptResult {
  const { tenantId, id, key, hash, acceptedAtMs } = event
  if (connection.run(insertKey, tenantId, id, key, hash, acceptedAtMs) === 0) {
    const known = connection.get<KnownKey>(findKey, tenantId, id)
    if (known && known.key !== key) {
      lives.flush()
      return duplicate(connection, event, known)
    }
    // Ours: an earlier commit whose answer was lost, or a key that insertTogether got in just now.
    if (known?.stored === 1) return { kind: 'stored' }
  }
  connection.run(
    insertEvent,
    key,
    tenantId,
    id,
    event.type,
    acceptedAtMs,
    event.matched,
    event.body,
  )
  addTargets(connection, event)
  lives.add(event)
  return { kind: 'stored' }
}

interface KnownKey {
  readonly key: string
  readonly content_hash: Uint8Array
  readonly accepted_at_ms: number
  readonly stored: number
  readonly body: Uint8Array | null
}

function duplicate(connection: Connection, event: FreshEvent, known: KnownKey): AcceptResult {
  const { from, to } = deliveryIdRange(known.key)
  return {
    kind: 'duplicate',
    eventKey: known.key,
    acceptedAtMs: known.accepted_at_ms,
    sameContent: Buffer.compare(known.content_hash, event.hash) === 0,
    body: known.body,
    isErased: known.content_hash.length === 0,
    deliveryIds: connection.all<{ id: string }>(findDeliveryIds, from, to).map(({ id }) => id),
  }
}

function addTargets(connection: Connection, { key, targets }: FreshEvent): void {
  if (targets !== null && targets !== '[]') connection.run(insertFanOut, key, targets)
}

interface FreshDelivery {
  readonly id: string
  readonly eventKey: string
  readonly endpointKey: string
  readonly dueAtMs: number
  readonly createdAtMs: number
}

export function insertLiveWithTerms(
  session: Session,
  { alone, expiresAtMs, order }: DeliveryTerms,
  isOwned: boolean,
  { id, eventKey, endpointKey, dueAtMs, createdAtMs }: FreshDelivery,
): void {
  const { connection, owner } = session
  connection.run(
    insertWithTerms,
    ...[id, alone ? 1 : 0, eventKey, endpointKey, isOwned ? 'delivering' : 'waiting'],
    ...[isOwned ? owner : null, isOwned ? 1 : 0, dueAtMs, createdAtMs],
    expiresAtMs === null ? null : Math.round(expiresAtMs),
  )
  if (order !== undefined) takePlace(session, id, endpointKey, order)
}

/** Collects rows for `live` and writes them sixteen at a time. */
class LiveRows {
  readonly #session: Session
  readonly #deliveries: CommitOnWire['deliveries']
  readonly #nowMs: number
  readonly #slots: SlotsToWrite
  readonly #cancelled: Cancellation[]
  #values: SqlValue[] = []

  constructor(
    session: Session,
    deliveries: CommitOnWire['deliveries'],
    nowMs: number,
    cancelled: Cancellation[],
  ) {
    this.#cancelled = cancelled
    this.#session = session
    this.#deliveries = deliveries
    this.#nowMs = nowMs
    this.#slots = new SlotsToWrite(session)
  }

  add({ key, acceptedAtMs, from, to }: FreshEvent): void {
    const { connection, tally, owner } = this.#session
    let owned = 0
    let waiting = 0
    for (let i = from; i < to; i += deliveryWidth) {
      const id = this.#deliveries[i] as string
      const endpointKey = this.#deliveries[i + 1] as string
      const dueAtMs = this.#deliveries[i + 2] as number
      this.#slots.add(endpointKey, id)
      const how = this.#deliveries[i + 3]
      const closed =
        closedReason(this.#session, endpointKey) ?? (typeof how === 'string' ? how : null)
      if (closed !== null) {
        connection.run(insertCancelled, id, key, endpointKey, closed, acceptedAtMs, this.#nowMs)
        if (closed !== how) this.#cancelled.push({ id, reason: closed })
      } else if (this.#deliveries[i + 4] !== null) {
        const terms = this.#deliveries[i + 4] as DeliveryTerms
        const isOwned = how === 1
        insertLiveWithTerms(this.#session, terms, isOwned, {
          ...{ id, eventKey: key, endpointKey },
          ...{ dueAtMs, createdAtMs: acceptedAtMs },
        })
        if (isOwned) owned += 1
        else waiting += 1
      } else if (how === 1) {
        this.#push(id, key, endpointKey, 'delivering', owner, 1, dueAtMs, acceptedAtMs)
        owned += 1
      } else {
        this.#push(id, key, endpointKey, 'waiting', null, 0, dueAtMs, acceptedAtMs)
        waiting += 1
      }
    }
    tally.add(waiting, owned)
  }

  flush(): void {
    for (let i = 0; i < this.#values.length; i += liveValues) {
      this.#session.connection.run(insertLive, ...this.#values.slice(i, i + liveValues))
    }
    this.#values = []
  }

  end(): void {
    this.flush()
    this.#slots.write()
  }

  #push(...row: SqlValue[]): void {
    this.#values.push(...row)
    if (this.#values.length < liveValues * rowsAtOnce) return
    this.#session.connection.run(insertLives, ...this.#values)
    this.#values = []
  }
}
