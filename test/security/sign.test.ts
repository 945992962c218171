import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bodySignature, standardSignature } from '../../src/security/sign.ts'

describe('signatures are those of node:crypto', () => {
  const secretText = fc.string({ unit: 'binary', minLength: 1, maxLength: 300 })
  const body = fc.uint8Array({ maxLength: 2_000 })

  it('for any secret, body, id and algorithm', () => {
    fc.assert(
      fc.property(
        secretText.filter((secret) => !secret.startsWith('whsec_')),
        body,
        fc.string({ unit: 'binary', maxLength: 100 }),
        (secret, bytes, id) => {
          const mac = (algorithm: string) => createHmac(algorithm, Buffer.from(secret))
          expect(bodySignature('sha256', bytes, secret)).toBe(
            mac('sha256').update(bytes).digest('hex'),
          )
          expect(bodySignature('sha512', bytes, secret)).toBe(
            mac('sha512').update(bytes).digest('hex'),
          )
          expect(standardSignature(id, '1767225600', bytes, [secret])).toBe(
            `v1,${mac('sha256').update(`${id}.1767225600.`).update(bytes).digest('base64')}`,
          )
        },
      ),
      { numRuns: 500 },
    )
  })

  it.each([0, 1, 63, 64, 65, 4_000, 4_096, 65_536, 65_537, 1_000_000])(
    'for a body of %i bytes, and for the next one after it',
    (size) => {
      for (const bytes of [Buffer.alloc(size, 'ab'), Buffer.from('{}')]) {
        expect(bodySignature('sha256', bytes, 'a secret of an endpoint')).toBe(
          createHmac('sha256', 'a secret of an endpoint').update(bytes).digest('hex'),
        )
      }
    },
  )

  it('for a text as for its bytes', () => {
    const text = '{"name":"홍길동"}'
    expect(bodySignature('sha256', text, 'a secret of an endpoint')).toBe(
      bodySignature('sha256', Buffer.from(text), 'a secret of an endpoint'),
    )
  })

  it.each([63, 64, 65, 127, 128, 129])('for a secret of %i bytes', (size) => {
    const secret = 'k'.repeat(size)
    for (const algorithm of ['sha256', 'sha512'] as const) {
      expect(bodySignature(algorithm, Buffer.from('{}'), secret)).toBe(
        createHmac(algorithm, secret).update('{}').digest('hex'),
      )
    }
  })
})
