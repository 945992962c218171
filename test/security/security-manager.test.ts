import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { SecurityManager, type SecurityOptions } from '../../src/security/security-manager.ts'
import { standardSignature } from '../../src/security/sign.ts'

const security = new SecurityManager()
const secret = 'your-endpoint-secret'
const body = '{"id":"evt_123","type":"message.sent"}'
const signature = 'sha256=fcdf3bc54834283e48f38cbe2b9d9038ece4a9be4462049730a645a5babea1dd'

describe('Standard Webhooks', () => {
  it.each([
    [
      'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
      'msg_p5jXN8AQM9LWM0D4loKWxJek',
      '1614265330',
      '{"test": 2432232314}',
      'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    ],
    [
      'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
      'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk',
      '1649367553',
      '{"email":"test@example.com","username":"test_user"}',
      'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=',
    ],
    [
      'whsec_plJ3nmyCDGBKInavdOK15jsl',
      'msg_loFOjxBNrRLzqYUf',
      '1731705121',
      '{"event_type":"ping","data":{"success":true}}',
      'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
    ],
  ])('published vector of %s', (key, id, timestamp, payload, expected) => {
    expect(standardSignature(id, timestamp, Buffer.from(payload), [key])).toBe(expected)
  })
})

describe('verifySignature', () => {
  it('accepts text and bytes', () => {
    expect(security.generateSignature(body, secret)).toBe(signature)
    expect(security.verifySignature(body, signature, secret)).toBe(true)
    expect(security.verifySignature(new TextEncoder().encode(body), [signature], secret)).toBe(true)
  })

  it.each([
    ['missing', undefined],
    ['empty', ''],
    ['given twice', [signature, signature]],
    ['an empty list', []],
    ['joined', `${signature}, ${signature}`],
    ['without its prefix', signature.slice(7)],
    ['with another prefix', signature.replace('sha256', 'sha512')],
    ['cut', signature.slice(0, -1)],
    ['longer', `${signature}0`],
    ['changed', signature.replace('f', 'e')],
    ['upper case', signature.toUpperCase()],
    ['with a space', ` ${signature}`],
    ['wide characters of the same length', '가'.repeat(signature.length)],
  ])('is false when the signature is %s', (_, given) => {
    expect(security.verifySignature(body, given, secret)).toBe(false)
  })

  it('is false for another body or secret', () => {
    expect(security.verifySignature(`${body} `, signature, secret)).toBe(false)
    expect(security.verifySignature(body, signature, `${secret}x`)).toBe(false)
  })

  it.each([undefined, ''])('throws when the secret is %j, even without a signature', (missing) => {
    expect(() => security.verifySignature(body, undefined, missing)).toThrow(
      expect.objectContaining({ code: 'SECRET_MISSING' }),
    )
  })

  it.each([{ id: 'evt_123' }, undefined, 5])('names the trap when the payload is %j', (parsed) => {
    expect(() => security.verifySignature(parsed as unknown as string, signature, secret)).toThrow(
      /JSON\.stringify\(req\.body\)/,
    )
  })
})

describe('verifyTimestamp', () => {
  const nowMs = 1_767_225_600_500
  const at = (offset: number) => String(1_767_225_600 + offset)

  it.each([
    [0, true],
    [-300, true],
    [300, true],
    [-301, false],
    [301, false],
  ])('%i s away: %s', (offset, expected) => {
    expect(security.verifyTimestamp(at(offset), undefined, nowMs)).toBe(expected)
    expect(security.verifyTimestamp(Number(at(offset)), 300, nowMs)).toBe(expected)
    expect(security.verifyTimestamp([at(offset)], 300, nowMs)).toBe(expected)
  })

  it.each([
    undefined,
    '',
    [],
    [at(0), at(0)],
    `${at(0)}abc`,
    ` ${at(0)}`,
    `+${at(0)}`,
    `${at(0)}.0`,
    `0${at(0)}`,
    `0x${(1_767_225_600).toString(16)}`,
    '1.7672256e9',
    `${at(0)}000`,
    1_767_225_600.5,
    Number.NaN,
  ])('refuses %j', (timestamp) => {
    expect(security.verifyTimestamp(timestamp, 300, nowMs)).toBe(false)
  })

  it('uses the clock of the machine when no time is given', () => {
    expect(security.verifyTimestamp(String(Math.floor(Date.now() / 1000)))).toBe(true)
  })
})

describe('options', () => {
  it('change header, prefix and algorithm', () => {
    const other = new SecurityManager({ algorithm: 'sha512', header: 'X-Hub-Signature-512' })
    const expected = `sha512=${createHmac('sha512', secret).update(body).digest('hex')}`
    expect(other.generateSignature(body, secret)).toBe(expected)
    expect(other.verifySignature(body, expected, secret)).toBe(true)
    const bare = new SecurityManager({ prefix: '' })
    expect(bare.generateSignature(body, secret)).toBe(signature.slice(7))
  })

  it.each(['sha1', 'md5', 'SHA256', 'none'])('refuse the algorithm %s', (algorithm) => {
    expect(() => new SecurityManager({ algorithm: algorithm as 'sha256' })).toThrow(
      expect.objectContaining({ code: 'ALGORITHM_UNSUPPORTED' }),
    )
  })

  it.each([
    { header: 'a b' },
    { header: '' },
    { header: 'Webhook-Signature' },
    { header: 'X-Webhook-Timestamp' },
    { header: 'content-type' },
    { prefix: 'a\r\n' },
    { schemes: [] },
    { schemes: 'standard' },
    { schemes: ['v1'] },
    { schemes: ['body', 'timestamped-body'] },
  ])('refuse %j', (options) => {
    expect(() => new SecurityManager(options as SecurityOptions)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })
})
