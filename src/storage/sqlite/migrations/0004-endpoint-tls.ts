/** An endpoint may have authorities and a client certificate of its own. */
export const endpointTls = `
alter table endpoint add column tls text not null default 'null' check (json_valid(tls));
`
