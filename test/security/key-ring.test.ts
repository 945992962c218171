import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createEncryptionKey, KeyRing, keyIdOf } from '../../src/security/key-ring.ts'

const [k1, k2] = [createEncryptionKey('k1'), createEncryptionKey('k2')]
const place = { table: 'endpoint', row: 'abcdefgh', name: '"a"', field: 'secrets' }
const ring = (...keys: string[]) => new KeyRing(keys, '`encryptionKeys`')

describe('a sealed text', () => {
  it('comes back as it was, whatever it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 500 }), (text) => {
        expect(ring(k1).open(ring(k1).seal(text, place), place)).toBe(text)
      }),
    )
  })

  it('is under the newest key, and opens with any', () => {
    const old = ring(k1).seal('x', place)
    const renewed = ring(k2, k1).seal('x', place)
    expect([keyIdOf(old), keyIdOf(renewed)]).toEqual(['k1', 'k2'])
    expect(ring(k2, k1).open(old, place)).toBe('x')
    expect(ring(k1, k2).open(renewed, place)).toBe('x')
  })

  it('is another one each time, and holds nothing of the text', () => {
    const sealed = new Set(Array.from({ length: 1_000 }, () => ring(k1).seal('the text', place)))
    expect(sealed.size).toBe(1_000)
    const [one = ''] = sealed
    expect(Buffer.from(one.slice(3), 'base64').toString('latin1')).not.toContain('text')
  })

  it.each([
    ['another row', { ...place, row: 'abcdefgi' }],
    ['another field', { ...place, field: 'headers' }],
    ['another table', { ...place, table: 'event' }],
    ['a row whose name runs into the field', { ...place, row: 'abcdefghs', field: 'ecrets' }],
  ])('does not open in %s', (_, other) => {
    expect(() => ring(k1).open(ring(k1).seal('x', place), other)).toThrow(
      expect.objectContaining({ code: 'ENCRYPTION_KEY_WRONG' }),
    )
  })

  it('does not open with any bit changed, cut, longer or empty', () => {
    const sealed = Buffer.from(ring(k1).seal('secret', place).slice(3), 'base64')
    const bad = [...sealed.keys()].map((i) => {
      const changed = Buffer.from(sealed)
      changed[i] = (changed[i] ?? 0) ^ (1 << (i % 8))
      return changed
    })
    for (const cut of [0, 5, 12, 20, 28, sealed.length - 1]) bad.push(sealed.subarray(0, cut))
    bad.push(Buffer.concat([sealed, Buffer.alloc(1)]))
    for (const bytes of bad) {
      expect(() => ring(k1).open(`k1:${bytes.toString('base64')}`, place)).toThrow(
        expect.objectContaining({ code: 'ENCRYPTION_KEY_WRONG' }),
      )
    }
  })

  it('does not open with another key, whether it has its id or not', () => {
    const sealed = ring(k1).seal('x', place)
    expect(() => ring(createEncryptionKey('k1')).open(sealed, place)).toThrow(
      expect.objectContaining({ code: 'ENCRYPTION_KEY_WRONG' }),
    )
    expect(() => ring(k2).open(sealed, place)).toThrow(
      expect.objectContaining({
        code: 'ENCRYPTION_KEY_MISSING',
        message: expect.stringMatching(/"k1".*given are k2/) as string,
      }),
    )
    // Renaming the key does not help: its id is bound to the text.
    const renamed = ring(k1.replace('k1', 'k9'))
    expect(() => renamed.open(sealed.replace('k1', 'k9'), place)).toThrow(
      expect.objectContaining({ code: 'ENCRYPTION_KEY_WRONG' }),
    )
  })
})

describe('a key', () => {
  const half = randomBytes(16).toString('base64')
  it.each([
    ['no list', 'k1:abc', /a list of keys/],
    ['an empty list', [], /leave it out/],
    ['no text', [7], /a value of type number/],
    ['no id', [k1.slice(3)], /begin with an id/],
    ['an id with a space', [`k 1${k1.slice(2)}`], /begin with an id/],
    ['16 bytes', [`k1:${half}`], /got 16 bytes/],
    ['nothing after its id', ['k1:'], /not base64/],
    ['hexadecimal', [`k1:${randomBytes(32).toString('hex')}`], /got 48 bytes/],
    ['no base64', ['k1:!!!'], /not base64/],
    ['an id twice', [k1, createEncryptionKey('k1')], /"k1" twice/],
    ['a wrong second one', [k1, `k2:${half}`], /key 2 of .*"k2"/],
  ])('%s is refused, and not repeated', (_, keys, sentence) => {
    let thrown: Error | undefined
    try {
      new KeyRing(keys as string[], '`encryptionKeys`')
    } catch (error) {
      thrown = error as Error
    }
    expect(thrown).toMatchObject({ code: 'ENCRYPTION_KEY_INVALID' })
    expect(thrown?.message).toMatch(sentence)
    expect(thrown?.message).not.toContain(half)
    expect(thrown?.message).not.toContain(k1.slice(3))
  })
})

it.each([undefined, '', 'a:b', 'x'.repeat(65)])('no key is made with the id %j', (id) => {
  expect(() => createEncryptionKey(id as string)).toThrow(
    expect.objectContaining({ code: 'ENCRYPTION_KEY_INVALID' }),
  )
})
