/** C8 of the fault list, own authorities, and client certificates. */
import { constants } from 'node:crypto'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { expect, it } from 'vitest'
import type { DispatcherOptions } from '../../../src/deliver/attempt-request.ts'
import { WebhookDispatcher } from '../../../src/deliver/dispatcher.ts'
import { openSocket } from '../../../src/deliver/open-socket.ts'
import { TlsIdentities } from '../../../src/deliver/tls-identity.ts'
import type { EndpointTls } from '../../../src/model/endpoint.ts'
import { attempt, attemptRequest, endpointRecord, receiveRaw } from '../receivers.ts'
import { Authority, selfSigned } from './certificates.ts'
import { receiveTls, type TlsReceiver } from './receivers.ts'

const authority = new Authority()
const stranger = new Authority('Another authority')
const host = 'hooks.example.net'
const good = authority.certify(host)
const dayMs = 86_400_000

function build(options: DispatcherOptions = {}) {
  return new WebhookDispatcher(undefined, undefined, undefined, {
    allowedNetworks: ['127.0.0.0/8'],
    lookup: (_, callback) =>
      queueMicrotask(() => callback(null, [{ address: '127.0.0.1', family: 4 }])),
    tls: { ca: authority.cert },
    ...options,
  })
}

const endpointAt = ({ port }: { port: number }, tls: EndpointTls | null = null) =>
  endpointRecord(`https://${host}:${port}/hook`, { tls })

async function outcomeOf(
  receiver: { port: number },
  tls: EndpointTls | null = null,
  options: DispatcherOptions = {},
) {
  const dispatcher = build(options)
  const { outcome } = await attempt(dispatcher, attemptRequest(endpointAt(receiver, tls)))
  await dispatcher.close()
  return outcome
}

const delivered = { kind: 'accepted', status: 200, redirected: false }

it('delivers to a receiver whose certificate an added authority has signed', async () => {
  await using receiver = await receiveTls(good)
  expect(await outcomeOf(receiver)).toEqual(delivered)
  expect(receiver.requests[0]).toMatchObject({ servername: host })
  expect(receiver.requests[0]?.text).toContain(`host: ${host}:${receiver.port}\r\n`)
})

it('goes on believing the usual authorities: an added one is one more', async () => {
  await using receiver = await receiveTls(stranger.certify(host))
  const code = 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
  expect(await outcomeOf(receiver)).toEqual({ kind: 'unreachable', code })
})

const badCertificates: [string, TlsOptions, string][] = [
  [
    'expired',
    authority.certify(host, { notBefore: daysAgo(9), notAfter: daysAgo(1) }),
    'CERT_HAS_EXPIRED',
  ],
  [
    'not yet valid',
    authority.certify(host, { notBefore: daysAgo(-1), notAfter: daysAgo(-9) }),
    'CERT_NOT_YET_VALID',
  ],
  ['self-signed', selfSigned(host), 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ['of another host', authority.certify('other.example.net'), 'ERR_TLS_CERT_ALTNAME_INVALID'],
]

it.each(badCertificates)('refuses a certificate that is %s', async (_, options, code) => {
  await using receiver = await receiveTls(options)
  expect(await outcomeOf(receiver)).toEqual({ kind: 'unreachable', code })
  expect(receiver.requests).toEqual([])
})

it('refuses TLS 1.1', async () => {
  const old = {
    ...good,
    minVersion: 'TLSv1' as const,
    maxVersion: 'TLSv1.1' as const,
    ciphers: 'DEFAULT@SECLEVEL=0',
    secureOptions: constants.SSL_OP_LEGACY_SERVER_CONNECT,
  }
  await using receiver = await receiveTls(old)
  expect(await outcomeOf(receiver)).toMatchObject({
    kind: 'unreachable',
    code: expect.stringMatching(
      /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|ECONNRESET|EPROTO/,
    ) as string,
  })
  expect(receiver.requests).toEqual([])
})

const rsa = authority.certify(host, { keyType: 'rsa' })
const finiteFieldOnly: [string, TlsOptions][] = [
  [
    'TLS 1.2, with a prime of its own choosing',
    { ...rsa, maxVersion: 'TLSv1.2', ciphers: 'DHE-RSA-AES128-GCM-SHA256', dhparam: 'auto' },
  ],
  ['TLS 1.3, with a standard prime', { ...rsa, minVersion: 'TLSv1.3', ecdhCurve: 'ffdhe2048' }],
]

it.each(finiteFieldOnly)('exchanges no keys in a finite field: %s', async (_, options) => {
  await using receiver = await receiveTls(options)
  expect(await outcomeOf(receiver)).toMatchObject({
    kind: 'unreachable',
    code: expect.stringMatching(/^ERR_SSL_.*HANDSHAKE_FAILURE$/) as string,
  })
  expect(receiver.sockets).toEqual([])
  // Nor with a context of the endpoint's own.
  const pinned = { ca: authority.cert }
  expect(await outcomeOf(receiver, pinned, { tls: undefined })).toMatchObject({
    kind: 'unreachable',
  })
  expect(receiver.sockets).toEqual([])
})

it.each([
  ['TLS 1.2, RSA', { ...rsa, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }],
  ['TLS 1.3, X25519', { ...good, minVersion: 'TLSv1.3', ecdhCurve: 'X25519' }],
  ['TLS 1.3, P-384', { ...good, minVersion: 'TLSv1.3', ecdhCurve: 'P-384' }],
] as [string, TlsOptions][])('exchanges keys on curves: %s', async (_, options) => {
  await using receiver = await receiveTls(options)
  expect(await outcomeOf(receiver)).toEqual(delivered)
})

it.each([
  ['garbage', 'no TLS at all, sorry\r\n'],
  ['plain HTTP', 'HTTP/1.1 400 Bad\r\n\r\n'],
])('refuses %s', async (_, answer) => {
  await using receiver = await onFirstBytes(answer)
  const outcome = await outcomeOf(receiver)
  expect(outcome).toMatchObject({
    kind: 'unreachable',
    code: expect.stringMatching(/^(?:ERR_SSL_|EPROTO)/) as string,
  })
})

it('gives a handshake that stalls the connect limit, and destroys its socket', async () => {
  await using receiver = await receiveRaw(() => {})
  const outcome = await outcomeOf(receiver, null, { connectTimeoutMs: 60 })
  expect(outcome).toEqual({ kind: 'timed-out', phase: 'connect' })
  const [socket] = receiver.sockets
  if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve))
})

it.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'a client certificate is demanded, by %s',
  async (version) => {
    await using receiver = await receiveTls({ ...demandsClient(), maxVersion: version })
    expect(await outcomeOf(receiver)).toMatchObject({
      kind: 'unreachable',
      code: expect.stringMatching(/^(?:ERR_SSL_|ECONNRESET|EPROTO)/) as string,
    })
    expect(receiver.requests).toEqual([])
    // Of the wrong authority.
    expect(await outcomeOf(receiver, stranger.certify('client-x'))).toMatchObject({
      kind: 'unreachable',
    })
    expect(await outcomeOf(receiver, authority.certify('client-a'))).toEqual(delivered)
    expect(receiver.requests.map(({ client }) => client)).toEqual(['client-a'])
  },
)

it('an authority of the endpoint is believed instead of all others', async () => {
  await using ours = await receiveTls(good)
  await using theirs = await receiveTls(stranger.certify(host))
  const pinned = { ca: stranger.cert }
  expect(await outcomeOf(theirs, pinned)).toEqual(delivered)
  expect(await outcomeOf(ours, pinned)).toMatchObject({ kind: 'unreachable' })
})

it('endpoints that differ in TLS share neither connections nor sessions', async () => {
  await using receiver = await receiveTls(demandsClient())
  const dispatcher = build()
  const clients = ['client-a', 'client-b'].map((name) => authority.certify(name))
  const endpoints = [...clients, ...clients].map((tls) => endpointAt(receiver, { ...tls }))
  for (const endpoint of endpoints) {
    expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome).toEqual(delivered)
  }
  // Of the same certificate: the same connection. Of another one: its own, not a resumed session.
  expect(receiver.sockets).toHaveLength(2)
  expect(receiver.requests.map(({ client, resumed }) => [client, resumed])).toEqual([
    ['client-a', false],
    ['client-b', false],
    ['client-a', false],
    ['client-b', false],
  ])
  // Nor does an endpoint without one get in on the session of the others.
  const { outcome } = await attempt(dispatcher, attemptRequest(endpointAt(receiver)))
  expect(outcome).toMatchObject({ kind: 'unreachable' })
  await dispatcher.close()
})

it('resumes the session of a receiver that hangs up', async () => {
  await using receiver = await receiveTls({ ...good, maxVersion: 'TLSv1.2' })
  const dispatcher = build()
  const endpoint = endpointAt(receiver)
  for (let i = 0; i < 2; i += 1) {
    expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome).toEqual(delivered)
    await hangUp(receiver)
  }
  expect(receiver.requests.map(({ resumed }) => resumed)).toEqual([false, true])
  await dispatcher.close()
})

it('a receiver that resets in the middle of a handshake is lost, not blocked', async () => {
  await using receiver = await receiveTls({ ...good, minVersion: 'TLSv1.3' })
  const sockets: Socket[] = []
  const between = createServer((socket) => {
    const onward = connect(receiver.port, '127.0.0.1')
    sockets.push(socket, onward)
    socket.on('error', () => {}).pipe(onward.on('error', () => {}))
    // Read together with the last bytes of the handshake: the address is gone when it is over.
    onward.once('data', (flight) => {
      socket.write(flight)
      socket.resetAndDestroy()
    })
  })
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve))
  const { port } = between.address() as AddressInfo
  for (let i = 0; i < 20; i += 1) {
    expect(await outcomeOf({ port })).toEqual({ kind: 'unreachable', code: 'ECONNRESET' })
  }
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => between.close(resolve))
})

it('takes part in a second handshake, and not in one after another', async () => {
  const again = async (limit: number) => {
    let handshakes = 0
    let ended = () => {}
    const lost = new Promise<void>((resolve) => {
      ended = resolve
    })
    const server = createTlsServer({ ...good, maxVersion: 'TLSv1.2' }, (socket) => {
      socket.on('error', () => {}).on('close', ended)
      const renegotiate = () => {
        if (handshakes === limit) {
          socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
          return
        }
        socket.renegotiate({ rejectUnauthorized: false }, (error) => {
          if (error !== null) return
          handshakes += 1
          renegotiate()
        })
      }
      socket.once('data', renegotiate)
    })
    server.on('tlsClientError', () => {})
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const outcome = await outcomeOf(server.address() as AddressInfo)
    await lost
    await new Promise((resolve) => server.close(resolve))
    return { outcome, handshakes }
  }
  expect(await again(1)).toEqual({ outcome: delivered, handshakes: 1 })
  const endless = await again(1_000)
  expect(endless.outcome).toEqual({ kind: 'unreachable', code: 'EPROTO' })
  expect(endless.handshakes).toBeLessThan(5)
})

it('takes some tickets of a receiver, and not one after another', async () => {
  await using receiver = await receiveTls({ ...good, minVersion: 'TLSv1.3' })
  const identity = new TlsIdentities(authority.cert).of(null)
  const target = { hostname: host, port: receiver.port, secure: true, identity, key: '' }
  const addresses = [{ address: '127.0.0.1', family: 4 }]
  const socket = openSocket({ target, addresses, received: () => {} })
  const failed = new Promise((resolve) => socket.once('error', resolve))
  await new Promise((resolve) => socket.once('secureConnect', resolve))
  // As Node tells of each; its own server sends two and cannot be made to send more.
  const tell = (tickets: number) => {
    for (let i = 0; i < tickets; i += 1) socket.emit('session', Buffer.alloc(1))
  }
  tell(20)
  expect(socket.destroyed).toBe(false)
  tell(20)
  expect(await failed).toMatchObject({ code: 'EPROTO' })
})

it('a key that does not fit its row is an outcome, and no secret is in it', async () => {
  await using receiver = await receiveTls(good)
  const tls = { cert: good.cert, key: 'no key at all' }
  expect(await outcomeOf(receiver, tls)).toEqual({ kind: 'unreachable', code: 'ENDPOINT_INVALID' })
})

function daysAgo(days: number): Date {
  return new Date(Date.now() - days * dayMs)
}

function demandsClient(): TlsOptions {
  return { ...good, ca: authority.cert, requestCert: true, rejectUnauthorized: true }
}

async function hangUp(receiver: TlsReceiver): Promise<void> {
  const socket = receiver.sockets.at(-1)
  const closed = new Promise((resolve) => socket?.once('close', resolve))
  socket?.end()
  await closed
}

/** Answers a ClientHello with other words. */
async function onFirstBytes(text: string) {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.once('data', () => socket.write(text))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
