/**
 * An endpoint may say which signatures it gets. `secrets` and `headers` hold a JSON text instead of
 * a list or an object where they are encrypted: '"<key id>:<base64>"'.
 */
export const signatureSchemes = `
alter table endpoint
  add column signature_schemes text check (json_valid(signature_schemes));
`
