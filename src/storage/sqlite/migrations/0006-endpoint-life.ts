/**
 * The health of endpoints; one version of an endpoint can be warned about more than once; body
 * filters; deliveries that expire; order per key.
 */
export const endpointLife = `
create table endpoint_health (
  endpoint_key text primary key,
  revision integer not null,
  failing_since_ms integer,
  last_failed_at_ms integer not null,
  failed_hours integer not null,
  failed_deliveries integer not null,
  warned text not null check (warned in ('no', 'early', 'final')),
  warned_at_ms integer not null,
  cleared_at_ms integer not null
) strict, without rowid;

alter table endpoint_change rename to old_endpoint_change;
create table endpoint_change (
  endpoint_key text not null,
  version integer not null,
  at_ms integer not null,
  what text not null,
  reason text,
  fields text not null check (json_valid(fields)),
  primary key (endpoint_key, version, at_ms, what)
) strict, without rowid;
insert into endpoint_change (endpoint_key, version, at_ms, what, reason, fields)
select endpoint_key, version, at_ms, what, reason, fields from old_endpoint_change;
drop table old_endpoint_change;

alter table endpoint
  add column body_filter text not null default 'null' check (json_valid(body_filter));

alter table endpoint
  add column ordering text not null default 'null' check (json_valid(ordering));

alter table live add column expires_at_ms integer;
create index live_expiry on live (expires_at_ms)
  where expires_at_ms is not null and owner is null;

-- What waits behind another of its key is due at the end of time (model/delivery.ts, behindMs).
alter table live add column order_key text;
alter table live add column order_no integer;
alter table live add column order_blocks integer;
create index live_order on live (endpoint_key, order_key, order_no, id)
  where order_key is not null;

-- A key held up by a delivery that failed at its head.
create table order_block (
  endpoint_key text not null,
  order_key text not null,
  delivery_id text not null,
  at_ms integer not null,
  primary key (endpoint_key, order_key)
) strict, without rowid;
`
