import { describe, expect, it } from 'vitest'
import { checkHeaders } from '../../src/security/headers.ts'

describe('checkHeaders', () => {
  it.each([
    {},
    { 'X-Team': 'billing', Authorization: 'Bearer abc', 'user-agent': 'ours/1' },
    { 'X-Latin': 'café\t.' },
  ])('allows %j', (headers) => {
    expect(() => checkHeaders(headers)).not.toThrow()
  })

  it.each([
    'Host',
    'content-length',
    'Content-Type',
    'Transfer-Encoding',
    'connection',
    'TE',
    'trailer',
    'Upgrade',
    'expect',
    'Proxy-Authorization',
    'webhook-id',
    'webhook-timestamp',
    'Webhook-Signature',
    'webhook-anything',
    'X-Webhook-Signature',
    'accept-encoding',
    '',
    'a b',
    'a:b',
    'a\r\nb',
    'ä',
  ])('peers 18: refuses the name %j', (name) => {
    expect(() => checkHeaders({ [name]: 'x' })).toThrow(
      expect.objectContaining({ code: 'ENDPOINT_INVALID' }),
    )
  })

  it.each(['a\r\nX-Injected: 1', 'a\nb', 'a\0b', '안녕', '\u0100', '\x7f', 5, null])(
    'refuses the value %j without repeating it',
    (value) => {
      expect(() => checkHeaders({ 'X-Key': value })).toThrow(/"X-Key"/)
      try {
        checkHeaders({ 'X-Key': value })
      } catch (error) {
        expect((error as Error).message).not.toContain(String(value))
      }
    },
  )

  it('refuses names that differ only in case, and more than 8192 characters in all', () => {
    expect(() => checkHeaders({ 'X-A': '1', 'x-a': '2' })).toThrow(/once/)
    expect(() => checkHeaders({ 'X-A': 'a'.repeat(8190) })).toThrow(/8192/)
    expect(() => checkHeaders({ 'X-A': 'a'.repeat(8189) })).not.toThrow()
  })

  it('peers 18: refuses the header that the signature goes into', () => {
    expect(() => checkHeaders({ 'x-signed': '1' }, 'X-Signed')).toThrow(/sender sets it/)
  })

  it.each([null, [], 'X-A: 1'])('refuses %j for an object', (headers) => {
    expect(() => checkHeaders(headers)).toThrow(
      expect.objectContaining({ code: 'ENDPOINT_INVALID' }),
    )
  })
})
