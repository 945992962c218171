/** The columns of a group of new events, as parameters: the same in every statement that writes one. */

export const keyColumns = {
  ...{ tenant_id: '$3::text[]', id: '$4::text[]', key: '$2::text[]' },
  ...{ body_at: '$8::int[]', body_length: '$9::int[]', hash_length: '$10::int[]' },
  accepted_at_ms: '$6::bigint[]',
}

export const eventColumns = {
  ...{ key: '$2::text[]', tenant_id: '$3::text[]', id: '$4::text[]', type: '$5::text[]' },
  ...{ accepted_at_ms: '$6::bigint[]', matched: '$7::int[]' },
  ...{ body_at: '$8::int[]', body_length: '$9::int[]' },
}

export const fanColumns = { key: '$2::text[]', targets: '$11::text[]', target_count: '$12::int[]' }

export const deliveryColumns = {
  ...{ id: '$14::text[]', endpoint_key: '$15::text[]', due_at_ms: '$16::bigint[]' },
  ...{ owned: '$17::boolean[]', created_at_ms: '$18::bigint[]', alone: '$19::int[]' },
  expires_at_ms: '$20::bigint[]',
}
