/**
 * Order per key. Only the first delivery of a key can be claimed; those behind it are due at the end
 * of time (behindMs), until whatever ends the first makes the next one due, in the same transaction.
 * Replays have no key and stand outside, except that of a delivery that holds its key up.
 */
import { behindMs } from '../../model/delivery.ts'
import type { DeliveryTerms } from '../commit-records.ts'
import type { BlockedKey } from '../questions.ts'
import type { Session } from './session.ts'

type Order = NonNullable<DeliveryTerms['order']>

const place = `
  update live
     set order_key = ?3, order_blocks = ?4,
         order_no = 1 + coalesce((select max(order_no) from live
                                   where endpoint_key = ?2 and order_key = ?3), 0),
         due_at_ms = case
           when exists (select 1 from live where endpoint_key = ?2 and order_key = ?3)
             or exists (select 1 from order_block where endpoint_key = ?2 and order_key = ?3)
           then ${behindMs} else due_at_ms end
   where id = ?1`

const promoteFirst = `
  update live set due_at_ms = ?1
   where id = (select id from live where endpoint_key = ?2 and order_key = ?3
                order by order_no, id limit 1)
     and due_at_ms = ${behindMs}
     and not exists (select 1 from order_block where endpoint_key = ?2 and order_key = ?3)`

const deleteLive = 'delete from live where id = ? returning endpoint_key, order_key, order_blocks'

/** As its endpoint is now: what was accepted under another order does not hold it up. */
const block = `
  insert into order_block (endpoint_key, order_key, delivery_id, at_ms)
  select ?1, ?2, ?3, ?4
   where not exists (select 1 from endpoint
                      where key = ?1 and ordering ->> 'onExhausted' is not 'block')
  on conflict do update set delivery_id = excluded.delivery_id, at_ms = excluded.at_ms`

const unblock = `
  delete from order_block where endpoint_key = ?1 and delivery_id = coalesce(?2, delivery_id)
  returning order_key`

const findBlocked = `
  select order_block.* from order_block join endpoint on endpoint.key = order_block.endpoint_key
   where (?1 is null or endpoint.tenant_id = ?1) and (?2 is null or order_block.endpoint_key = ?2)
   order by order_block.at_ms, order_block.delivery_id limit ?3`

const putFirst = 'update live set order_key = ?, order_no = 0, order_blocks = 1 where id = ?'

/** A row that was just inserted takes its place at the end of its key. */
export function takePlace(
  { connection }: Session,
  id: string,
  endpointKey: string,
  { key, blocks }: Order,
): void {
  connection.run(place, id, endpointKey, key, blocks ? 1 : 0)
}

/** @param failed it was given up, which may hold its key up */
export function removeLive(
  { connection }: Pick<Session, 'connection'>,
  id: string,
  nowMs: number,
  failed: boolean,
): void {
  const row = connection.get<RemovedRow>(deleteLive, id)
  if (row === undefined || row.order_key === null) return
  const { endpoint_key: endpointKey, order_key: key } = row
  const mayBlock = failed && row.order_blocks === 1
  if (mayBlock && connection.run(block, endpointKey, key, id, nowMs) > 0) return
  connection.run(promoteFirst, nowMs, endpointKey, key)
}

interface RemovedRow {
  readonly endpoint_key: string
  readonly order_key: string | null
  readonly order_blocks: number | null
}

export function blockedKeys(
  { connection }: Session,
  tenantId: string | null,
  endpointKey: string | null,
  limit: number,
): BlockedKey[] {
  return connection.all<BlockRow>(findBlocked, tenantId, endpointKey, limit).map((row) => ({
    endpointKey: row.endpoint_key,
    key: row.order_key,
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

export function releaseOrder(
  session: Session,
  endpointKey: string,
  deliveryId: string | null,
  nowMs: number,
): boolean {
  return session.connection.write(
    () => unblockKeys(session, endpointKey, deliveryId, nowMs).length > 0,
  )
}

/** @returns the keys that go on */
export function unblockKeys(
  { connection }: Session,
  endpointKey: string,
  deliveryId: string | null,
  nowMs: number,
): string[] {
  const keys = connection.all<{ order_key: string }>(unblock, endpointKey, deliveryId)
  for (const { order_key: key } of keys) connection.run(promoteFirst, nowMs, endpointKey, key)
  return keys.map(({ order_key: key }) => key)
}

/** The new round of a delivery that holds its key up is sent before what waits behind it. */
export function retryFirst(
  { connection }: Session,
  endpointKey: string,
  deliveryId: string,
  roundId: string,
): void {
  for (const row of connection.all<{ order_key: string }>(unblock, endpointKey, deliveryId)) {
    connection.run(putFirst, row.order_key, roundId)
  }
}
