import { afterEach, describe, expect, expectTypeOf, it, vi } from 'vitest'
import {
  eventBody,
  hmac,
  nowMs,
  nowSeconds,
  publicKey,
  type Signed,
  secret,
  signed,
  signedAsymmetrically,
  signedPlainly,
} from '../../test/receiver/signed.ts'
import type { WebhookEventBody } from '../model/event.ts'
import { WebhookVerificationError } from './verification-error.ts'
import { verify } from './verify.ts'

const options = { secret, nowMs: () => nowMs }

describe('published vectors', () => {
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
      'whsec_plJ3nmyCDGBKInavdOK15jsl', // 18 bytes
      'msg_loFOjxBNrRLzqYUf',
      '1731705121',
      '{"event_type":"ping","data":{"success":true}}',
      'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
    ],
  ])('v1 with %s', async (key, id, timestamp, body, signature) => {
    const headers = {
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': signature,
    }
    const at = { nowMs: () => Number(timestamp) * 1_000 }
    expect(await verify({ headers, body }, { secret: key, ...at })).toEqual(JSON.parse(body))
  })

  const v1a = {
    headers: {
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature':
        'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
    },
    body: '{"test": 2432232314}',
  }
  const atV1a = { nowMs: () => 1_614_265_330_000 }

  it('v1a', async () => {
    expect(await verify(v1a, { publicKey, ...atV1a })).toEqual({ test: 2432232314 })
    const changed = { ...v1a, body: '{"test": 2432232315}' }
    expect(await codeOf(changed, { publicKey, ...atV1a })).toBe('SIGNATURE_INVALID')
  })

  it('of the seed and of 0.30', async () => {
    const body = '{"id":"evt_123","type":"message.sent"}'
    const request = (signature: string) => ({
      headers: { 'x-webhook-timestamp': nowSeconds, 'x-webhook-signature': `sha256=${signature}` },
      body,
    })
    const seed = request('fcdf3bc54834283e48f38cbe2b9d9038ece4a9be4462049730a645a5babea1dd')
    const upstream = request('84ce1b59b9c430126b8c48305c6141439216c4a1200c79e3f7d002fc9bbb0835')
    const key = { ...options, secret: 'your-endpoint-secret' }
    expect(await verify(seed, { ...key, schemes: ['body'] })).toEqual(JSON.parse(body))
    expect(await verify(upstream, { ...key, schemes: ['timestamped-body'] })).toEqual(
      JSON.parse(body),
    )
    expect(await codeOf(seed, { ...key, schemes: ['timestamped-body'] })).toBe('SIGNATURE_INVALID')
    expect(await codeOf(upstream, { ...key, schemes: ['body'] })).toBe('SIGNATURE_INVALID')
    expect(await codeOf(seed, key)).toBe('HEADER_MISSING')
  })
})

describe('what is taken', () => {
  it('is a fetch Request, text, bytes or a buffer, with any kind of headers', async () => {
    const { headers, body } = signed()
    const bytes = new TextEncoder().encode(body)
    const wanted = JSON.parse(body)
    const post = { method: 'POST', headers, body }
    expect(await verify(new Request('https://a.example/hook', post), options)).toEqual(wanted)
    expect(await verify({ headers, body }, options)).toEqual(wanted)
    expect(await verify({ headers: new Headers(headers), body: bytes }, options)).toEqual(wanted)
    expect(await verify({ headers, body: bytes.buffer as ArrayBuffer }, options)).toEqual(wanted)
    expect(await verify({ headers, body: Buffer.from(body) }, options)).toEqual(wanted)
    const upper = Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]])
    expect(await verify({ headers: Object.fromEntries(upper), body }, options)).toEqual(wanted)
  })

  it('prefers the raw bytes that a framework keeps beside the parsed body', async () => {
    const { headers, body } = signed()
    const request = { headers, body: JSON.parse(body), rawBody: Buffer.from(body) }
    expect(await verify(request, options)).toEqual(JSON.parse(body))
  })

  it('is typed as an event, or as the caller says', async () => {
    expectTypeOf(verify(signed(), options)).resolves.toEqualTypeOf<WebhookEventBody>()
    expectTypeOf(verify(signed(), { ...options, batch: true })).resolves.toEqualTypeOf<
      WebhookEventBody[]
    >()
    const event = verify<{ data: { price: number } }>(signed(), options)
    expectTypeOf(event).resolves.toEqualTypeOf<{ data: { price: number } }>()
    expect((await event).data.price).toBe(1.5)
  })

  it('is a batch only where batches are expected', async () => {
    const batch = signed({ id: 'bat_1', body: `[${eventBody},${eventBody}]` })
    expect(await verify(batch, { ...options, batch: true })).toHaveLength(2)
    expect(await verify(signed(), { ...options, batch: true })).toHaveLength(1)
    await expect(verify(batch, options)).rejects.toMatchObject({
      code: 'BATCH_UNEXPECTED',
      message: expect.stringMatching(/batch of 2.*batch: true/),
    })
  })

  it('is signed by any of the live secrets, and any of the signatures', async () => {
    const other = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
    const request = signed({ key: other })
    expect(await verify(request, { ...options, secrets: ['', undefined, other] })).toEqual(
      JSON.parse(eventBody),
    )
    request.headers['webhook-signature'] =
      `v2,x v1,short v1x ${signed().headers['webhook-signature']}`
    expect(await verify(request, options)).toEqual(JSON.parse(eventBody))
  })

  it('is v1 and v1a side by side, by whichever key is here', async () => {
    const request = signed()
    const v1a = signedAsymmetrically().headers['webhook-signature']
    request.headers['webhook-signature'] += ` ${v1a}`
    expect(await verify(request, options)).toEqual(JSON.parse(eventBody))
    expect(await verify(request, { ...options, secret: undefined, publicKey })).toEqual(
      JSON.parse(eventBody),
    )
  })

  it('may be of an older sender when its scheme is listed', async () => {
    const schemes = ['standard', 'body', 'timestamped-body'] as const
    for (const request of [signed(), signedPlainly('body'), signedPlainly('timestamped-body')]) {
      expect(await verify(request, { ...options, schemes })).toEqual(JSON.parse(eventBody))
    }
  })

  it('may be of an older sender that takes `whsec_` for a part of the secret', async () => {
    const request = signedPlainly('timestamped-body')
    const asText = Buffer.from(secret).toString('base64')
    const value = hmac(`whsec_${asText}`, `${nowSeconds}.${eventBody}`, 'hex')
    request.headers['x-webhook-signature'] = `sha256=${value}`
    expect(await verify(request, { ...options, schemes: ['timestamped-body'] })).toEqual(
      JSON.parse(eventBody),
    )
  })

  it('may carry the seed scheme under another header, prefix and algorithm', async () => {
    const { createHmac } = await import('node:crypto')
    const value = createHmac('sha512', 'a-secret-of-sixteen').update(eventBody).digest('hex')
    const headers = { 'x-webhook-timestamp': nowSeconds, 'x-shop-signature': `v0=${value}` }
    const signature = { header: 'X-Shop-Signature', prefix: 'v0=', algorithm: 'sha512' } as const
    const key = { secret: 'a-secret-of-sixteen', schemes: ['body'] as const, signature }
    expect(await verify({ headers, body: eventBody }, { ...options, ...key })).toEqual(
      JSON.parse(eventBody),
    )
  })
})

describe('a body that was parsed', () => {
  const { headers } = signed()
  const body = JSON.parse(eventBody)

  it.each([
    ['Express', { headers, body, app: {}, res: {} }, /express\.raw/],
    ['Fastify', { headers, body, server: {}, raw: {} }, /fastifyPlugin/],
    ['Next.js', { headers, body, query: {}, cookies: {} }, /bodyParser: false/],
    ['Hono', { raw: {}, header: () => '', arrayBuffer: () => {} }, /c\.req\.raw/],
    ['none that is known', { headers, body }, /adapter.*text or bytes/],
  ])('is answered with the fix for %s', async (_, request, fix) => {
    await expect(verify(request as never, options)).rejects.toMatchObject({
      code: 'BODY_ALREADY_PARSED',
      message: expect.stringMatching(fix),
    })
  })

  it('is one that was read, too', async () => {
    const request = new Request('https://a.example/hook', { method: 'POST', ...signed() })
    await request.json()
    await expect(verify(request, options)).rejects.toMatchObject({
      code: 'BODY_ALREADY_PARSED',
      message: expect.stringMatching(/was read.*text or bytes/),
    })
  })

  it('is told from one that is missing', async () => {
    const request = { headers, body: undefined, app: {}, res: {} } as never
    await expect(verify(request, options)).rejects.toMatchObject({
      code: 'BODY_MISSING',
      message: expect.stringContaining('express.raw'),
    })
  })
})

describe('how much is read', () => {
  const stream = (chunk: Uint8Array) => {
    const counts = { pulled: 0, cancelled: 0 }
    const body = new ReadableStream({
      pull(controller) {
        counts.pulled += 1
        // Ends some time, so that a test of this fails and does not hang.
        if (counts.pulled > 5_000) controller.close()
        else controller.enqueue(chunk)
      },
      cancel() {
        counts.cancelled += 1
        throw new Error('cannot be cancelled')
      },
    })
    return { counts, body }
  }
  const request = (headers: Record<string, string>, body: ReadableStream) =>
    new Request('https://a.example', { method: 'POST', headers, body, duplex: 'half' } as never)

  it.each([
    ['HEADER_MISSING', {}],
    ['HEADER_INVALID', signed({ id: 'a.b' }).headers],
    ['TIMESTAMP_TOO_OLD', signed({ timestamp: String(nowMs / 1_000 - 301) }).headers],
    ['SIGNATURE_INVALID', { ...signed().headers, 'webhook-signature': 'v2,AAAA' }],
    ['HEADER_INVALID', { ...signedPlainly('body').headers, 'x-webhook-signature': 'sha256=x' }],
  ])('is nothing when the headers alone say %s', async (code, headers) => {
    const schemes = ['standard', 'body', 'timestamped-body'] as const
    const { counts, body } = stream(new Uint8Array(1_000))
    const unread = request(headers, body)
    expect(await codeOf(unread, { ...options, schemes })).toBe(code)
    expect(unread.bodyUsed).toBe(false)
    // The stream's own reserve.
    expect(counts.pulled).toBeLessThanOrEqual(1)
  })

  it('is 1 MiB, or what was set', async () => {
    const { headers } = signed()
    const first = stream(new Uint8Array(65_536))
    await expect(verify(request(headers, first.body), options)).rejects.toMatchObject({
      code: 'BODY_TOO_LARGE',
      message: expect.stringContaining('1048576'),
    })
    expect(first.counts).toEqual({ pulled: expect.any(Number), cancelled: 1 })
    expect(first.counts.pulled).toBeLessThan(20)

    const maxBodyBytes = Buffer.byteLength(eventBody)
    const init = { method: 'POST', ...signed() }
    for (const make of [signed, () => new Request('https://a.example', init)]) {
      expect(await verify(make(), { ...options, maxBodyBytes })).toEqual(JSON.parse(eventBody))
      const less = { ...options, maxBodyBytes: maxBodyBytes - 1 }
      expect(await codeOf(make() as Signed, less)).toBe('BODY_TOO_LARGE')
    }
  })

  it('is some empty chunks, and not as many as there are', async () => {
    const { counts, body } = stream(new Uint8Array(0))
    expect(await codeOf(request(signed().headers, body))).toBe('BODY_TOO_LARGE')
    expect(counts.pulled).toBeLessThan(1_100)

    const pieces = [...Buffer.from(eventBody)].flatMap((byte) => [[], [byte], []])
    const slow = new ReadableStream({
      pull(controller) {
        const piece = pieces.shift()
        if (piece) controller.enqueue(Uint8Array.from(piece))
        else controller.close()
      },
    })
    expect(await verify(request(signed().headers, slow), options)).toEqual(JSON.parse(eventBody))
  })

  it('is once for all schemes', async () => {
    const schemes = ['standard', 'timestamped-body', 'body'] as const
    const { headers, body } = signedPlainly('body')
    const both = { ...signed({ key: 'another secret' }).headers, ...headers }
    const sent = new Request('https://a.example', { method: 'POST', headers: both, body })
    expect(await verify(sent, { ...options, schemes })).toEqual(JSON.parse(body))
  })
})

describe('timestamps', () => {
  it.each([
    [300, null],
    [-300, null],
    [301, 'TIMESTAMP_TOO_OLD'],
    [-301, 'TIMESTAMP_TOO_NEW'],
  ])('%i s old: %s', async (skewSeconds, code) => {
    const timestamp = String(nowMs / 1_000 - skewSeconds)
    const request = signed({ timestamp })
    if (code === null) {
      expect(await verify(request, options)).toEqual(JSON.parse(eventBody))
      return
    }
    await expect(verify(request, options)).rejects.toMatchObject({
      code,
      skewSeconds,
      message: expect.stringContaining(`${Math.abs(skewSeconds)} s `),
    })
  })

  it.each([
    '',
    ' ',
    '1e9',
    '1e3',
    '0x6955b900',
    `${nowSeconds}abc`,
    `${nowSeconds} `,
    ` ${nowSeconds}`,
    `+${nowSeconds}`,
    `-${nowSeconds}`,
    `0${nowSeconds}`,
    `${nowSeconds}.0`,
    String(nowMs),
    `${nowSeconds}, ${nowSeconds}`,
    '１７６７２２５６００',
    'NaN',
    'Infinity',
  ])('%j is refused although it is signed', async (timestamp) => {
    const code = await codeOf(signed({ timestamp }))
    expect(code).toBe(timestamp === '' ? 'HEADER_MISSING' : 'TIMESTAMP_INVALID')
    for (const scheme of ['body', 'timestamped-body'] as const) {
      const plain = signedPlainly(scheme, { timestamp })
      expect(await codeOf(plain, { ...options, schemes: [scheme] })).toBe(code)
    }
  })

  it('follow the tolerance that was set', async () => {
    const request = signed({ timestamp: String(nowMs / 1_000 - 10) })
    expect(await codeOf(request, { ...options, toleranceSeconds: 9 })).toBe('TIMESTAMP_TOO_OLD')
    expect(await verify(request, { ...options, toleranceSeconds: 10 })).toEqual(
      JSON.parse(eventBody),
    )
  })
})

describe('what is refused', () => {
  it('is a header that is missing, with what to look for', async () => {
    for (const name of ['webhook-id', 'webhook-timestamp', 'webhook-signature']) {
      const request = signed()
      delete request.headers[name]
      await expect(verify(request, options)).rejects.toMatchObject({
        code: 'HEADER_MISSING',
        message: expect.stringContaining(name),
      })
    }
    await expect(verify(signedPlainly('body'), options)).rejects.toMatchObject({
      code: 'HEADER_MISSING',
      message: expect.stringContaining('`schemes`'),
    })
  })

  it.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])(
    'is the header %s given twice, in every shape',
    async (name) => {
      const { headers, body } = signed()
      const value = headers[name] as string
      const shapes = [
        { ...headers, [name]: [value, value] },
        { ...headers, [name.toUpperCase()]: value },
        new Headers([...Object.entries(headers), [name, value]]),
        { ...headers, [name]: `${value}, ${value}` },
        { ...headers, [name]: `${value},${value}` },
      ]
      for (const shape of shapes) {
        const code = await codeOf({ headers: shape, body })
        expect(['HEADER_INVALID', 'TIMESTAMP_INVALID', 'SIGNATURE_INVALID']).toContain(code)
      }
    },
  )

  it('is an id that could reach into the timestamp', async () => {
    expect(await codeOf(signed({ id: 'evt.1' }))).toBe('HEADER_INVALID')
    expect(await codeOf(signed({ id: 'evt 1' }))).toBe('HEADER_INVALID')
    expect(await codeOf(signed({ id: 'e'.repeat(257) }))).toBe('HEADER_INVALID')
  })

  it('is more signatures than anybody sends', async () => {
    const request = signed()
    const right = request.headers['webhook-signature']
    request.headers['webhook-signature'] = `${'v1,AAAA '.repeat(15)}${right}`
    expect(await verify(request, options)).toEqual(JSON.parse(eventBody))
    request.headers['webhook-signature'] = `${'v1,AAAA '.repeat(16)}${right}`
    expect(await codeOf(request)).toBe('HEADER_INVALID')
  })

  it('is a signed body that is no JSON, without showing it', async () => {
    for (const body of ['', 'hello', '{"id":', '\ufeff']) {
      const error = await verify(signed({ body }), options).catch((one) => one)
      expect(error).toBeInstanceOf(WebhookVerificationError)
      expect(error.code).toBe('BODY_INVALID')
      expect(error.cause).toBeUndefined()
    }
  })

  it('is a body that is no UTF-8', async () => {
    const body = Buffer.from('{"a":"\xff"}', 'latin1')
    const request = signed({ body: '' })
    const { createHmac } = await import('node:crypto')
    const mac = createHmac('sha256', Buffer.from(secret.slice(6), 'base64'))
      .update(`evt_1.${nowSeconds}.`)
      .update(body)
      .digest('base64')
    const headers = { ...request.headers, 'webhook-signature': `v1,${mac}` }
    expect(await codeOf({ headers, body })).toBe('BODY_INVALID')
  })
})

describe('keys', () => {
  it.each([
    ['none', {}, 'SECRET_MISSING'],
    ['an environment variable that is empty', { secret: '' }, 'SECRET_MISSING'],
    ['a list of nothing', { secrets: ['', undefined] }, 'SECRET_MISSING'],
    ['no text', { secret: 17 }, 'SECRET_INVALID'],
    ['null', { secret: null }, 'SECRET_INVALID'],
    ['an empty whsec_', { secret: 'whsec_' }, 'SECRET_INVALID'],
    ['a whsec_ that is no base64', { secret: 'whsec_a-b' }, 'SECRET_INVALID'],
    ['a whsec_ that was cut', { secret: 'whsec_MfKQ9' }, 'SECRET_INVALID'],
    ['one bad among good', { secrets: [secret, 'whsec_?'] }, 'SECRET_INVALID'],
    ['a public key as a secret', { secret: publicKey }, 'SECRET_INVALID'],
    ['a private key as a secret', { secret: 'whsk_AAAA' }, 'SECRET_INVALID'],
    ['a secret as a public key', { publicKey: secret }, 'SECRET_INVALID'],
    ['a public key that was cut', { publicKey: publicKey.slice(0, -5) }, 'SECRET_INVALID'],
  ])('%s', async (_, keys, code) => {
    const error = await verify(signed(), { nowMs: () => nowMs, ...(keys as object) }).catch(
      (one) => one,
    )
    expect(error.code).toBe(code)
    for (const key of [secret, publicKey, 'whsec_MfKQ9', 'whsk_AAAA']) {
      expect(error.message).not.toContain(key)
    }
  })

  it('never let a public key sign: whoever knows it could make its HMAC', async () => {
    const request = signed()
    const mac = hmac(publicKey, `evt_1.${nowSeconds}.${eventBody}`, 'base64')
    request.headers['webhook-signature'] = `v1,${mac}`
    const keys = { publicKey, nowMs: () => nowMs }
    expect(await codeOf(request, keys)).toBe('SIGNATURE_INVALID')
    expect(await codeOf(request, { ...keys, secret: publicKey })).toBe('SECRET_INVALID')
  })

  it('of the other kind are asked for', async () => {
    const v1a = verify(signedAsymmetrically(), options)
    await expect(v1a).rejects.toThrow(/`publicKey` \(v1a\)/)
    const v1 = verify(signed(), { publicKey, nowMs: () => nowMs })
    await expect(v1).rejects.toThrow(/`secret` \(v1\)/)
  })

  it('need a runtime that knows them', async () => {
    const unsupported = new DOMException('Unrecognized name.', 'NotSupportedError')
    vi.spyOn(crypto.subtle, 'importKey').mockRejectedValueOnce(unsupported)
    const fresh = `whpk_${Buffer.alloc(32, 7).toString('base64')}`
    const keys = { publicKey: fresh, nowMs: () => nowMs }
    expect(await codeOf(signedAsymmetrically(), keys)).toBe('ALGORITHM_UNSUPPORTED')
    expect(await codeOf(signedAsymmetrically(), keys)).toBe('SIGNATURE_INVALID')
  })
})

describe('options', () => {
  it.each([
    [{ toleranceSeconds: -1 }, 'OPTION_INVALID'],
    [{ toleranceSeconds: Number.NaN }, 'OPTION_INVALID'],
    [{ maxBodyBytes: 0 }, 'OPTION_INVALID'],
    [{ schemes: [] }, 'OPTION_INVALID'],
    [{ schemes: ['v1'] }, 'OPTION_INVALID'],
    [{ signature: { algorithm: 'sha1' } }, 'ALGORITHM_UNSUPPORTED'],
  ])('%j are refused', async (wrong, code) => {
    expect(await codeOf(signed(), { ...options, ...wrong } as never)).toBe(code)
  })
})

describe('constant time', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  // What differs between a near miss and a far one is work nobody sees: the same calls with as many
  // bytes, and no MAC of ours in JavaScript that something could be compared with.
  it('asks WebCrypto for every MAC of the right length, however wrong, and compares none itself', async () => {
    await verify(signed(), options)
    const check = vi.spyOn(crypto.subtle, 'verify')
    const make = vi.spyOn(crypto.subtle, 'sign')
    const right = Buffer.from(signed().headers['webhook-signature']?.slice(3) ?? '', 'base64')
    for (const at of [0, 15, 31]) {
      const wrong = Buffer.from(right)
      wrong[at] = (wrong[at] ?? 0) ^ 1
      const request = signed()
      request.headers['webhook-signature'] = `v1,${wrong.toString('base64')}`
      expect(await codeOf(request)).toBe('SIGNATURE_INVALID')
    }
    const work = check.mock.calls.map(([name, , mac, data]) => [name, sizeOf(mac), sizeOf(data)])
    expect(work).toEqual([work[0], work[0], work[0]])
    expect(work[0]?.[1]).toBe(32)
    expect(make).not.toHaveBeenCalled()
  })

  it('spends nothing on what cannot be a signature', async () => {
    const check = vi.spyOn(crypto.subtle, 'verify')
    for (const value of ['v1,AAAA', 'v1', 'v2,AAAA', `v1a,${'A'.repeat(86)}==`]) {
      const request = signed()
      request.headers['webhook-signature'] = value
      expect(await codeOf(request)).toBe('SIGNATURE_INVALID')
    }
    expect(check).not.toHaveBeenCalled()
  })
})

function sizeOf(bytes: unknown): number {
  return (bytes as Uint8Array).byteLength
}

async function codeOf(
  request: Signed | { headers: unknown; body: unknown },
  given: Parameters<typeof verify>[1] = options,
): Promise<string> {
  const result: unknown = await verify(request as Signed, given as typeof options).catch(
    (error: unknown) => error,
  )
  return result instanceof WebhookVerificationError ? result.code : `accepted ${String(result)}`
}
