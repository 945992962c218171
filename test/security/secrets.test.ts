import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { checkSecret, createSecret, secretBytes } from '../../src/security/secrets.ts'

describe('createSecret', () => {
  it('is whsec_ and 32 random bytes in base64', () => {
    const bytes = randomBytes(32)
    const secret = createSecret(() => bytes)
    expect(secret).toBe(`whsec_${bytes.toString('base64')}`)
    expect(Buffer.from(secretBytes(secret)).equals(bytes)).toBe(true)
    expect(() => checkSecret(secret)).not.toThrow()
  })
})

describe('secretBytes', () => {
  it('decodes whsec_ and takes anything else as UTF-8', () => {
    expect(secretBytes('whsec_AAEC')).toEqual(Uint8Array.of(0, 1, 2))
    expect(secretBytes('whsec_AAE')).toEqual(Uint8Array.of(0, 1))
    expect(secretBytes('비밀')).toEqual(new TextEncoder().encode('비밀'))
  })

  it.each(['whsec_', 'whsec_A', 'whsec_a b c d ', 'whsec_ab-_', 'whsec_YWJj=YWJj', 'whsec_안녕'])(
    'refuses %s',
    (secret) => {
      expect(() => secretBytes(secret)).toThrow(expect.objectContaining({ code: 'SECRET_INVALID' }))
    },
  )
})

describe('checkSecret', () => {
  it.each([
    '',
    'short',
    'fifteen-bytes-1',
    `whsec_${btoa('fifteen-bytes-1')}`,
    undefined,
    null,
    16,
  ])('refuses %j', (secret) => {
    expect(() => checkSecret(secret)).toThrow(expect.objectContaining({ code: 'SECRET_INVALID' }))
  })

  it.each(['sixteen-bytes-16', `whsec_${btoa('sixteen-bytes-16')}`, '열여섯바이트'])(
    'allows %j',
    (secret) => {
      expect(() => checkSecret(secret)).not.toThrow()
    },
  )

  it('does not repeat the secret', () => {
    expect(() => checkSecret('hunter2')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('hunter2') as string }),
    )
  })
})
