/**
 * The first schema. PostgreSQL gets the same tables, so nothing here leans on there being one
 * process: deliveries have an owner and a fencing token, statistics name their writer.
 *
 * Unfinished deliveries live in `live`, ended ones in `done`: what is claimed from stays as small as
 * the backlog, however long the history is. Ids carry the order of time (model/ids.ts), so the
 * deliveries of an event, and the rows before a moment, are ranges of a primary key and need no
 * index of their own.
 */
export const firstSchema = `
-- Incarnations: a delivery is owned by one, and waits again when its owner is gone.
create table worker (
  id integer primary key autoincrement,
  started_at_ms integer not null
) strict;

create table endpoint (
  key text primary key,
  id text not null,
  tenant_id text not null,
  url text not null,
  events text not null check (json_valid(events)),
  name text not null,
  description text not null,
  status text not null check (status in ('active', 'paused', 'disabled')),
  status_reason text,
  status_changed_at_ms integer not null,
  secrets text not null check (json_valid(secrets)),
  filters text not null check (json_valid(filters)),
  retry_config text not null check (json_valid(retry_config)),
  headers text not null check (json_valid(headers)),
  timeout_ms integer,
  concurrency integer,
  batch text not null check (json_valid(batch)),
  version integer not null,
  warning text,
  held_until_ms integer not null,
  created_at_ms integer not null,
  updated_at_ms integer not null,
  -- A removed endpoint stays as a name for its history; its secrets and headers are gone.
  removed_at_ms integer
) strict;
create unique index endpoint_id on endpoint (tenant_id, id) where removed_at_ms is null;

create table endpoint_change (
  endpoint_key text not null,
  version integer not null,
  what text not null,
  at_ms integer not null,
  reason text,
  fields text not null check (json_valid(fields)),
  primary key (endpoint_key, version, what)
) strict, without rowid;

-- With a rowid, because bodies are large: a table without one keeps rows in its inner nodes too.
create table event (
  key text primary key,
  tenant_id text not null,
  id text not null,
  type text not null,
  accepted_at_ms integer not null,
  matched integer not null check (matched >= 0),
  -- Deliveries that retention has removed: matched = existing + still to fan out + pruned.
  pruned integer not null default 0,
  erased_at_ms integer,
  body blob
) strict;

-- Apart from event, as in PostgreSQL, where events are kept by day. It goes with its event.
create table event_key (
  tenant_id text not null,
  id text not null,
  key text not null,
  content_hash blob not null,
  accepted_at_ms integer not null,
  primary key (tenant_id, id)
) strict, without rowid;

create table live (
  id text primary key,
  kind text not null check (kind in ('single', 'batch')),
  -- 1: goes out as it is (a retry, a replay, a sealed batch). 0: may be put into a batch.
  alone integer not null check (alone in (0, 1)),
  event_key text,
  endpoint_key text not null,
  state text not null check (state in ('waiting', 'delivering')),
  owner integer,
  -- The claim that took it, so that a claim whose answer was lost can be undone.
  claim_no integer,
  token integer not null check (token >= 0),
  attempts integer not null check (attempts between 0 and token),
  due_at_ms integer not null,
  reason text,
  round integer not null check (round >= 1),
  -- A member of a sealed batch waits until the batch is settled and is never claimed itself.
  batch_id text,
  created_at_ms integer not null,
  check ((owner is null) = (state = 'waiting')),
  check (alone = 1 or (kind = 'single' and attempts = 0)),
  check ((event_key is null) = (kind = 'batch')),
  check (batch_id is null or (kind = 'single' and owner is null))
) strict, without rowid;
-- Only what can be claimed: a delivery that is accepted owned and delivered never touches it.
create index live_due on live (endpoint_key, alone, due_at_ms)
  where owner is null and batch_id is null;

create table done (
  id text primary key,
  event_key text not null,
  endpoint_key text not null,
  state text not null check (state in ('delivered', 'exhausted', 'rejected', 'cancelled')),
  reason text not null,
  round integer not null,
  attempts integer not null,
  token integer not null check (token >= attempts),
  batch_id text,
  created_at_ms integer not null,
  settled_at_ms integer not null,
  retried_as text
) strict, without rowid;
create index done_of_endpoint on done (endpoint_key, id);
create index done_failed on done (id)
  where state in ('exhausted', 'rejected') and retried_as is null;

-- The key is the fence: an attempt is counted when it is inserted, once per claim.
create table attempt (
  delivery_id text not null,
  token integer not null,
  number integer not null,
  started_at_ms integer not null,
  latency_ms real not null,
  outcome text not null,
  http_status integer,
  error text,
  response_body blob,
  endpoint_version integer not null,
  late integer not null check (late in (0, 1)),
  primary key (delivery_id, token)
) strict, without rowid;

create table batch (
  id text primary key,
  endpoint_key text not null,
  tenant_id text not null,
  sealed_at_ms integer not null,
  settled_at_ms integer,
  member_count integer not null check (member_count >= 1),
  -- [[delivery id, event id, event type], …]
  members text not null check (json_valid(members)),
  body blob
) strict;

create table fan_out (
  event_key text primary key,
  -- [[delivery id, endpoint key, due at ms], …]
  targets text not null check (json_valid(targets)),
  total integer not null,
  position integer not null check (position between 0 and total)
) strict;

-- Three grains in one table: (endpoint, hour), ('', hour) and ('', -1) for all of time.
create table rollup (
  endpoint_key text not null,
  hour_ms integer not null,
  tenant_id text not null,
  event_type text not null,
  outcome text not null,
  state text not null,
  latency_class integer not null,
  writer text not null,
  attempts integer not null,
  deliveries integer not null,
  latency_sum_ms real not null,
  primary key
    (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, writer)
) strict, without rowid;

-- What retention removed, so that rows and statistics can still be shown to add up.
create table pruned (
  endpoint_key text not null,
  state text not null,
  deliveries integer not null,
  attempts integer not null,
  primary key (endpoint_key, state)
) strict, without rowid;
`
