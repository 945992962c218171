/** What a context costs, and how long it is kept. That the right one is used: tls.test.ts. */
import { expect, it } from 'vitest'
import { TlsIdentities } from '../../../src/deliver/tls-identity.ts'
import { Authority } from './certificates.ts'

const authority = new Authority()
const client = authority.certify('client-a')

it('is the same for the same text, whichever record it came in', () => {
  const identities = new TlsIdentities(authority.cert)
  const { cert, key } = client
  const first = identities.of({ cert, key })
  // A hold or a warning makes a record of its own of the same endpoint.
  expect(identities.of({ key, cert, ca: undefined })).toBe(first)
  expect(identities.of(null)).toBe(identities.of(null))
})

it('differs when any text of it differs', () => {
  const identities = new TlsIdentities(undefined)
  const other = authority.certify('client-a')
  const all = [
    null,
    client,
    other,
    { ...client, ca: authority.cert },
    { ca: authority.cert },
    { ca: client.cert },
  ].map((tls) => identities.of(tls))
  expect(new Set(all).size).toBe(6)
  expect(new Set(all.map(({ key }) => key)).size).toBe(6)
  expect(new Set(all.map(({ sessions }) => sessions)).size).toBe(6)
})

it('parses the authorities of the runtime for no identity: an added one is added to them', () => {
  const identities = new TlsIdentities(authority.cert)
  for (const tls of [null, client]) {
    const { options } = identities.of(tls)
    expect(options.secureContext).toBeDefined()
    expect(options).not.toHaveProperty('ca')
  }
})
