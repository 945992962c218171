/**
 * A group of events of which none is known, for endpoints that are as they were matched: what nearly
 * every group is. Nothing is looked up for any row; the statement is refused as a whole where that was
 * wrong (accept.ts has those that look, and give way). A group costs the server a tenth less by it.
 */

import { deliveryColumns, eventColumns, fanColumns, keyColumns } from './accept-columns.ts'
import { rowsOf } from './text.ts'

/**
 * Parameters: the owner, the columns of events ($2 to $13) and of deliveries ($14 to $20), the oldest
 * version of the endpoints that one was matched with, slots.
 *
 * `me` keeps the lease from being taken over until this is committed: who takes it over then sees
 * these rows. Without the lease, or with other endpoints, nothing is written.
 *
 * Fails with 23505 where an id is known, also to a transaction that commits at this moment.
 */
export const insertNew = `
  with me as materialized (
    select id from kmsg.worker where id = $1 for key share
  ), ok as materialized (
    select from me where $21::bigint >= (select number from kmsg.endpoints_version)
  ), keys as (
    insert into kmsg.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
    select tenant_id, id, key, substr($13::bytea, body_at + body_length, hash_length), accepted_at_ms
      from ${rowsOf(keyColumns)} as given
     where exists (select from ok)
  ), events as (
    insert into kmsg.event (key, tenant_id, id, type, accepted_at_ms, matched, body)
    select key, tenant_id, id, type, accepted_at_ms, matched,
           substr($13::bytea, body_at, body_length)
      from ${rowsOf(eventColumns)} as given
     where exists (select from ok)
  ), fans as (
    insert into kmsg.fan_out (event_key, targets, total, position)
    select key, targets::json, target_count, 0
      from ${rowsOf(fanColumns)}
           as given
     where target_count > 0 and exists (select from ok)
  ), lives as (
    insert into kmsg.live (id, kind, alone, event_key, endpoint_key, state, owner, token, attempts,
                           due_at_ms, round, created_at_ms, expires_at_ms)
    select id, 'single', coalesce(alone, 0), substr(id, 5, 24), endpoint_key,
           case when owned then 'delivering' else 'waiting' end, case when owned then $1::bigint end,
           owned::int, 0, due_at_ms, 1, created_at_ms, expires_at_ms
      from ${rowsOf(deliveryColumns)} as given
     where exists (select from ok)
  ), slots as (
    insert into kmsg.delivery_slot (endpoint_key, slot)
    select * from unnest($22::text[], $23::text[]) as slot (endpoint_key, slot)
     where exists (select from ok)
        on conflict do nothing
  )
  select (select count(*) from me) as alive,
         case when exists (select from ok) then cardinality($2::text[]) else 0 end as fresh,
         '[]' as keys, (select number from kmsg.endpoints_version) as version`
