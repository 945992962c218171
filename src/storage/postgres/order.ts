/**
 * Order per key. Only the first delivery of a key can be claimed; those behind it are due at the end
 * of time (behindMs), until whatever ends the first makes the next one due, in the same transaction.
 * Replays have no key and stand outside, except that of a delivery that holds its key up.
 *
 * Who adds to a key and who ends its first take turns, by a lock that is taken before the statement
 * that looks: else one would not see the other, and what was added would wait for ever.
 */
import { behindMs } from '../../model/delivery.ts'
import type { EndpointOrdering } from '../../model/endpoint.ts'
import type { BlockedKey } from '../questions.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

export interface OrderedKey {
  readonly endpointKey: string
  readonly key: string
}

/** In their order, so that two processes wait for each other in one direction only. */
const lock = `
  select pg_advisory_xact_lock(hashtextextended('kmsg order ' || $1 || ' ' || name, 0))
    from (select distinct unnest($2::text[]) as name order by 1) as names`

const promoteFirst = `
  update kmsg.live set due_at_ms = $1
   where id in (
     select first.id
       from unnest($2::text[], $3::text[]) as k (endpoint_key, order_key) cross join lateral (
         select id, due_at_ms from kmsg.live x
          where x.endpoint_key = k.endpoint_key and x.order_key = k.order_key
          order by order_no, id limit 1) as first
      where first.due_at_ms = ${behindMs}
        and not exists (select from kmsg.order_block b
                         where b.endpoint_key = k.endpoint_key and b.order_key = k.order_key))`

const block = `
  insert into kmsg.order_block (endpoint_key, order_key, delivery_id, at_ms)
  select * from unnest($1::text[], $2::text[], $3::text[])
         as given (endpoint_key, order_key, delivery_id), (values ($4::bigint)) as at (ms)
  on conflict (endpoint_key, order_key)
     do update set delivery_id = excluded.delivery_id, at_ms = excluded.at_ms`

/** Waits for a change of the endpoint that is being written, and keeps others away until the end. */
const lockEndpoints = `
  select key, ordering from kmsg.endpoint where key = any($1::text[]) order by key for share`

const unblock = `
  delete from kmsg.order_block where endpoint_key = $1 and delivery_id = coalesce($2, delivery_id)
  returning order_key`

const findBlocked = `
  select b.* from kmsg.order_block b join kmsg.endpoint on endpoint.key = b.endpoint_key
   where ($1::text is null or endpoint.tenant_id = $1)
     and ($2::text is null or b.endpoint_key = $2)
   order by b.at_ms, b.delivery_id limit $3`

const findBlocking = `
  select delivery_id as id from kmsg.order_block where delivery_id = any($1::text[])`

const putFirst = `
  with freed as (
    delete from kmsg.order_block b using kmsg.done
     where b.endpoint_key = $1 and b.delivery_id = any($2::text[]) and done.id = b.delivery_id
       and done.retried_as is not null
    returning b.order_key, done.retried_as
  )
  update kmsg.live set order_key = freed.order_key, order_no = 0, order_blocks = true
    from freed where live.id = freed.retried_as`

/** Of `done` deliveries between two ids: whether each holds a key up, which outlives retention. */
export const isBlocking = (from: string, to: string) => `
  done.id in (select delivery_id from kmsg.order_block
               where delivery_id >= ${from} and delivery_id < ${to})`

/** For the due time of a new row of this key: whether anything is before it. */
export const isBehind = `
  (exists (select from kmsg.live x
            where x.endpoint_key = d.endpoint_key and x.order_key = d.order_key)
   or exists (select from kmsg.order_block b
               where b.endpoint_key = d.endpoint_key and b.order_key = d.order_key))`

/** Its place before others of the same statement are counted. */
export const lastNo = `
  coalesce((select max(x.order_no) from kmsg.live x
             where x.endpoint_key = d.endpoint_key and x.order_key = d.order_key), 0)`

export async function lockKeys(
  { database }: Pick<Session, 'database'>,
  connection: Connection,
  keys: readonly OrderedKey[],
): Promise<void> {
  const names = keys.map(({ endpointKey, key }) => `${endpointKey} ${key}`)
  await connection.run(lock, database.schema.name, textArray(names))
}

/** After the first of these keys have ended. */
export async function promote(
  session: Pick<Session, 'database'>,
  connection: Connection,
  keys: readonly OrderedKey[],
  nowMs: number,
): Promise<void> {
  if (keys.length === 0) return
  await lockKeys(session, connection, keys)
  await connection.run(
    promoteFirst,
    nowMs,
    textArray(keys.map(({ endpointKey }) => endpointKey)),
    textArray(keys.map(({ key }) => key)),
  )
}

/** Where their endpoints still say so: what was accepted under another order does not hold it up. */
export async function blockKeys(
  connection: Connection,
  given: readonly (OrderedKey & { readonly id: string })[],
  nowMs: number,
): Promise<void> {
  if (given.length === 0) return
  const endpointKeys = [...new Set(given.map(({ endpointKey }) => endpointKey))]
  const endpoints = await connection.all<{ key: string; ordering: string }>(
    lockEndpoints,
    textArray(endpointKeys),
  )
  const free = endpoints.filter(({ ordering }) => !isBlockingOrder(ordering)).map(({ key }) => key)
  const failed = given.filter(({ endpointKey }) => !free.includes(endpointKey))
  if (failed.length === 0) return
  await connection.run(
    block,
    textArray(failed.map(({ endpointKey }) => endpointKey)),
    textArray(failed.map(({ key }) => key)),
    textArray(failed.map(({ id }) => id)),
    nowMs,
  )
}

function isBlockingOrder(json: string): boolean {
  return (JSON.parse(json) as EndpointOrdering | null)?.onExhausted === 'block'
}

export async function blockedKeys(
  { database }: Session,
  tenantId: string | null,
  endpointKey: string | null,
  limit: number,
): Promise<BlockedKey[]> {
  const tenant = tenantId === null ? null : toText(tenantId)
  const rows = await database.read((connection) =>
    connection.all<BlockRow>(findBlocked, tenant, endpointKey, limit),
  )
  return rows.map((row) => ({
    endpointKey: row.endpoint_key,
    key: fromText(row.order_key),
    deliveryId: row.delivery_id,
    atMs: row.at_ms,
  }))
}

interface BlockRow {
  readonly endpoint_key: string
  readonly order_key: string
  readonly delivery_id: string
  readonly at_ms: number
}

/** Those of the deliveries that hold a key up. */
export async function blockingOf(
  connection: Connection,
  ids: readonly string[],
): Promise<Set<string>> {
  const rows = await connection.all<{ id: string }>(findBlocking, textArray(ids))
  return new Set(rows.map(({ id }) => id))
}

export async function releaseOrder(
  session: Session,
  endpointKey: string,
  deliveryId: string | null,
  nowMs: number,
): Promise<boolean> {
  const released = await session.database.write((connection) =>
    unblockKeys(session, connection, endpointKey, deliveryId, nowMs),
  )
  if (released) session.hints.due([endpointKey])
  return released
}

/** @returns whether anything goes on */
export async function unblockKeys(
  session: Session,
  connection: Connection,
  endpointKey: string,
  deliveryId: string | null,
  nowMs: number,
): Promise<boolean> {
  const rows = await connection.all<{ order_key: string }>(unblock, endpointKey, deliveryId)
  const keys = rows.map((row) => ({ endpointKey, key: fromText(row.order_key) }))
  await promote(session, connection, keys, nowMs)
  return keys.length > 0
}

/** New rounds of deliveries that hold their keys up are sent before what waits behind them. */
export async function retryFirst(
  connection: Connection,
  endpointKey: string,
  deliveryIds: readonly string[],
): Promise<void> {
  await connection.run(putFirst, endpointKey, textArray(deliveryIds))
}
