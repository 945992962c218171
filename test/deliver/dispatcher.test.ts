import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import { packageVersion } from '../../src/model/version.ts'
import { SecurityManager } from '../../src/security/security-manager.ts'
import { standardSignature } from '../../src/security/sign.ts'
import { attempt, attemptRequest, endpointRecord, receive, testSecret } from './receivers.ts'

const options = { allowedNetworks: ['127.0.0.0/8'], nowMs: () => 1_767_225_600_000 }
const event = {
  id: 'evt_123',
  type: 'message.sent',
  timestamp: new Date(0),
  data: { status: 'sent' },
}

function build(changes: object = {}, security?: SecurityManager) {
  return new WebhookDispatcher(undefined, security, undefined, { ...options, ...changes })
}

describe('what signs', () => {
  const send = async (changes: Parameters<typeof attemptRequest>[1], record: object = {}) => {
    await using receiver = await receive()
    const dispatcher = build()
    const report = await attempt(
      dispatcher,
      attemptRequest(endpointRecord(receiver.url, record), changes),
    )
    await dispatcher.close()
    return { report, headers: receiver.requests[0]?.headers }
  }
  const signature = (...secrets: string[]) =>
    standardSignature('evt_123', '1767225600', Buffer.from('{"id":"evt_123"}'), secrets)
  const old = 'the-old-secret-of-it'

  it('is every live secret, newest first; the body alone is signed by the oldest', async () => {
    const { headers } = await send(
      {},
      {
        secrets: [
          { secret: testSecret, createdAtMs: 2, expiresAtMs: null },
          { secret: old, createdAtMs: 1, expiresAtMs: options.nowMs() + 1 },
          { secret: 'an-expired-secret-of-it', createdAtMs: 0, expiresAtMs: options.nowMs() },
        ],
      },
    )
    expect(headers?.['webhook-signature']).toBe(signature(testSecret, old))
    expect(headers?.['x-webhook-signature']).toBe(
      new SecurityManager().generateSignature('{"id":"evt_123"}', old),
    )
  })

  it('is the secret of the service where the endpoint has none', async () => {
    const { headers } = await send({ fallbackSecret: old }, { secrets: [] })
    expect(headers?.['webhook-signature']).toBe(signature(old))
  })

  it('is nothing when security is off, and the rest is sent as ever', async () => {
    const { headers } = await send({ enableSecurity: false }, { secrets: [] })
    expect(headers?.['webhook-signature']).toBeUndefined()
    expect(headers?.['x-webhook-signature']).toBeUndefined()
    expect(headers).toMatchObject({ 'webhook-id': 'evt_123', 'webhook-timestamp': '1767225600' })
  })

  it.each([
    ['has no secret', { secrets: [] }, 'SECRET_MISSING'],
    [
      'has a secret that cannot be decoded',
      { secrets: [{ secret: 'whsec_?', createdAtMs: 0, expiresAtMs: null }] },
      'SECRET_INVALID',
    ],
    ['has a header that injects another', { headers: { a: 'b\r\nc: d' } }, 'ENDPOINT_INVALID'],
    ['sets a header of the protocol', { headers: { Host: 'evil' } }, 'ENDPOINT_INVALID'],
  ])('keeps an endpoint from being sent to that %s', async (_, record, code) => {
    const { report, headers } = await send({}, record)
    expect(report.outcome).toEqual({ kind: 'unreachable', code })
    expect(headers).toBeUndefined()
  })
})

describe('attempt', () => {
  it('never follows a redirect, and counts it as the option says', async () => {
    await using target = await receive()
    await using receiver = await receive((response) => {
      response.writeHead(307, { location: target.url }).end()
    })
    const endpoint = endpointRecord(receiver.url)
    for (const [redirects, outcome] of [
      ['success', { kind: 'accepted', status: 307, redirected: true }],
      ['failure', { kind: 'refused', status: 307 }],
    ] as const) {
      const dispatcher = build({ redirects })
      const report = await attempt(dispatcher, attemptRequest(endpoint))
      expect(report.outcome).toEqual(outcome)
      await dispatcher.close()
    }
    expect(target.sockets).toHaveLength(0)
  })

  it('hands on Retry-After, of a doubled one the larger', async () => {
    await using receiver = await receive((response) => {
      response.writeHead(503, ['Retry-After', '5', 'retry-after', '20', 'x', 'y']).end()
    })
    const dispatcher = build()
    const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
    expect(report.outcome).toEqual({ kind: 'throttled', status: 503, retryAfterMs: 20_000 })
    await dispatcher.close()
  })

  it('keeps the first bytes of an answer as they came, in a buffer of their own', async () => {
    const bytes = Buffer.from([0, 255, 10, 0])
    await using receiver = await receive((response) => {
      response.write(bytes)
      setImmediate(() => response.end(Buffer.alloc(5_000, 7)))
    })
    const dispatcher = build()
    const { responseBody } = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
    expect(responseBody).toHaveLength(4096)
    expect([...(responseBody?.subarray(0, 5) ?? [])]).toEqual([...bytes, 7])
    expect(responseBody?.buffer.byteLength).toBe(4096)
    await dispatcher.close()
  })

  it('never decompresses', async () => {
    await using receiver = await receive((response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end('not gzip at all')
    })
    const dispatcher = build()
    const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
    expect(Buffer.from(report.responseBody ?? []).toString()).toBe('not gzip at all')
    expect(receiver.requests[0]?.headers['accept-encoding']).toBe('identity')
    await dispatcher.close()
  })

  it('reports after it has returned, also when it fails at once', async () => {
    const dispatcher = build()
    const order: string[] = []
    const endpoints = [
      endpointRecord('http://10.0.0.1/'),
      endpointRecord('nonsense'),
      endpointRecord('http://127.0.0.1:1/', { secrets: [] }),
    ]
    await Promise.all(
      endpoints.map(
        (endpoint) =>
          new Promise<void>((resolve) => {
            dispatcher.attempt(attemptRequest(endpoint), ({ outcome }) => {
              order.push(outcome.kind)
              resolve()
            })
            order.push('returned')
          }),
      ),
    )
    expect(order.slice(0, 3)).toEqual(['returned', 'returned', 'returned'])
    expect(order.slice(3).sort()).toEqual(['blocked', 'unreachable', 'unreachable'])
    await dispatcher.close()
  })

  it('survives an event type that no header can hold', async () => {
    await using receiver = await receive()
    const dispatcher = build()
    const request = attemptRequest(endpointRecord(receiver.url), { eventType: 'a\r\nb: c' })
    expect((await attempt(dispatcher, request)).outcome).toMatchObject({ kind: 'unreachable' })
    expect(receiver.requests).toHaveLength(0)
    await dispatcher.close()
  })

  it('lets an error of the one who is told surface, and goes on', async () => {
    await using receiver = await receive()
    const dispatcher = build()
    const endpoint = endpointRecord(receiver.url)
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const surfaced = new Promise((resolve) => process.once('uncaughtException', resolve))
    dispatcher.attempt(attemptRequest(endpoint), () => {
      throw new Error('mine')
    })
    expect(await surfaced).toMatchObject({ message: 'mine' })
    for (const listener of listeners) process.on('uncaughtException', listener)
    expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome.kind).toBe('accepted')
    expect(receiver.sockets).toHaveLength(1)
    await dispatcher.close()
  })
})

describe('dispatch', () => {
  it('makes one attempt for an endpoint as given', async () => {
    await using receiver = await receive((response) => response.writeHead(500).end('sorry'))
    const dispatcher = build()
    const endpoint = { id: 'shop', url: receiver.url, events: ['*'], secret: testSecret }
    expect(await dispatcher.dispatch(event, endpoint)).toEqual({
      success: false,
      httpStatus: 500,
      outcome: 'faulted',
      responseTime: expect.any(Number) as number,
      error: 'HTTP 500',
      responseBody: 'sorry',
    })
    expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '')).toEqual({
      ...event,
      timestamp: '1970-01-01T00:00:00.000Z',
      metadata: {},
      version: '1.0',
    })
    await dispatcher.close()
  })

  it('looks an id up in the registry', async () => {
    await using receiver = await receive()
    const record = endpointRecord(receiver.url)
    const registry = {
      get: () => undefined,
      find: (id: string) => (id === record.id ? record : undefined),
    }
    const dispatcher = new WebhookDispatcher(registry, undefined, undefined, options)
    const result = await dispatcher.dispatch(event, 'endpoint-1')
    expect(result).toMatchObject({ success: true, httpStatus: 200, error: null })
    await expect(dispatcher.dispatch(event, 'nobody')).rejects.toMatchObject({
      code: 'ENDPOINT_NOT_FOUND',
    })
    await dispatcher.close()
  })

  it.each([
    ['an id with a dot', { ...event, id: 'a.b' }, {}, 'EVENT_ID_INVALID'],
    ['no type', { ...event, type: '' }, {}, 'EVENT_TYPE_INVALID'],
    ['no date', { ...event, timestamp: new Date(Number.NaN) }, {}, 'EVENT_TIMESTAMP_INVALID'],
    ['data of no JSON', { ...event, data: 5n }, {}, 'EVENT_DATA_INVALID'],
    ['no secret', event, { secret: undefined }, 'SECRET_MISSING'],
    ['a short secret', event, { secret: 'short' }, 'SECRET_INVALID'],
    ['a private address', event, { url: 'http://10.0.0.1/' }, 'ADDRESS_BLOCKED'],
    ['a bad URL', event, { url: 'ftp://example.com/' }, 'ENDPOINT_URL_INVALID'],
    ['a reserved header', event, { headers: { Host: 'x' } }, 'ENDPOINT_INVALID'],
  ])('refuses %s', async (_, given, changes, code) => {
    const dispatcher = build()
    const endpoint = {
      id: 'shop',
      url: 'http://127.0.0.1:1/',
      events: ['*'],
      secret: testSecret,
      ...changes,
    }
    await expect(dispatcher.dispatch(given, endpoint)).rejects.toMatchObject({ code })
    await dispatcher.close()
  })
})

describe('options', () => {
  it('refuse a network that is none', () => {
    expect(() => build({ allowedNetworks: ['localhost'] })).toThrow(/CIDR/)
  })

  it('are filled in by configure, without touching those given', async () => {
    await using receiver = await receive()
    const endpoint = endpointRecord(receiver.url)
    const open = new WebhookDispatcher()
    open.configure({ allowedNetworks: options.allowedNetworks, userAgent: 'ours/1' })
    expect((await attempt(open, attemptRequest(endpoint))).outcome.kind).toBe('accepted')
    expect(receiver.requests[0]?.headers['user-agent']).toBe('ours/1')
    const shut = new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks: [] })
    shut.configure({ allowedNetworks: options.allowedNetworks })
    expect((await attempt(shut, attemptRequest(endpoint))).outcome.kind).toBe('blocked')
    await open.close()
    await shut.close()
  })

  it('take another signature header and a custom user agent', async () => {
    await using receiver = await receive()
    const dispatcher = build({}, new SecurityManager({ header: 'X-Signed', algorithm: 'sha512' }))
    const endpoint = endpointRecord(receiver.url, { headers: { 'User-Agent': 'theirs/1' } })
    await attempt(dispatcher, attemptRequest(endpoint))
    expect(receiver.requests[0]?.headers['x-signed']).toMatch(/^sha512=[0-9a-f]{128}$/)
    expect(receiver.requests[0]?.headers['user-agent']).toBe('theirs/1')
    await dispatcher.close()
  })
})

it('the version sent is that of the package', () => {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  expect((JSON.parse(text) as { version: string }).version).toBe(packageVersion)
})

it.each(['', 'a\r\nx: y', '웹훅', 'x'.repeat(257), 7])('refuses the user agent %j', (userAgent) => {
  expect(() => build({ userAgent })).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
  const dispatcher = build()
  expect(() => dispatcher.configure({ userAgent } as never)).toThrow(/userAgent/)
})
