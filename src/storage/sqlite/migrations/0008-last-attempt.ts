/**
 * The attempt that ends a delivery is kept in the delivery's own row: most deliveries then need none in
 * `attempt`. Number and token of it are the row's own; those that ended before stay where they are.
 */
export const lastAttempt = `
alter table done add column last_started_at_ms integer;
alter table done add column last_latency_ms real;
alter table done add column last_outcome text;
alter table done add column last_http_status integer;
alter table done add column last_error text;
alter table done add column last_response_body blob;
alter table done add column last_endpoint_version integer;

create view attempt_made as
  select delivery_id, token, number, started_at_ms, latency_ms, outcome, http_status, error,
         response_body, endpoint_version, late
    from attempt
  union all
  select id, token, attempts, last_started_at_ms, last_latency_ms, last_outcome, last_http_status,
         last_error, last_response_body, last_endpoint_version, 0
    from done where last_outcome is not null;
`
