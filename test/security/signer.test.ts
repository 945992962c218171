import { createHmac, createPublicKey, randomBytes, verify } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SignatureScheme } from '../../src/model/signature.ts'
import { SecurityManager } from '../../src/security/security-manager.ts'
import { createSigningSecret, publicKeyOf } from '../../src/security/signing-key.ts'

const body = '{"id":"evt_123","type":"message.sent"}'
const secret = 'your-endpoint-secret'
const ed25519 = createSigningSecret('ed25519', randomBytes)

function signed(
  secrets: readonly string[],
  schemes: readonly SignatureScheme[],
  message: { id?: string; timestamp?: string; body?: Uint8Array } = {},
  security = new SecurityManager(),
): Record<string, string> {
  const { id = 'evt_1', timestamp = '1767225600', body: bytes = Buffer.from(body) } = message
  const lines = security.signer(secrets, schemes).headerLines(id, timestamp, bytes)
  expect(lines).toMatch(/^(?:[^\r\n]+\r\n)+$/)
  return Object.fromEntries(
    lines
      .trimEnd()
      .split('\r\n')
      .map((line) => line.split(': ', 2)),
  )
}

const v1 = (key: string, text = `evt_1.1767225600.${body}`) =>
  `v1,${createHmac('sha256', key).update(text).digest('base64')}`

/** By node:crypto alone, from what a receiver holds. */
function verifies(publicKey: string, signature: string, message: Uint8Array): boolean {
  const x = Buffer.from(publicKey.slice('whpk_'.length), 'base64').toString('base64url')
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
  return verify(null, message, key, Buffer.from(signature.slice('v1a,'.length), 'base64'))
}

describe('the published vectors', () => {
  it("of Ed25519 is the specification's", () => {
    const key =
      'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=='
    const message = {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestamp: '1614265330',
      body: Buffer.from('{"test": 2432232314}'),
    }
    expect(signed([key], ['standard'], message)).toEqual({
      'webhook-signature':
        'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
    })
    expect(publicKeyOf(key)).toBe('whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=')
  })

  it('of the first version and of 0.30 are those of their documents', () => {
    expect(signed([secret], ['body'])).toEqual({
      'X-Webhook-Signature':
        'sha256=fcdf3bc54834283e48f38cbe2b9d9038ece4a9be4462049730a645a5babea1dd',
    })
    expect(signed([secret], ['timestamped-body'])).toEqual({
      'X-Webhook-Signature':
        'sha256=84ce1b59b9c430126b8c48305c6141439216c4a1200c79e3f7d002fc9bbb0835',
    })
  })
})

describe('several secrets', () => {
  it('all sign webhook-signature, newest first; the oldest signs the header of one value', () => {
    expect(signed(['the-new-one-of-it', secret], ['standard', 'body'])).toEqual({
      'webhook-signature': `${v1('the-new-one-of-it')} ${v1(secret)}`,
      'X-Webhook-Signature':
        'sha256=fcdf3bc54834283e48f38cbe2b9d9038ece4a9be4462049730a645a5babea1dd',
    })
  })

  it('of both kinds stand together; the header of one value is left to HMAC', () => {
    for (const secrets of [
      [ed25519, secret],
      [secret, ed25519],
    ]) {
      const headers = signed(secrets, ['standard', 'body'])
      const values = headers['webhook-signature']?.split(' ') ?? []
      expect(values.map((one) => one.split(',')[0])).toEqual(
        secrets.map((one) => (one === secret ? 'v1' : 'v1a')),
      )
      expect(values).toContain(v1(secret))
      expect(headers['X-Webhook-Signature']).toMatch(/^sha256=fcdf3bc5/)
    }
    expect(signed([ed25519], ['standard', 'body'])).not.toHaveProperty('X-Webhook-Signature')
  })
})

describe('0.30', () => {
  it('takes a secret as its text, whsec_ included', () => {
    const created = createSigningSecret('hmac', randomBytes)
    const mac = createHmac('sha256', created).update(`1767225600.${body}`).digest('hex')
    expect(signed([created], ['timestamped-body'])['X-Webhook-Signature']).toBe(`sha256=${mac}`)
  })

  it('keeps to header, prefix and algorithm', () => {
    const security = new SecurityManager({ algorithm: 'sha512', header: 'X-Hub-Sig', prefix: 't=' })
    const mac = createHmac('sha512', secret).update(`1767225600.${body}`).digest('hex')
    expect(signed([secret], ['timestamped-body'], {}, security)).toEqual({
      'X-Hub-Sig': `t=${mac}`,
    })
  })
})

it('verifies for any id and body with the public key, and for no other body', () => {
  const publicKey = publicKeyOf(ed25519) ?? ''
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc.uint8Array({ maxLength: 2_000 }),
      (id, bytes) => {
        const value =
          signed([ed25519], ['standard'], { id, body: bytes })['webhook-signature'] ?? ''
        const message = Buffer.concat([Buffer.from(`${id}.1767225600.`), bytes])
        expect(verifies(publicKey, value, message)).toBe(true)
        expect(verifies(publicKey, value, Buffer.concat([message, Buffer.from(' ')]))).toBe(false)
      },
    ),
    { numRuns: 200 },
  )
})

it.each([
  ['no secret', [], ['standard', 'body']],
  ['an Ed25519 key and no scheme for it', [ed25519], ['body']],
] as const)('refuses to sign with %s', (_, secrets, schemes) => {
  expect(() => signed(secrets, schemes)).toThrow(
    expect.objectContaining({ code: 'SECRET_MISSING' }),
  )
})
