/**
 * Repairs of many deliveries, and deliveries that were cancelled while they are owned. What a repair
 * has queued is found by its id, so that it feeds a lane no faster than the lane empties.
 */
export const repairs = `
create table repair (
  id text primary key,
  kind text not null check (kind in ('retry', 'replay', 'backfill')),
  tenant_id text not null,
  endpoint_key text not null,
  criteria text not null check (json_valid(criteria)),
  max_per_second integer not null check (max_per_second >= 1),
  state text not null check (state in ('running', 'done', 'cancelled', 'failed')),
  reason text,
  cursor text not null,
  next_step_at_ms integer not null,
  worker integer not null,
  matched integer not null default 0,
  queued integer not null default 0,
  skipped text not null default '{}' check (json_valid(skipped)),
  created_at_ms integer not null,
  ended_at_ms integer,
  check ((ended_at_ms is null) = (state = 'running'))
) strict, without rowid;
create index repair_running on repair (id) where state = 'running';

alter table live add column repair_id text;
-- Owned, and to end as cancelled where it would wait again.
alter table live add column cancel_reason text;
create index live_repair on live (repair_id, due_at_ms) where repair_id is not null;
create index live_cancelled on live (id) where cancel_reason is not null;
`
