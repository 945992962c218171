/**
 * The first schema: the tables of SQLite, for many writers. `kmsg.` stands for the schema's name
 * (connection.ts). Ids are compared byte by byte (`collate "C"`): their order is the order of time.
 *
 * What grows is partitioned by day of its id (days.ts, docs/decisions/0014): `event`, `done`, `attempt`.
 */

/** Rows come and go by the million: dead ones are cleared by number, not by share, and at full speed. */
const queueSettings = `
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0`

function hashPartitions(table: string, count: number, settings: string): string {
  return Array.from(
    { length: count },
    (_, i) => `create table kmsg.${table}_${i} partition of kmsg.${table}
  for values with (modulus ${count}, remainder ${i}) with (${settings});`,
  ).join('\n')
}

export const firstSchema = `
-- Incarnations: who may own deliveries. Its row is the lease, see worker.ts.
create table kmsg.worker (
  id bigint generated always as identity primary key,
  -- Lowest number free among the living: the writer of its sums, so that those stay few.
  slot integer not null unique,
  beat bigint not null default 0,
  -- False: it owns nothing, and gets no share of any endpoint's concurrency.
  delivers boolean not null,
  -- The group of workers whose shares it keeps to by now, see shares.ts.
  keeps_to text not null default '',
  -- How long it has been seen silent since this beat, by whom it is noted now: see worker.ts.
  silent_beat bigint not null default -1,
  silent_ms bigint not null default 0,
  watcher bigint not null default 0,
  -- For people. No decision follows from them: a clock that jumps must not end a lease.
  started_at timestamptz not null default clock_timestamp(),
  beaten_at timestamptz not null default clock_timestamp()
);

-- Raised with every change of an endpoint: a commit that saw an older number is refused.
create table kmsg.endpoints_version (
  only_row boolean primary key default true check (only_row),
  number bigint not null
);
insert into kmsg.endpoints_version (number) values (1);

create table kmsg.endpoint (
  key text collate "C" primary key,
  id text not null,
  tenant_id text not null,
  url text not null,
  events text not null,
  name text not null,
  description text not null,
  status text not null check (status in ('active', 'paused', 'disabled')),
  status_reason text,
  status_changed_at_ms bigint not null,
  secrets text not null,
  signature_schemes text,
  filters text not null,
  body_filter text not null,
  retry_config text not null,
  headers text not null,
  tls text not null,
  timeout_ms bigint,
  concurrency integer,
  rate_limit text,
  batch text not null,
  ordering text not null,
  version bigint not null,
  warning text,
  created_at_ms bigint not null,
  updated_at_ms bigint not null,
  -- A removed endpoint stays as a name for its history; its secrets and headers are gone.
  removed_at_ms bigint,
  -- The number that endpoints_version got with its last change.
  changed bigint not null default 0
);
create unique index endpoint_id on kmsg.endpoint (tenant_id, id) where removed_at_ms is null;
create index endpoint_changed on kmsg.endpoint (changed);

-- What keeps an endpoint from being sent to for a while; only where there is something, see flow.ts.
create table kmsg.endpoint_flow (
  endpoint_key text collate "C" primary key,
  held_until_ms bigint not null default 0,
  breaker text not null default 'closed' check (breaker in ('closed', 'open', 'half-open')),
  breaker_epoch bigint not null default 0,
  breaker_until_ms bigint not null default 0,
  openings integer not null default 0,
  -- The first send time of its rate limit that nobody has.
  next_send_at_ms double precision not null default 0,
  -- By whom it was last held or its breaker changed. Send times leave it, and so every index, alone.
  changed xid8 not null default pg_current_xact_id()
) with (fillfactor = 50);
create index endpoint_flow_changed on kmsg.endpoint_flow (changed);

create table kmsg.endpoint_change (
  endpoint_key text collate "C" not null,
  version bigint not null,
  what text not null,
  at_ms bigint not null,
  reason text,
  fields text not null,
  -- One version can be warned about more than once.
  primary key (endpoint_key, version, at_ms, what)
);

-- Apart from endpoint, because failures write it often and a row there holds secrets.
create table kmsg.endpoint_health (
  endpoint_key text collate "C" primary key,
  revision bigint not null,
  failing_since_ms bigint,
  last_failed_at_ms bigint not null,
  failed_hours integer not null,
  failed_deliveries bigint not null,
  warned text not null check (warned in ('no', 'early', 'final')),
  warned_at_ms bigint not null,
  cleared_at_ms bigint not null
);

create table kmsg.event (
  key text collate "C" primary key,
  tenant_id text not null,
  id text not null,
  type text not null,
  accepted_at_ms bigint not null,
  matched integer not null check (matched >= 0),
  -- Deliveries that retention has removed: matched = existing + still to fan out + pruned.
  pruned integer not null default 0,
  erased_at_ms bigint,
  body bytea
) partition by range (key);
-- Bodies are compressed by nobody: they are read once and short.
alter table kmsg.event alter column body set storage external;
-- What no day takes: after a jump of the clock, or when a day could not be made.
create table kmsg.event_default partition of kmsg.event default;

-- Apart from event, because an id is one of all days. It goes with its event, see prune-rows.ts.
create table kmsg.event_key (
  tenant_id text collate "C" not null,
  id text collate "C" not null,
  key text collate "C" not null,
  content_hash bytea not null,
  accepted_at_ms bigint not null,
  primary key (tenant_id, id)
) partition by hash (tenant_id, id);
-- Eight, so that each is vacuumed in an eighth of the time; by 2 %: every day takes a thirtieth.
${hashPartitions('event_key', 8, 'autovacuum_vacuum_scale_factor = 0.02')}

-- Events that a caller's transaction has brought, not matched yet. No unique key but its own: it would
-- make transactions of callers wait for each other.
create table kmsg.intake (
  key text collate "C" primary key,
  tenant_id text not null,
  event_id text not null,
  type text not null,
  accepted_at_ms bigint not null,
  content_hash bytea not null,
  body bytea not null,
  deliver_at_ms bigint,
  expires_at_ms bigint
) with (${queueSettings});

create table kmsg.live (
  id text collate "C" primary key,
  kind text not null check (kind in ('single', 'batch')),
  -- 1: goes out as it is (a retry, a replay, a sealed batch). 0: may be put into a batch.
  alone smallint not null check (alone in (0, 1)),
  event_key text collate "C",
  endpoint_key text collate "C" not null,
  state text not null check (state in ('waiting', 'delivering')),
  owner bigint,
  -- The claim that took it, so that a claim whose answer was lost can be undone.
  claim_no bigint,
  token integer not null check (token >= 0),
  attempts integer not null check (attempts between 0 and token),
  due_at_ms bigint not null,
  reason text,
  round integer not null check (round >= 1),
  -- A member of a sealed batch waits until the batch is settled and is never claimed itself.
  batch_id text collate "C",
  created_at_ms bigint not null,
  -- The repair that has queued it.
  repair_id text collate "C",
  -- Owned, and to end as cancelled where it would wait again.
  cancel_reason text,
  -- Its owner has heard of that, and begins it no more.
  cancel_heard boolean,
  expires_at_ms bigint,
  -- What waits behind another of its key is due at the end of time (model/delivery.ts, behindMs).
  order_key text collate "C",
  order_no bigint,
  order_blocks boolean,
  check ((owner is null) = (state = 'waiting')),
  check (alone = 1 or (kind = 'single' and attempts = 0)),
  check ((event_key is null) = (kind = 'batch')),
  check (batch_id is null or (kind = 'single' and owner is null))
) with (${queueSettings});
-- Only what can be claimed: a delivery that is accepted owned and delivered never touches it.
create index live_due on kmsg.live (endpoint_key, alone, due_at_ms)
  where owner is null and batch_id is null;

create index live_repair on kmsg.live (repair_id, due_at_ms) where repair_id is not null;
create index live_cancelled on kmsg.live (id) where cancel_reason is not null;
create index live_expiry on kmsg.live (expires_at_ms)
  where expires_at_ms is not null and owner is null;
create index live_order on kmsg.live (endpoint_key, order_key, order_no, id)
  where order_key is not null;

-- A key held up by a delivery that failed at its head.
create table kmsg.order_block (
  endpoint_key text collate "C" not null,
  order_key text collate "C" not null,
  delivery_id text collate "C" not null,
  at_ms bigint not null,
  primary key (endpoint_key, order_key)
);
create index order_block_delivery on kmsg.order_block (delivery_id);

create table kmsg.done (
  id text collate "C" primary key,
  event_key text collate "C" not null,
  endpoint_key text collate "C" not null,
  state text not null check (state in ('delivered', 'exhausted', 'rejected', 'cancelled')),
  reason text not null,
  round integer not null,
  attempts integer not null,
  token integer not null check (token >= attempts),
  batch_id text collate "C",
  created_at_ms bigint not null,
  settled_at_ms bigint not null,
  retried_as text collate "C",
  -- The attempt that ended it, so that most deliveries need no row in attempt. Number and token are its own.
  last_started_at_ms bigint,
  last_latency_ms double precision,
  last_outcome text,
  last_http_status integer,
  last_error text,
  last_response_body bytea,
  last_endpoint_version bigint
) partition by range (id);
create table kmsg.done_default partition of kmsg.done default;
create index done_failed on kmsg.done (id)
  where state in ('exhausted', 'rejected') and retried_as is null;

create table kmsg.delivery_slot (
  endpoint_key text collate "C" not null,
  slot text collate "C" not null,
  primary key (endpoint_key, slot)
);

-- What ended no delivery by itself: attempts before the last, those of batches, and late ones.
create table kmsg.attempt (
  delivery_id text collate "C" not null,
  token integer not null,
  number integer not null,
  started_at_ms bigint not null,
  latency_ms double precision not null,
  outcome text not null,
  http_status integer,
  error text,
  response_body bytea,
  endpoint_version bigint not null,
  late boolean not null,
  primary key (delivery_id, token)
) partition by range (delivery_id);
create table kmsg.attempt_default partition of kmsg.attempt default;
-- Those of batches are few, and go one by one with their batch.
create table kmsg.attempt_batch partition of kmsg.attempt for values from ('bat_') to ('bat\`');

create view kmsg.attempt_made as
  select delivery_id, token, number, started_at_ms, latency_ms, outcome, http_status, error,
         response_body, endpoint_version, late
    from kmsg.attempt
  union all
  select id, token, attempts, last_started_at_ms, last_latency_ms, last_outcome, last_http_status,
         last_error, last_response_body, last_endpoint_version, false
    from kmsg.done where last_outcome is not null;

create table kmsg.batch (
  id text collate "C" primary key,
  endpoint_key text collate "C" not null,
  tenant_id text not null,
  sealed_at_ms bigint not null,
  settled_at_ms bigint,
  member_count integer not null check (member_count >= 1),
  -- [[delivery id, event id, event type], …]
  members json not null,
  body bytea
) with (autovacuum_vacuum_scale_factor = 0.02);

create table kmsg.fan_out (
  event_key text collate "C" primary key,
  -- [[delivery id, endpoint key, due at ms], …]
  targets json not null,
  total integer not null,
  position integer not null check (position between 0 and total)
);

-- Repairs of many deliveries: what is wanted, and how far it has come.
create table kmsg.repair (
  id text collate "C" primary key,
  kind text not null check (kind in ('retry', 'replay', 'backfill')),
  tenant_id text not null,
  endpoint_key text collate "C" not null,
  criteria text not null,
  max_per_second integer not null check (max_per_second >= 1),
  state text not null check (state in ('running', 'done', 'cancelled', 'failed')),
  reason text,
  cursor text collate "C" not null,
  next_step_at_ms bigint not null,
  -- Who made the last step: others take over only when none follows.
  worker bigint not null default 0,
  matched bigint not null default 0,
  queued bigint not null default 0,
  skipped text not null default '{}',
  created_at_ms bigint not null,
  ended_at_ms bigint,
  check ((ended_at_ms is null) = (state = 'running'))
);
create index repair_running on kmsg.repair (id) where state = 'running';

-- Three grains in one table: (endpoint, hour), ('', hour) and ('', -1) for all of time.
create table kmsg.rollup (
  endpoint_key text collate "C" not null,
  hour_ms bigint not null,
  tenant_id text collate "C" not null,
  event_type text collate "C" not null,
  outcome text collate "C" not null,
  state text collate "C" not null,
  latency_class smallint not null,
  -- One of a worker's numbers, see rollup.ts: each adds to rows of its own and waits for nobody.
  writer integer not null,
  attempts bigint not null,
  deliveries bigint not null,
  latency_sum_ms double precision not null,
  primary key
    (endpoint_key, hour_ms, tenant_id, event_type, outcome, state, latency_class, writer)
)
-- Half of a page is room for the next version of its rows: no update touches the index.
with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
-- Those that a process will add to its lasting ones, see rollup.ts.
create index rollup_loose on kmsg.rollup (writer) where writer % 1000 <> 0;

-- What retention removed, so that rows and statistics can still be shown to add up.
create table kmsg.pruned (
  endpoint_key text collate "C" not null,
  state text not null,
  deliveries bigint not null,
  attempts bigint not null,
  primary key (endpoint_key, state)
);

-- Days whose ended deliveries went as a whole: their events, where they are kept, do not count them.
create table kmsg.pruned_day (
  from_key text collate "C" primary key,
  to_key text collate "C" not null
);
`
