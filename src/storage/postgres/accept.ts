/**
 * New events with their deliveries: a whole group is one statement, so one round trip. The key of an
 * event decides alone: who inserts (tenant, id) has stored the event; everybody else finds out whose
 * it is, in a statement of its own, because one statement does not see who won meanwhile.
 */
import { WebhookError } from '../../model/errors.ts'
import { deliveryIdRange } from '../../model/ids.ts'
import {
  type AcceptRecord,
  type AcceptResult,
  behindMs,
  type DeliveryTerms,
  type NewDelivery,
} from '../storage.ts'
import type { Connection, SqlValue } from './connection.ts'
import { eventOf } from './days.ts'
import { isBehind, lastNo, lockKeys, type OrderedKey } from './order.ts'
import { closedReason, type Session } from './session.ts'
import { SlotsToWrite } from './slot.ts'
import { ByteColumn, booleanArray, numberArray, textArray } from './text.ts'

/**
 * `me` keeps the lease from being taken over until this is committed: who takes it over then sees
 * these rows. Without the lease nothing is written. An endpoint is looked up only for events that
 * were matched with whichever version: nobody has closed one since the newest.
 */
const insertSql = (ordered: boolean) => `
  with me as materialized (
    select id from kmsg.worker where id = $1 for key share
  ), given as materialized (
    select * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::int[],
                         $8::int[], $9::int[], $10::int[], $11::text[], $12::int[], $22::bigint[])
      with ordinality as given (key, tenant_id, id, type, accepted_at_ms, matched, body_at, body_length,
                                hash_length, targets, target_count, seen, n)
     where exists (select from me)
       and (seen is null or seen >= (select number from kmsg.endpoints_version))
  ), fresh as (
    insert into kmsg.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
    select tenant_id, id, key, substr($13::bytea, body_at + body_length, hash_length), accepted_at_ms
      from given
    on conflict do nothing
    returning key
  ), created as materialized (
    select given.* from given join fresh on fresh.key = given.key
  ), stored as (
    insert into kmsg.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
    select key, tenant_id, id, type, accepted_at_ms, matched,
           substr($13::bytea, body_at, body_length)
      from created
  ), fans as (
    insert into kmsg.fan_out (event_key, targets, total, position)
    select key, targets::json, target_count, 0 from created where target_count > 0
  ), delivery as materialized (
    select d.*, created.key as event_key, accepted_at_ms,
           coalesce(d.ended, case when seen is null then (
             select ${closedReason} from kmsg.endpoint where endpoint.key = d.endpoint_key) end)
             as closed ${ordered ? placed : ''}
      from unnest($14::text[], $15::int[], $16::text[], $17::bigint[], $18::boolean[], $23::text[],
                  $24::int[], $25::bigint[]${ordered ? ', $26::text[], $27::boolean[]' : ''})
             as d (id, of_event, endpoint_key, due_at_ms, owned, ended, alone, expires_at_ms
                   ${ordered ? ', order_key, order_blocks' : ''})
      join created on created.n = d.of_event
      ${ordered ? 'window turn as (partition by d.endpoint_key, d.order_key order by d.id collate "C")' : ''}
  ), lives as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                           due_at_ms, round, created_at_ms, expires_at_ms
                           ${ordered ? ', order_key, order_blocks, order_no' : ''})
    select id, 'single', coalesce(alone, 0), event_key, endpoint_key,
           case when owned then 'delivering' else 'waiting' end, case when owned then $1::bigint end,
           owned::int, 0, ${ordered ? dueInOrder : 'due_at_ms'}, 1, accepted_at_ms, expires_at_ms
           ${ordered ? ', order_key, order_blocks, order_no' : ''}
      from delivery where closed is null
  ), cancelled as (
    insert into kmsg.done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                           created_at_ms, settled_at_ms)
    select id, event_key, endpoint_key, 'cancelled', closed, 1, 0, 0, accepted_at_ms, $19::bigint
      from delivery where closed is not null
  ), slots as (
    insert into kmsg.delivery_slot (endpoint_key, slot)
    select * from unnest($20::text[], $21::text[]) as slot (endpoint_key, slot)
     where exists (select from me)
        on conflict do nothing
  )
  select (select count(*) from me) as alive, (select count(*) from created) as fresh,
         case when (select count(*) from created) < cardinality($2::text[])
              then (select json_agg(key) from created) end as keys,
         (select number from kmsg.endpoints_version) as version`

/** Several of one key in one group come one after the other. */
const placed = `,
           case when d.order_key is not null then ${lastNo} + row_number() over turn end as order_no,
           d.order_key is not null and (${isBehind} or row_number() over turn > 1) as is_behind`
const dueInOrder = `case when is_behind then ${behindMs} else due_at_ms end`

const insertAccepts = insertSql(false)
const insertOrderedAccepts = insertSql(true)

/** @throws WebhookError STORAGE_UNAVAILABLE when the lease is lost: nothing is written then */
export async function commitAccepts(
  session: Session,
  accepts: readonly AcceptRecord[],
): Promise<AcceptResult[]> {
  if (accepts.length === 0) return []
  const { database } = session
  const work = (connection: Connection) => insert(session, connection, accepts)
  // Turns among the keys of ordered deliveries end with a transaction.
  const isOrdered = orderedKeys(accepts).length > 0
  const accepted = await (isOrdered ? database.write(work) : database.read(work))
  accepted.committed()
  return accepted.results
}

/** One statement, and another only when some event is not new. */
export async function insert(
  session: Session,
  connection: Connection,
  accepts: readonly AcceptRecord[],
): Promise<{ results: AcceptResult[]; committed(): void }> {
  const slots = new SlotsToWrite(session)
  const { id: owner } = session.worker
  const values = toColumns(accepts.toSorted(inOrderOfIds), slots)
  const keys = orderedKeys(accepts)
  if (keys.length > 0) await lockKeys(session, connection, keys)
  const row = await connection.get<Accepted>(
    keys.length > 0 ? insertOrderedAccepts : insertAccepts,
    owner,
    ...values.events,
    ...values.deliveries,
    session.nowMs(),
    ...slots.columns(),
    values.seen,
    values.ended,
    ...values.terms,
    ...(keys.length > 0 ? values.order : []),
  )
  if (row?.alive !== 1) throw session.worker.lost(owner)
  const { fresh, version } = row
  const results: AcceptResult[] =
    fresh === accepts.length
      ? accepts.map(() => ({ kind: 'stored' }))
      : await findKnown(connection, accepts, new Set(JSON.parse(row.keys ?? '[]')), version)
  return {
    results,
    committed() {
      slots.written()
      session.hints.due(values.waiting)
      if (results.some(({ kind }) => kind === 'stale')) session.sawVersion(version)
    },
  }
}

interface Accepted {
  readonly alive: number
  readonly fresh: number
  /** Of the events that are new; null when all of them are. */
  readonly keys: string | null
  readonly version: number
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
  const eventNumbers: number[] = []
  const waiting = new Set<string>()
  for (const [i, { event, deliveries: some }] of accepts.entries()) {
    bodyAt.push(bytes.add(event.body))
    bytes.add(event.contentHash)
    for (const delivery of some) {
      deliveries.push(delivery)
      eventNumbers.push(i + 1)
      slots.add(delivery.endpointKey, delivery.id)
      if (!delivery.owned && delivery.ended === undefined) waiting.add(delivery.endpointKey)
    }
  }
  return {
    waiting,
    ended: textArray(deliveries.map(({ ended }) => ended ?? null)),
    seen: numberArray(accepts.map(({ endpointsVersion }) => endpointsVersion)),
    events: [
      textArray(accepts.map(({ event }) => event.key)),
      textArray(accepts.map(({ event }) => event.tenantId)),
      textArray(accepts.map(({ event }) => event.id)),
      textArray(accepts.map(({ event }) => event.type)),
      numberArray(accepts.map(({ event }) => Math.round(event.acceptedAtMs))),
      numberArray(accepts.map(({ event }) => event.matched)),
      numberArray(bodyAt),
      numberArray(accepts.map(({ event }) => event.body.length)),
      numberArray(accepts.map(({ event }) => event.contentHash.length)),
      textArray(accepts.map(({ fanOutTo }) => targetsToJson(fanOutTo))),
      numberArray(accepts.map(({ fanOutTo }) => fanOutTo?.length ?? 0)),
      bytes.joined(),
    ],
    deliveries: [
      textArray(deliveries.map(({ id }) => id)),
      numberArray(eventNumbers),
      textArray(deliveries.map(({ endpointKey }) => endpointKey)),
      numberArray(deliveries.map(({ dueAtMs }) => Math.round(dueAtMs))),
      booleanArray(deliveries.map(({ owned }) => owned)),
    ],
    terms: termColumns(deliveries.map(({ terms }) => terms)),
    order: orderColumns(deliveries.map(({ terms }) => terms)),
  }
}

export function termColumns(terms: readonly (DeliveryTerms | undefined)[]): SqlValue[] {
  return [
    numberArray(terms.map((one) => (one?.alone ? 1 : null))),
    numberArray(
      terms.map((one) => (one?.expiresAtMs == null ? null : Math.round(one.expiresAtMs))),
    ),
  ]
}

export function orderColumns(terms: readonly (DeliveryTerms | undefined)[]): SqlValue[] {
  return [
    textArray(terms.map((one) => one?.order?.key ?? null)),
    booleanArray(terms.map((one) => one?.order?.blocks ?? false)),
  ]
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

// ── ids that were there ──────────────────────────────────────────────────────────────────────────

const knownKeys = `
  select given.n::int as n, known.key, known.content_hash, known.accepted_at_ms, event.body
    from unnest($1::text[], $2::text[]) with ordinality as given (tenant_id, id, n)
    join kmsg.event_key as known on known.tenant_id = given.tenant_id and known.id = given.id
    left join lateral (${eventOf('known.key')}) as event on true`

const deliveryIdsOf = `
  select id from kmsg.live where id >= $1 and id < $2
  union all select id from kmsg.done where id >= $1 and id < $2 order by id`

interface KnownKey {
  readonly n: number
  readonly key: string
  readonly content_hash: Uint8Array
  readonly accepted_at_ms: number
  readonly body: Uint8Array | null
}

async function findKnown(
  connection: Connection,
  accepts: readonly AcceptRecord[],
  fresh: ReadonlySet<string>,
  version: number,
): Promise<AcceptResult[]> {
  const unsure = accepts.filter(({ event }) => !fresh.has(event.key))
  const rows = await connection.all<KnownKey>(
    knownKeys,
    textArray(unsure.map(({ event }) => event.tenantId)),
    textArray(unsure.map(({ event }) => event.id)),
  )
  const known = new Map(rows.map((row) => [unsure[row.n - 1]?.event.key, row]))
  const results: AcceptResult[] = []
  for (const record of accepts) {
    const { event, endpointsVersion: seen } = record
    const found = known.get(event.key)
    if (fresh.has(event.key) || found?.key === event.key) results.push({ kind: 'stored' })
    else if (found !== undefined) results.push(await duplicate(connection, record, found))
    else if (seen !== null && seen < version) results.push({ kind: 'stale' })
    else throw forgottenMeanwhile(event.id)
  }
  return results
}

async function duplicate(
  connection: Connection,
  { event }: AcceptRecord,
  known: KnownKey,
): Promise<AcceptResult> {
  const { from, to } = deliveryIdRange(known.key)
  const ids = await connection.all<{ id: string }>(deliveryIdsOf, from, to)
  return {
    kind: 'duplicate',
    eventKey: known.key,
    acceptedAtMs: known.accepted_at_ms,
    sameContent: Buffer.compare(known.content_hash, event.contentHash) === 0,
    body: known.body,
    deliveryIds: ids.map(({ id }) => id),
  }
}

/** Retention took the id between two statements: the same group again will store it. */
function forgottenMeanwhile(id: string): WebhookError {
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    `Expected event id ${JSON.stringify(id)} to be there or to be free; it was forgotten at this moment, dispatch it again.`,
  )
}
