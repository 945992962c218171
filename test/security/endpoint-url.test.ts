import { describe, expect, it } from 'vitest'
import { WebhookError } from '../../src/model/errors.ts'
import { checkEndpointUrl } from '../../src/security/endpoint-url.ts'
import { urlVerdicts } from './url-list.ts'

const closed = { allowedNetworks: [] }

describe('the list of verdicts', () => {
  it('is complete', () => {
    expect(urlVerdicts.length).toBeGreaterThan(90)
  })

  it.each(urlVerdicts)('$verdict $url', ({ verdict, url }) => {
    const check = () => checkEndpointUrl(url, closed)
    if (verdict === 'refuse') {
      expect(check).toThrow(WebhookError)
      expect(codeOf(check)).toMatch(/^(ENDPOINT_URL_INVALID|ADDRESS_BLOCKED)$/)
    } else {
      expect(check).not.toThrow()
    }
  })
})

describe('what is kept of a URL', () => {
  it('is its normal form, without the trailing dot of the host', () => {
    expect(checkEndpointUrl('https://EXAMPLE.com./a?b=c', closed).href).toBe(
      'https://example.com/a?b=c',
    )
    expect(checkEndpointUrl('https://bücher.example.com/', closed).hostname).toBe(
      'xn--bcher-kva.example.com',
    )
  })
})

describe('other malformed URLs', () => {
  it.each([
    ['nothing', undefined],
    ['an object', new URL('https://example.com/')],
    ['2049 characters', `https://example.com/${'a'.repeat(2029)}`],
    ['a space around it', ' https://example.com/'],
    ['an empty fragment', 'https://example.com/#'],
    ['a host of one dot', 'http://./'],
    ['a hyphen at the end of a label', 'http://a-.example.com/'],
    ['a host of 254 characters', `http://${`${'a'.repeat(49)}.`.repeat(5)}abcd/`],
    ['a well-known service', 'http://example.com:6379/'],
    ['mail', 'http://example.com:25/'],
  ])('%s', (_, url) => {
    expect(codeOf(() => checkEndpointUrl(url, closed))).toBe('ENDPOINT_URL_INVALID')
  })

  it.each([
    'https://user:hunter2@example.com/',
    'http:user:hunter2@example.com/ x',
    'http:/user:hunter2@h\\x',
    'http://user:hunter2/et@host/',
    'http://user:et/hunter2@host/ ',
    'ftp:user:hunter2@h',
    'ftp://user:hunter2@h/',
    'user:hunter2@h',
    'http:user:hunter2%40h',
    'http://us?er:hunter2@h/ ',
    'ftp://example.com/?hunter2',
    'ftp://example.com/#hunter2',
    'ftp://example.com/?a=b#hunter2\r\nhunter2',
    'https://example.com/?a=b#hunter2',
  ])('never repeats a password or a token: %s', (url) => {
    const check = () => checkEndpointUrl(url, closed)
    expect(codeOf(check)).toBe('ENDPOINT_URL_INVALID')
    expect(check).toThrow(
      expect.objectContaining({ message: expect.not.stringMatching(/hunter2|user:/) as string }),
    )
  })

  it('says of a text with an @ what it saw, and repeats any other', () => {
    expect(() => checkEndpointUrl('ftp:a@b', closed)).toThrow(/got a URL with '@'/)
    expect(() => checkEndpointUrl('ftp://b/', closed)).toThrow(/got "ftp:\/\/b\/"/)
  })
})

describe('with `allowedNetworks`', () => {
  const opened = { allowedNetworks: ['127.0.0.0/8', '10.1.0.0/16', '::1/128'] }

  it.each([
    'http://127.0.0.1:3000/hook',
    'http://127.0.0.1:81/hook',
    'http://127.0.0.1:6379/hook',
    'http://[::1]:8080/hook',
    'http://10.1.255.1/hook',
    'http://localhost:3000/hook',
    'http://receiver:80/hook',
    'http://my_service:8000/hook',
    'http://receiver.default.svc/hook',
    'https://example.com/hook',
  ])('allows %s', (url) => {
    expect(() => checkEndpointUrl(url, opened)).not.toThrow()
  })

  it.each([
    ['http://10.2.0.1/', 'ADDRESS_BLOCKED'],
    ['http://169.254.169.254/', 'ADDRESS_BLOCKED'],
    ['http://[::ffff:127.0.0.1]/', 'ADDRESS_BLOCKED'],
    ['http://[64:ff9b::127.0.0.1]/', 'ADDRESS_BLOCKED'],
    ['http://8.8.8.8:22/', 'ENDPOINT_URL_INVALID'],
    // Names of an inside by their look, which may lead outside all the same.
    ['http://ai:25/', 'ENDPOINT_URL_INVALID'],
    ['http://localhost:81/', 'ENDPOINT_URL_INVALID'],
    ['http://receiver.default.svc:6379/', 'ENDPOINT_URL_INVALID'],
    ['http://mail.corp.internal:25/', 'ENDPOINT_URL_INVALID'],
    ['http://x.8.b.d.0.1.0.0.2.ip6.arpa:25/', 'ENDPOINT_URL_INVALID'],
    ['http://example.com:6379/', 'ENDPOINT_URL_INVALID'],
  ])('still refuses %s', (url, code) => {
    expect(codeOf(() => checkEndpointUrl(url, opened))).toBe(code)
  })
})

it('names the option that opens a private address', () => {
  for (const url of ['http://127.0.0.1:3000/', 'http://localhost:3000/']) {
    expect(() => checkEndpointUrl(url, closed)).toThrow(/`allowedNetworks`.*127\.0\.0\.0\/8/)
  }
})

function codeOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    if (error instanceof WebhookError) return error.code
    throw error
  }
  return 'nothing thrown'
}
