/**
 * What must be true of the data once nothing is under way, each as a statement that returns the ids
 * of what breaks it.
 */
import { behindMs } from '../../model/delivery.ts'

export interface Invariant {
  readonly name: string
  readonly sql: string
}

export const invariants: readonly Invariant[] = [
  {
    // A match that never became a delivery is an event that an endpoint does not get.
    name: 'event_has_all_its_deliveries',
    sql: `
      select key as id from event
       where matched <> pruned
         + coalesce((select total - position from fan_out where event_key = event.key), 0)
         + (select count(*) from live
             where live.id >= 'dlv_' || event.key || '_' and live.id < 'dlv_' || event.key || '\`'
               and round = 1)
         + (select count(*) from done
             where done.id >= 'dlv_' || event.key || '_' and done.id < 'dlv_' || event.key || '\`'
               and round = 1)`,
  },
  {
    name: 'delivery_is_in_one_table',
    sql: 'select live.id from live join done on done.id = live.id',
  },
  {
    name: 'delivery_has_its_event',
    sql: `
      select id from live where kind = 'single' and event_key not in (select key from event)
      union all select id from done where event_key not in (select key from event)`,
  },
  {
    // Without its slot a delivery is there, but its endpoint's list does not show it.
    name: 'delivery_is_listed',
    sql: `
      select id from (select id, endpoint_key from live where kind = 'single'
                      union all select id, endpoint_key from done) as delivery
       where not exists (select 1 from delivery_slot
                          where delivery_slot.endpoint_key = delivery.endpoint_key
                            and slot = substr(delivery.id, 1, 12))`,
  },
  {
    name: 'waiting_delivery_has_its_body',
    sql: `
      select live.id from live join event on event.key = live.event_key where event.body is null`,
  },
  {
    // Neither due nor owned, or owned by nobody alive: it would never be sent.
    name: 'live_delivery_is_due_or_owned',
    sql: `
      select id from live
       where due_at_ms is null or (owner is null) <> (state = 'waiting')
          or (owner is not null and owner not in (select id from worker))`,
  },
  {
    name: 'waiting_delivery_has_an_open_endpoint',
    sql: `
      select live.id from live join endpoint on endpoint.key = live.endpoint_key
       where owner is null and (status = 'disabled' or removed_at_ms is not null)`,
  },
  {
    // It would be sent although somebody has cancelled it.
    name: 'cancelled_delivery_does_not_wait',
    sql: `
      select id from live
       where cancel_reason is not null and owner is null and batch_id is null`,
  },
  {
    name: 'ended_with_a_reason',
    sql: "select id from done where reason is null or reason = ''",
  },
  {
    name: 'delivered_means_accepted',
    sql: `
      select id from done
       where (state = 'delivered') <> exists (
         select 1 from attempt_made
          where delivery_id = coalesce(done.batch_id, done.id) and outcome = 'accepted' and late = 0)`,
  },
  {
    name: 'attempts_add_up',
    sql: `
      select id from live
       where attempts > token
          or attempts <> (select count(*) from attempt_made where delivery_id = live.id and late = 0)
      union all
      select id from done
       where attempts > token
          or attempts <> (select count(*) from attempt_made
                           where delivery_id = coalesce(done.batch_id, done.id) and late = 0)`,
  },
  {
    name: 'attempt_has_its_delivery',
    sql: `
      select delivery_id as id from attempt_made
       where late = 0 and delivery_id not in (select id from live)
         and delivery_id not in (select id from done) and delivery_id not in (select id from batch)`,
  },
  {
    name: 'statistics_add_up',
    sql: `
      select endpoint_key as id from (
        select endpoint_key, sum(attempts) as n from rollup_all where endpoint_key <> '' group by 1
        union all
        select coalesce(batch.endpoint_key, substr(delivery_id, 30, 8)), -count(*)
          from attempt_made left join batch on batch.id = delivery_id where late = 0 group by 1
        union all
        select endpoint_key, -sum(attempts) from pruned group by 1)
       group by 1 having sum(n) <> 0`,
  },
  {
    // The three grains of one sum.
    name: 'statistics_agree',
    sql: `
      select event_type || ' ' || outcome || ' ' || state as id from (
        select event_type, outcome, state, attempts, deliveries,
               case when endpoint_key <> '' then 'endpoint' when hour_ms >= 0 then 'hour'
                    else 'ever' end as grain
          from rollup_all)
       group by event_type, outcome, state
      having sum(iif(grain = 'ever', attempts, 0)) <> sum(iif(grain = 'hour', attempts, 0))
          or sum(iif(grain = 'ever', attempts, 0)) <> sum(iif(grain = 'endpoint', attempts, 0))
          or sum(iif(grain = 'ever', deliveries, 0)) <> sum(iif(grain = 'hour', deliveries, 0))
          or sum(iif(grain = 'ever', deliveries, 0)) <> sum(iif(grain = 'endpoint', deliveries, 0))`,
  },
  {
    name: 'ended_deliveries_are_counted',
    sql: `
      select endpoint_key || ' ' || state as id from (
        select endpoint_key, state, sum(deliveries) as n from rollup_all
         where endpoint_key <> '' and state in ('delivered', 'exhausted', 'rejected') group by 1, 2
        union all
        select endpoint_key, state, -count(*) from done
         where state in ('delivered', 'exhausted', 'rejected') group by 1, 2
        union all
        select endpoint_key, state, -deliveries from pruned
         where state in ('delivered', 'exhausted', 'rejected'))
       group by endpoint_key, state having sum(n) <> 0`,
  },
  {
    name: 'sealed_batch_is_whole',
    sql: `
      select id from batch
       where settled_at_ms is null
         and (body is null or member_count <> json_array_length(members)
              or not exists (select 1 from live where live.id = batch.id and kind = 'batch')
              or exists (select 1 from json_each(members) each
                          where not exists (select 1 from live m
                                             where m.id = each.value ->> 0
                                               and m.batch_id = batch.id)))
      union all
      select id from live
       where kind = 'batch' and id not in (select id from batch where settled_at_ms is null)
      union all
      select id from live
       where batch_id is not null
         and batch_id not in (select id from batch where settled_at_ms is null)`,
  },
  {
    // The first of a key is due unless a failed one holds it up; nothing behind it ever is.
    name: 'ordered_keys_go_on',
    sql: `
      select id from live x
       where order_key is not null
         and (due_at_ms < ${behindMs}) = (
           exists (select 1 from live p
                    where p.endpoint_key = x.endpoint_key and p.order_key = x.order_key
                      and (p.order_no, p.id) < (x.order_no, x.id))
           or exists (select 1 from order_block b
                       where b.endpoint_key = x.endpoint_key and b.order_key = x.order_key))`,
  },
  {
    name: 'event_id_has_its_event',
    sql: `
      select event_key.tenant_id || '/' || event_key.id as id
        from event_key left join event on event.key = event_key.key
       where event.key is null or event.id <> event_key.id
          or event.tenant_id <> event_key.tenant_id`,
  },
  {
    // What may be sent, shown or erased is found by its id, and no other event takes that.
    name: 'event_has_its_id',
    sql: `
      select key as id from event
       where not exists (select 1 from event_key
                          where event_key.tenant_id = event.tenant_id and event_key.id = event.id
                            and event_key.key = event.key)
         and (body is not null
              or exists (select 1 from live where live.id >= 'dlv_' || event.key || '_'
                                              and live.id < 'dlv_' || event.key || '\`')
              or exists (select 1 from done where done.id >= 'dlv_' || event.key || '_'
                                              and done.id < 'dlv_' || event.key || '\`')
              or exists (select 1 from fan_out where fan_out.event_key = event.key))`,
  },
  {
    // What was retried leaves the list of failures: it must be going on.
    name: 'retried_delivery_goes_on',
    sql: `
      select id from done
       where retried_as is not null and retried_as not in (select id from live)
         and retried_as not in (select id from done)
         and endpoint_key not in (select endpoint_key from pruned)`,
  },
  {
    name: 'fan_out_has_its_event',
    sql: `
      select event_key as id from fan_out
       where event_key not in (select key from event) or position >= total`,
  },
]

/** Name → statement that counts. */
export const counts: Readonly<Record<string, string>> = {
  events: 'select count(*) as n from event',
  endpoints: 'select count(*) as n from endpoint where removed_at_ms is null',
  waiting: "select count(*) as n from live where kind = 'single' and owner is null",
  delivering: "select count(*) as n from live where kind = 'single' and owner is not null",
  sealedBatches: "select count(*) as n from live where kind = 'batch'",
  toFanOut: 'select coalesce(sum(total - position), 0) as n from fan_out',
  delivered: "select count(*) as n from done where state = 'delivered'",
  exhausted: "select count(*) as n from done where state = 'exhausted'",
  rejected: "select count(*) as n from done where state = 'rejected'",
  cancelled: "select count(*) as n from done where state = 'cancelled'",
  attempts: 'select count(*) as n from attempt_made where late = 0',
  lateAttempts: 'select count(*) as n from attempt_made where late = 1',
}
