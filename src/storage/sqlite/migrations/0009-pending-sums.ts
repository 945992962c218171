/**
 * A large commit adds to a sum for nearly every outcome: endpoints × classes of latency. It leaves them
 * in one row here, and every sixteenth adds what they come to to `rollup`. Rows of `rollup` and of
 * here are of the same kind, and count together.
 */
export const pendingSums = `
-- [[endpoint key, hour ms, tenant, type, outcome, state, latency class, attempts, deliveries,
--   latency sum ms], …]
create table rollup_pending (
  id integer primary key,
  sums text not null
) strict;

create view rollup_all as
  select endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class,
         attempts, deliveries, latency_sum_ms
    from rollup
  union all
  select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
         value ->> 7, value ->> 8, value ->> 9
    from rollup_pending, json_each(sums);
`
