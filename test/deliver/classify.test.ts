import { describe, expect, it } from 'vitest'
import {
  BlockedAddressError,
  ConnectTimeoutError,
  classifyError,
  classifyStatus,
  mayCarryRetryAfter,
  UnresolvableError,
} from '../../src/deliver/classify.ts'
import { ReplyError } from '../../src/deliver/reply-reader.ts'
import { retryAfterMs } from '../../src/deliver/retry-after.ts'

describe('classifyStatus', () => {
  it.each([
    [200, { kind: 'accepted', status: 200, redirected: false }],
    [204, { kind: 'accepted', status: 204, redirected: false }],
    [299, { kind: 'accepted', status: 299, redirected: false }],
    [301, { kind: 'accepted', status: 301, redirected: true }],
    [304, { kind: 'accepted', status: 304, redirected: true }],
    [400, { kind: 'refused', status: 400 }],
    [401, { kind: 'refused', status: 401 }],
    [404, { kind: 'refused', status: 404 }],
    [408, { kind: 'faulted', status: 408, retryAfterMs: null }],
    [410, { kind: 'gone', status: 410 }],
    [429, { kind: 'throttled', status: 429, retryAfterMs: null }],
    [499, { kind: 'refused', status: 499 }],
    [500, { kind: 'faulted', status: 500, retryAfterMs: null }],
    [503, { kind: 'faulted', status: 503, retryAfterMs: null }],
    [599, { kind: 'faulted', status: 599, retryAfterMs: null }],
    [999, { kind: 'faulted', status: 999, retryAfterMs: null }],
  ])('%i', (status, outcome) => {
    expect(classifyStatus(status, null, 'success')).toEqual(outcome)
  })

  it('counts redirects as the option says', () => {
    for (const status of [301, 302, 303, 307, 308]) {
      expect(classifyStatus(status, null, 'failure')).toEqual({ kind: 'refused', status })
    }
  })

  it('hands on Retry-After, which makes 503 a request for time', () => {
    expect(classifyStatus(503, 5000, 'success').kind).toBe('throttled')
    expect(classifyStatus(429, 5000, 'success')).toMatchObject({ retryAfterMs: 5000 })
    expect(classifyStatus(500, 5000, 'success')).toEqual({
      kind: 'faulted',
      status: 500,
      retryAfterMs: 5000,
    })
    expect([200, 301, 404, 408, 410, 429, 500, 503].filter(mayCarryRetryAfter)).toEqual([
      408, 429, 500, 503,
    ])
  })
})

describe('retryAfterMs', () => {
  const nowMs = Date.UTC(1994, 10, 6, 8, 49, 30)

  it.each([
    ['0', 0],
    ['5', 5_000],
    [' 5 ', 5_000],
    ['1000000000', 1e12],
    ['Sun, 06 Nov 1994 08:49:37 GMT', 7_000],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 7_000],
    ['Sun Nov  6 08:49:37 1994', 7_000],
    ['Sun, 06 Nov 1994 08:49:00 GMT', 0],
    ['-1', null],
    ['+5', null],
    ['1.5', null],
    ['5, 10', null],
    ['abc', null],
    ['abc 5', null],
    ['', null],
    ['9'.repeat(400), null],
    ['1994-11-06T08:49:37Z', null],
    ['Sun, 99 Nov 1994 08:49:37 GMT', null],
  ])('%j', (value, expected) => {
    expect(retryAfterMs([value], nowMs)).toBe(expected)
  })

  it('takes the largest valid value of a doubled header', () => {
    expect(retryAfterMs(['5', 'abc', '20', '10'], nowMs)).toBe(20_000)
    expect(retryAfterMs(['-1', 'abc'], nowMs)).toBeNull()
    expect(retryAfterMs([], nowMs)).toBeNull()
  })
})

describe('classifyError', () => {
  it.each([
    [error('ECONNREFUSED'), { kind: 'unreachable', code: 'ECONNREFUSED' }],
    [error('ECONNRESET'), { kind: 'unreachable', code: 'ECONNRESET' }],
    [error('CERT_HAS_EXPIRED'), { kind: 'unreachable', code: 'CERT_HAS_EXPIRED' }],
    [new ReplyError('EPROTO', 'not HTTP'), { kind: 'unreachable', code: 'EPROTO' }],
    [
      new ReplyError('HPE_HEADER_OVERFLOW', 'too much'),
      { kind: 'unreachable', code: 'HPE_HEADER_OVERFLOW' },
    ],
    [
      new UnresolvableError(error('EAI_AGAIN')),
      { kind: 'unreachable', code: 'EAI_AGAIN', at: 'dns' },
    ],
    [new UnresolvableError(null), { kind: 'unreachable', code: 'ENOTFOUND', at: 'dns' }],
    [new BlockedAddressError('10.0.0.1'), { kind: 'blocked', address: '10.0.0.1' }],
    [new Error('no code'), { kind: 'unreachable', code: 'UNKNOWN' }],
    [undefined, { kind: 'unreachable', code: 'UNKNOWN' }],
  ])('%s', (given, outcome) => {
    expect(classifyError(given, true)).toEqual(outcome)
  })

  it('tells a connection that took too long from one that died later', () => {
    expect(classifyError(new ConnectTimeoutError(5000, 'connect'), false)).toEqual({
      kind: 'timed-out',
      phase: 'connect',
    })
    expect(classifyError(error('ETIMEDOUT'), false)).toMatchObject({ kind: 'timed-out' })
    expect(classifyError(error('ETIMEDOUT'), true)).toMatchObject({ kind: 'unreachable' })
  })

  it('has one text for blocked and unresolvable names', () => {
    expect(new BlockedAddressError('10.0.0.1').message).toBe(
      new UnresolvableError(error('ENOTFOUND')).message,
    )
  })
})

function error(code: string): Error {
  return Object.assign(new Error(code), { code })
}
