import { memory, type WebhookConfig, WebhookService } from '@k-msg/webhook'
import { expect, it } from 'vitest'
import { checkEndpointTls } from '../../src/security/endpoint-tls.ts'
import { Authority } from './tls/certificates.ts'

const authority = new Authority()
const a = authority.certify('client-a')
const b = authority.certify('client-b')

it.each([
  [{ dns: { servers: ['10.0.0.2', '[fd00::2]:53', 'fd00::2', '10.0.0.2:5353'] } }],
  [{ dns: { timeoutMs: 5_000 } }],
  [{ proxy: 'http://10.0.0.3:3128' }],
  [{ proxy: { url: 'https://proxy.internal', connectTo: 'name' } }],
  [{ tls: { ca: authority.cert + authority.cert } }],
] as [WebhookConfig][])('takes %o', async (config) => {
  const service = new WebhookService({ logger: false, storage: memory(), ...config })
  service.ready().catch(() => {})
  await service.close()
})

it.each([
  [{ dns: { servers: ['ns.example.net'] } }, 'OPTION_INVALID', '`dns.servers`'],
  [{ dns: { servers: ['10.0.0.2:0'] } }, 'OPTION_INVALID', '`dns.servers`'],
  [{ dns: { servers: ['10.0.0.2:99999'] } }, 'OPTION_INVALID', '`dns.servers`'],
  [{ dns: { servers: '10.0.0.2' } }, 'OPTION_INVALID', '`dns.servers`'],
  [{ dns: { timeoutMs: 5_001 } }, 'OPTION_OUT_OF_RANGE', '`dns.timeoutMs`'],
  [{ dns: { timeoutMs: '4s' } }, 'OPTION_OUT_OF_RANGE', '`dns.timeoutMs`'],
  [{ dns: { timeout: 1 } }, 'OPTION_UNKNOWN', 'did you mean `timeoutMs`'],
  [{ dns: [] }, 'OPTION_INVALID', '`dns`'],
  [{ tls: { ca: 'no certificate' } }, 'OPTION_INVALID', '`tls.ca`'],
  [{ tls: { cert: a.cert } }, 'OPTION_UNKNOWN', '`tls`'],
  [{ tls: 'yes' }, 'OPTION_INVALID', '`tls`'],
  [{ proxy: 'environment' }, 'OPTION_INVALID', '`proxy`'],
  [{ proxy: 5 }, 'OPTION_INVALID', '`proxy`'],
  [{ lookup: 'system' }, 'OPTION_INVALID', '`lookup`'],
])('refuses %o', (config, code, text) => {
  expect(() => new WebhookService(config as unknown as WebhookConfig)).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(text) as string }),
  )
})

it.each([[undefined], [null], [{}], [{ ca: authority.cert }], [{ ...a }], [{ ...a, ca: b.cert }]])(
  'an endpoint may have TLS settings like these: %#',
  (tls) => {
    expect(() => checkEndpointTls(tls)).not.toThrow()
  },
)

it.each([
  ['a text', 'pem', 'ENDPOINT_INVALID', '`tls`'],
  ['a list', [], 'ENDPOINT_INVALID', '`tls`'],
  ['another field', { certificate: a.cert }, 'OPTION_UNKNOWN', '`certificate`'],
  ['a certificate without its key', { cert: a.cert }, 'ENDPOINT_INVALID', 'given together'],
  ['a key without its certificate', { key: a.key }, 'ENDPOINT_INVALID', 'given together'],
  [
    'the key of another one',
    { cert: a.cert, key: b.key },
    'ENDPOINT_INVALID',
    'the private key of',
  ],
  ['a key that is none', { cert: a.cert, key: 'hunter2' }, 'ENDPOINT_INVALID', '`tls.key`'],
  ['a certificate that is none', { cert: 'x', key: a.key }, 'ENDPOINT_INVALID', '`tls.cert`'],
  ['an authority that is none', { ca: 'x' }, 'ENDPOINT_INVALID', '`tls.ca`'],
  ['a number', { ca: 5 }, 'ENDPOINT_INVALID', '`tls.ca`'],
  ['far too much', { ca: authority.cert.repeat(200) }, 'ENDPOINT_INVALID', 'at most'],
])('an endpoint may not have %s', (_, tls, code, text) => {
  const message = messageOf(() => checkEndpointTls(tls), code)
  expect(message).toContain(text)
  for (const secret of ['hunter2', a.key.slice(30, 80), b.key.slice(30, 80)]) {
    expect(message).not.toContain(secret)
  }
})

function messageOf(run: () => void, code: string): string {
  try {
    run()
  } catch (error) {
    expect(error).toMatchObject({ code })
    return (error as Error).message
  }
  throw new Error('nothing was refused')
}
