/**
 * New events with their deliveries: a whole group is one statement, so one round trip. The key of an
 * event decides alone: who inserts (tenant, id) has stored the event; everybody else finds out whose
 * it is, in a statement of its own, because one statement does not see who won meanwhile.
 *
 * `on conflict` would write every key twice, as a proposal and for good, and to look for each id first
 * is another way through its index. So most groups are written as if every event were new. Where one
 * is not, that is refused as a whole; then the statement is used that gives way, and for a minute the
 * one that looks first: who repeats an event mostly repeats others, too.
 */

import { behindMs } from '../../model/delivery.ts'
import type {
  AcceptRecord,
  AcceptResult,
  Cancellation,
  DeliveryTerms,
  NewDelivery,
} from '../commit-records.ts'
import { deliveryColumns, eventColumns, fanColumns, keyColumns } from './accept-columns.ts'
import { insertNew } from './accept-new.ts'
import { int4Array, int8Array } from './binary-array.ts'
import type { Connection, SqlValue } from './connection.ts'
import { sqlState } from './errors.ts'
import { findKnown } from './known.ts'
import { isBehind, lastNo, lockKeys, type OrderedKey } from './order.ts'
import { closedReason, type Session } from './session.ts'
import { SlotsToWrite } from './slot.ts'
import { ByteColumn, booleanArray, rowsOf, textArray } from './text.ts'

/** What a group may hold besides new events for open endpoints, which most hold nothing but. */
interface Holding {
  /**
   * Deliveries that end at once, or were matched with nobody knows which version; and events that
   * somebody else brings now.
   */
  readonly closing: boolean
  readonly ordered: boolean
}

const isNew = `
  (select known.key from kmsg.event_key as known
    where known.tenant_id = given.tenant_id and known.id = given.id) is null`

/** Beside them, of each delivery: why it ends at once, or whether that has to be looked up. */
const closingColumns = { ended: '$25::text[]', unsure: '$26::boolean[]' }
const orderedColumns = { order_key: '$27::text[]', order_blocks: '$28::boolean[]' }

/** Of an event that is new, see model/ids.ts. As a test of a boolean, so that it is looked up by hash. */
const eventKey = 'substr(d.id, 5, 24)'
const isFresh = (key: string) => `(${key} in (select key from fresh)) is true`

/**
 * `me` keeps the lease from being taken over until this is committed: who takes it over then sees
 * these rows. Without the lease nothing is written.
 */
const insertSql = ({ closing, ordered }: Holding) => `
  with me as materialized (
    select id from kmsg.worker where id = $1 for key share
  ), fresh as (
    insert into kmsg.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
    select tenant_id, id, key, substr($13::bytea, body_at + body_length, hash_length), accepted_at_ms
      from ${rowsOf({ ...keyColumns, seen: '$21::bigint[]' })} as given
     where exists (select from me)
       and (seen is null or seen >= (select number from kmsg.endpoints_version))
       ${closing ? 'on conflict do nothing' : `and ${isNew}`}
    returning key
  ), stored as (
    insert into kmsg.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
    select key, tenant_id, id, type, accepted_at_ms, matched,
           substr($13::bytea, body_at, body_length)
      from ${rowsOf(eventColumns)} as given
     where ${isFresh('given.key')}
  ), fans as (
    insert into kmsg.fan_out (event_key, targets, total, position)
    select key, targets::json, target_count, 0
      from ${rowsOf(fanColumns)}
           as given
     where target_count > 0 and ${isFresh('given.key')}
  )${closing ? judged({ closing, ordered }) : ''}, lives as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                           due_at_ms, round, created_at_ms, expires_at_ms
                           ${ordered ? ', order_key, order_blocks, order_no' : ''})
    select id, 'single', coalesce(alone, 0), ${eventKey}, endpoint_key,
           case when owned then 'delivering' else 'waiting' end, case when owned then $1::bigint end,
           owned::int, 0, ${ordered ? dueInOrder : 'due_at_ms'}, 1, created_at_ms, expires_at_ms
           ${ordered ? ', order_key, order_blocks, order_no' : ''}
      from ${
        closing
          ? 'delivery as d where closed is null'
          : `${rowsOf(deliveryColumns)} as d where ${isFresh(eventKey)}`
      }
  ), slots as (
    insert into kmsg.delivery_slot (endpoint_key, slot)
    select * from unnest($22::text[], $23::text[]) as slot (endpoint_key, slot)
     where exists (select from me)
        on conflict do nothing
  )
  select (select count(*) from me) as alive, (select count(*) from fresh) as fresh,
         case when (select count(*) from fresh) < cardinality($2::text[])
              then (select json_agg(key) from fresh) end as keys,
         (select number from kmsg.endpoints_version) as version
         ${closing ? closedNow : ''}`

/** What the accept itself does not end. */
const closedNow = `,
         (select json_agg(json_build_object('id', id, 'reason', closed)) from delivery
           where closed is not null and ended is null) as closed`

/** Those that end at once end in the same statement. */
const judged = ({ ordered }: Holding) => `, delivery as materialized (
    select d.*, coalesce(d.ended, case when d.unsure then (
             select ${closedReason} from kmsg.endpoint where endpoint.key = d.endpoint_key) end)
             as closed ${ordered ? placed : ''}
      from ${rowsOf({ ...deliveryColumns, ...closingColumns, ...(ordered && orderedColumns) })} as d
     where ${isFresh(eventKey)}
      ${ordered ? 'window turn as (partition by d.endpoint_key, d.order_key order by d.id collate "C")' : ''}
  ), cancelled as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms)
    select id, ${eventKey}, endpoint_key, 'cancelled', closed, 1, 0, 0, created_at_ms, $24::bigint
      from delivery as d where closed is not null
  )`

/** Several of one key in one group come one after the other. */
const placed = `,
           case when d.order_key is not null then ${lastNo} + row_number() over turn end as order_no,
           d.order_key is not null and (${isBehind} or row_number() over turn > 1) as is_behind`
const dueInOrder = `case when is_behind then ${behindMs} else due_at_ms end`

const insertOpen = insertSql({ closing: false, ordered: false })
const insertClosing = insertSql({ closing: true, ordered: false })
const insertOrdered = insertSql({ closing: true, ordered: true })

/** @throws WebhookError STORAGE_UNAVAILABLE when the lease is lost: nothing is written then */
export async function commitAccepts(
  session: Session,
  accepts: readonly AcceptRecord[],
): Promise<{ results: AcceptResult[]; cancelled: readonly Cancellation[] }> {
  if (accepts.length === 0) return { results: [], cancelled: [] }
  const { database } = session
  const way = wayOf(session, accepts)
  const work = async (connection: Connection) => {
    try {
      return await insert(session, connection, accepts, way)
    } catch (error) {
      if (way === 'safe' || sqlState(error) !== uniqueViolation) throw error
      session.looksForIdsUntilMs = session.nowMs() + lookForIdsMs
      return await insert(session, connection, accepts)
    }
  }
  // Turns among the keys of ordered deliveries end with a transaction.
  const accepted = await (isOrdered(accepts) ? database.write(work) : database.read(work))
  accepted.committed()
  return accepted
}

const uniqueViolation = '23505'
/** After an event that was known. */
const lookForIdsMs = 60_000

/**
 * `new` and `looking` are for groups in which nothing may end at once and nothing is ordered. They fail,
 * and with them the transaction, where an id is known (`new`), or becomes known at that very moment.
 */
type Way = 'new' | 'looking' | 'safe'

function wayOf(session: Session, accepts: readonly AcceptRecord[]): Way {
  if (isOrdered(accepts) || mayClose(accepts)) return 'safe'
  const leftMs = session.looksForIdsUntilMs - session.nowMs()
  // A clock that was set back must not keep it looking for ever.
  return leftMs > 0 && leftMs <= lookForIdsMs ? 'looking' : 'new'
}

interface Inserted {
  readonly results: AcceptResult[]
  readonly cancelled: readonly Cancellation[]
  committed(): void
}

/** One statement, and another only when some event is not new. */
export async function insert(
  session: Session,
  connection: Connection,
  accepts: readonly AcceptRecord[],
  way: Way = 'safe',
): Promise<Inserted> {
  const slots = new SlotsToWrite(session)
  const { id: owner } = session.worker
  const values = toColumns(accepts.toSorted(inOrderOfIds), slots)
  const keys = orderedKeys(accepts)
  if (keys.length > 0) await lockKeys(session, connection, keys)
  const row = await connection.get<Accepted>(
    statementFor(way, keys),
    owner,
    ...values.events,
    ...values.deliveries,
    way === 'new' ? oldestVersion(accepts) : values.seen,
    ...slots.columns(),
    ...(way === 'safe' ? [session.nowMs(), ...values.closing] : []),
    ...(keys.length > 0 ? values.order : []),
  )
  if (row?.alive !== 1) throw session.worker.lost(owner)
  const { fresh, version } = row
  // Some were matched with older endpoints, and none is written: each is judged by itself.
  if (way === 'new' && fresh < accepts.length) return await insert(session, connection, accepts)
  const results: AcceptResult[] =
    fresh === accepts.length
      ? accepts.map(() => ({ kind: 'stored' }))
      : await findKnown(connection, accepts, new Set(JSON.parse(row.keys ?? '[]')), version)
  return {
    results,
    cancelled: JSON.parse(row.closed ?? '[]') as Cancellation[],
    committed() {
      slots.written()
      session.hints.due(values.waiting)
      if (results.some(({ kind }) => kind === 'stale')) session.sawVersion(version)
    },
  }
}

function statementFor(way: Way, orderedKeys: readonly OrderedKey[]): string {
  if (way === 'new') return insertNew
  if (way === 'looking') return insertOpen
  return orderedKeys.length > 0 ? insertOrdered : insertClosing
}

/** Of the endpoints that the events were matched with. */
function oldestVersion(accepts: readonly AcceptRecord[]): number {
  return Math.min(...accepts.map(({ endpointsVersion }) => endpointsVersion ?? 0))
}

interface Accepted {
  readonly alive: number
  readonly fresh: number
  /** Of the events that are new; null when all of them are. */
  readonly keys: string | null
  readonly version: number
  /** Left out where nothing may end at once. */
  readonly closed?: string | null
}

/** Whether some delivery may end at once. */
function mayClose(accepts: readonly AcceptRecord[]): boolean {
  return accepts.some(
    ({ endpointsVersion, deliveries }) =>
      endpointsVersion === null || deliveries.some(({ ended }) => ended !== undefined),
  )
}

/** Two processes with the same ids then wait for each other in one direction only. */
function inOrderOfIds({ event: a }: AcceptRecord, { event: b }: AcceptRecord): number {
  if (a.tenantId !== b.tenantId) return a.tenantId < b.tenantId ? -1 : 1
  if (a.id === b.id) return 0
  return a.id < b.id ? -1 : 1
}

function toColumns(accepts: readonly AcceptRecord[], slots: SlotsToWrite) {
  const bytes = new ByteColumn()
  const bodyAt: number[] = []
  const deliveries: NewDelivery[] = []
  const createdAtMs: number[] = []
  const unsure: boolean[] = []
  const waiting = new Set<string>()
  for (const { event, deliveries: some, endpointsVersion } of accepts) {
    bodyAt.push(bytes.add(event.body))
    bytes.add(event.contentHash)
    for (const delivery of some) {
      deliveries.push(delivery)
      createdAtMs.push(Math.round(event.acceptedAtMs))
      unsure.push(endpointsVersion === null)
      slots.add(delivery.endpointKey, delivery.id)
      if (!delivery.owned && delivery.ended === undefined) waiting.add(delivery.endpointKey)
    }
  }
  return {
    waiting,
    closing: [textArray(deliveries.map(({ ended }) => ended ?? null)), booleanArray(unsure)],
    seen: int8Array(accepts.map(({ endpointsVersion }) => endpointsVersion)),
    events: [
      textArray(accepts.map(({ event }) => event.key)),
      textArray(accepts.map(({ event }) => event.tenantId)),
      textArray(accepts.map(({ event }) => event.id)),
      textArray(accepts.map(({ event }) => event.type)),
      int8Array(accepts.map(({ event }) => Math.round(event.acceptedAtMs))),
      int4Array(accepts.map(({ event }) => event.matched)),
      int4Array(bodyAt),
      int4Array(accepts.map(({ event }) => event.body.length)),
      int4Array(accepts.map(({ event }) => event.contentHash.length)),
      textArray(accepts.map(({ fanOutTo }) => targetsToJson(fanOutTo))),
      int4Array(accepts.map(({ fanOutTo }) => fanOutTo?.length ?? 0)),
      bytes.joined(),
    ],
    deliveries: [
      textArray(deliveries.map(({ id }) => id)),
      textArray(deliveries.map(({ endpointKey }) => endpointKey)),
      int8Array(deliveries.map(({ dueAtMs }) => Math.round(dueAtMs))),
      booleanArray(deliveries.map(({ owned }) => owned)),
      int8Array(createdAtMs),
      ...termColumns(deliveries.map(({ terms }) => terms)),
    ],
    order: orderColumns(deliveries.map(({ terms }) => terms)),
  }
}

export function termColumns(terms: readonly (DeliveryTerms | undefined)[]): SqlValue[] {
  return [
    int4Array(terms.map((one) => (one?.alone ? 1 : null))),
    int8Array(terms.map((one) => (one?.expiresAtMs == null ? null : Math.round(one.expiresAtMs)))),
  ]
}

export function orderColumns(terms: readonly (DeliveryTerms | undefined)[]): SqlValue[] {
  return [
    textArray(terms.map((one) => one?.order?.key ?? null)),
    booleanArray(terms.map((one) => one?.order?.blocks ?? false)),
  ]
}

function isOrdered(accepts: readonly AcceptRecord[]): boolean {
  return accepts.some(({ deliveries }) =>
    deliveries.some(({ terms }) => terms?.order !== undefined),
  )
}

function orderedKeys(accepts: readonly AcceptRecord[]): OrderedKey[] {
  const keys: OrderedKey[] = []
  for (const { deliveries } of accepts) {
    for (const { endpointKey, terms } of deliveries) {
      if (terms?.order !== undefined) keys.push({ endpointKey, key: terms.order.key })
    }
  }
  return keys
}

function targetsToJson(targets: readonly NewDelivery[] | null): string | null {
  if (targets === null) return null
  return JSON.stringify(
    targets.map(({ id, endpointKey, dueAtMs, terms, ended }) => [
      ...[id, endpointKey, Math.round(dueAtMs)],
      ...(terms === undefined && ended === undefined ? [] : [terms ?? null, ended ?? null]),
    ]),
  )
}
