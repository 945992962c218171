/** What keeps an endpoint from being sent to for a while: apart from the endpoint, as in flow.ts. */
export const endpointFlow = `
create table endpoint_flow (
  endpoint_key text primary key,
  held_until_ms integer not null default 0,
  breaker text not null default 'closed' check (breaker in ('closed', 'open', 'half-open')),
  breaker_epoch integer not null default 0,
  breaker_until_ms integer not null default 0,
  openings integer not null default 0,
  -- The first send time of its rate limit that nobody has.
  next_send_at_ms real not null default 0
) strict, without rowid;

insert into endpoint_flow (endpoint_key, held_until_ms)
select key, held_until_ms from endpoint where held_until_ms > 0 and removed_at_ms is null;

alter table endpoint drop column held_until_ms;
alter table endpoint add column rate_limit text check (json_valid(rate_limit));
`
