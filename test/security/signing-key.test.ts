import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  checkSigningSecret,
  createSigningSecret,
  publicKeyOf,
  secretTypeOf,
} from '../../src/security/signing-key.ts'

const key = createSigningSecret('ed25519', randomBytes)
const halves = (a: string, b: string) =>
  `whsk_${Buffer.concat([
    Buffer.from(a.slice(5), 'base64').subarray(0, 32),
    Buffer.from(b.slice(5), 'base64').subarray(32),
  ]).toString('base64')}`

describe('a created secret', () => {
  it('is of the type asked for, allowed, and another one each time', () => {
    for (const type of ['hmac', 'ed25519'] as const) {
      const [one, other] = [1, 2].map(() => createSigningSecret(type, randomBytes))
      expect(secretTypeOf(one ?? '')).toBe(type)
      expect(() => checkSigningSecret(one)).not.toThrow()
      expect(one).not.toBe(other)
    }
  })

  it('of Ed25519 is 64 bytes, the second half of which is public', () => {
    const bytes = Buffer.from(key.slice(5), 'base64')
    expect(bytes).toHaveLength(64)
    expect(publicKeyOf(key)).toBe(`whpk_${bytes.subarray(32).toString('base64')}`)
    expect(publicKeyOf(createSigningSecret('hmac', randomBytes))).toBeNull()
  })
})

describe('a secret that somebody brings', () => {
  const other = createSigningSecret('ed25519', randomBytes)
  it.each([
    ['of the wrong length', `whsk_${randomBytes(32).toString('base64')}`, /64 bytes/],
    ['that is cut', key.slice(0, -3), /64 bytes/],
    ['that is not base64', `whsk_${'-'.repeat(86)}==`, /64 bytes/],
    ['whose halves do not belong together', halves(key, other), /two halves/],
    ['that is the public key', publicKeyOf(key), /only the receiver gets/],
    ['that is empty', '', /16 bytes/],
    ['that is short', 'fifteen-bytes-1', /16 bytes/],
    ['that says whsec_ and is not base64', 'whsec_not base64 at all', /base64 after "whsec_"/],
    ['that is no text', 16, /a text/],
  ])('%s is refused, and not repeated', (_, secret, sentence) => {
    let message = ''
    try {
      checkSigningSecret(secret)
    } catch (error) {
      expect(error).toMatchObject({ code: 'SECRET_INVALID' })
      message = (error as Error).message
    }
    expect(message).toMatch(sentence)
    const text = String(secret).slice(6)
    if (text.length > 4) expect(message).not.toContain(text)
  })

  it.each([key, 'sixteen-bytes-16', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'])(
    'such as %s is allowed',
    (secret) => {
      expect(() => checkSigningSecret(secret)).not.toThrow()
    },
  )
})
