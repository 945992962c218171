/** The address guard, where it counts: no connection to what is not allowed. */
import type { LookupAddress } from 'node:dns'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import type { DispatcherOptions } from '../../src/deliver/attempt-request.ts'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import { urlVerdicts } from '../security/url-list.ts'
import { attempt, attemptRequest, endpointRecord, receive, receiveRaw } from './receivers.ts'

const allowedNetworks = ['127.0.0.0/8']

function build(options: DispatcherOptions) {
  return new WebhookDispatcher(undefined, undefined, undefined, options)
}

/** A resolver with its answers in the order of asking; the last one stays. */
function resolver(...answers: (readonly string[] | Error)[]) {
  const asked: string[] = []
  const lookup: DispatcherOptions['lookup'] = (hostname, callback) => {
    const answer = answers[Math.min(asked.length, answers.length - 1)] ?? []
    asked.push(hostname)
    if (answer instanceof Error) queueMicrotask(() => callback(answer, []))
    else queueMicrotask(() => callback(null, answer.map(lookupAddress)))
  }
  return { asked, lookup }
}

function lookupAddress(address: string): LookupAddress {
  return { address, family: address.includes(':') ? 6 : 4 }
}

it('refuses a private literal that got into the store, without a connection', async () => {
  await using receiver = await receive()
  const dispatcher = build({})
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  expect(report.outcome).toEqual({ kind: 'blocked', address: '127.0.0.1' })
  expect(receiver.sockets).toHaveLength(0)
  await dispatcher.close()
})

it('sends nothing to any refused URL, and asks no resolver about it', async () => {
  const { asked, lookup } = resolver(['8.8.8.8'])
  const dispatcher = build({ lookup })
  for (const { verdict, url } of urlVerdicts) {
    if (verdict !== 'refuse') continue
    const report = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
    expect(['blocked', 'unreachable'], url).toContain(report.outcome.kind)
    if (report.outcome.kind === 'unreachable') {
      expect(report.outcome.code, url).toBe('ENDPOINT_URL_INVALID')
    }
  }
  expect(asked).toEqual([])
  await dispatcher.close()
})

it.each([
  ['one private address', ['127.0.0.1']],
  ['a private one behind a public one', ['8.8.8.8', '127.0.0.1']],
  ['a private one before a public one', ['127.0.0.1', '8.8.8.8']],
  ['IPv6 loopback', ['::1']],
  ['a mapped address', ['::ffff:127.0.0.1']],
  ['what is no address', ['localhost']],
])('refuses a name that answers with %s', async (_, addresses) => {
  await using receiver = await receive()
  const { lookup } = resolver(addresses)
  const dispatcher = build({ lookup })
  const url = `http://hooks.example.net:${receiver.port}/`
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
  expect(report.outcome.kind).toBe('blocked')
  expect(receiver.sockets).toHaveLength(0)
  await dispatcher.close()
})

it.each([
  ...['localhost', 'backend', 'host.docker.internal', 'kubernetes.default.svc'],
  ...['metadata.google.internal', 'webhook.localhost', 'backend.example.net'],
])('peers 17: no name is exempt: %s', async (name) => {
  await using receiver = await receive()
  const { lookup } = resolver(['127.0.0.1'])
  const dispatcher = build({ lookup })
  const endpoint = endpointRecord(`http://${name}:${receiver.port}/`)
  const { outcome } = await attempt(dispatcher, attemptRequest(endpoint))
  expect(outcome.kind).toBe('blocked')
  expect(receiver.sockets).toHaveLength(0)
  await dispatcher.close()
})

it('connects to the checked address and keeps the name in Host', async () => {
  await using receiver = await receive()
  const { asked, lookup } = resolver(['127.0.0.1'])
  const dispatcher = build({ allowedNetworks, lookup })
  const url = `http://hooks.example.net:${receiver.port}/`
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
  expect(report.outcome.kind).toBe('accepted')
  expect(receiver.requests[0]?.headers.host).toBe(`hooks.example.net:${receiver.port}`)
  expect(asked).toEqual(['hooks.example.net'])
  await dispatcher.close()
})

it('asks a TLS receiver for the name, not for the address', async () => {
  let hello = ''
  const server = createServer((socket) => {
    socket.once('data', (chunk) => {
      hello = chunk.toString('latin1')
      socket.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const dispatcher = build({ allowedNetworks, lookup: resolver(['127.0.0.1']).lookup })
  const url = `https://hooks.example.net:${port}/`
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
  expect(report.outcome).toEqual({ kind: 'unreachable', code: 'ECONNRESET' })
  expect(hello).toContain('hooks.example.net')
  await dispatcher.close()
  await new Promise((resolve) => server.close(resolve))
})

it('gives up a TLS handshake at the deadline, and its socket with it', async () => {
  await using silent = await receiveRaw(() => {})
  const dispatcher = build({ allowedNetworks })
  const endpoint = endpointRecord(silent.url.replace('http:', 'https:'))
  const report = await attempt(dispatcher, attemptRequest(endpoint, { timeoutMs: 50 }))
  expect(report.outcome).toEqual({ kind: 'timed-out', phase: 'connect' })
  const [socket] = silent.sockets
  if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve))
  await dispatcher.close()
})

it('tries the next checked address when the first refuses', async () => {
  await using receiver = await receive()
  const { lookup } = resolver(['127.0.0.2', '127.0.0.1'])
  const dispatcher = build({ allowedNetworks, lookup })
  const url = `http://hooks.example.net:${receiver.port}/`
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
  expect(report.outcome.kind).toBe('accepted')
  await dispatcher.close()
})

it('checks every new connection: a name that changes its answer is refused', async () => {
  await using receiver = await receive((response) => {
    response.setHeader('connection', 'close')
    response.end()
  })
  const { asked, lookup } = resolver(['127.0.0.1'], ['127.0.0.1', '169.254.169.254'])
  const dispatcher = build({ allowedNetworks, lookup })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome.kind).toBe('accepted')
  expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome).toEqual({
    kind: 'blocked',
    address: '169.254.169.254',
  })
  expect(asked).toHaveLength(2)
  expect(receiver.sockets).toHaveLength(1)
  await dispatcher.close()
})

it.each([
  ['fails', Object.assign(new Error('getaddrinfo'), { code: 'EAI_AGAIN' }), 'EAI_AGAIN'],
  ['has no answer', [], 'ENOTFOUND'],
])('a lookup that %s makes the endpoint unreachable', async (_, answer, code) => {
  const dispatcher = build({ lookup: resolver(answer).lookup })
  const report = await attempt(
    dispatcher,
    attemptRequest(endpointRecord('http://hooks.example.net/')),
  )
  expect(report.outcome).toEqual({ kind: 'unreachable', code, at: 'dns' })
  await dispatcher.close()
})

it.each([
  [
    'throws',
    () => {
      throw Object.assign(new Error('mine'), { code: 'EMINE' })
    },
    { kind: 'unreachable', code: 'EMINE', at: 'dns' },
  ],
  [
    'calls back twice, at once',
    (_: string, callback: Parameters<NonNullable<DispatcherOptions['lookup']>>[1]) => {
      callback(null, [lookupAddress('127.0.0.1')])
      callback(null, [lookupAddress('10.0.0.1')])
    },
    { kind: 'accepted', status: 200, redirected: false },
  ],
  [
    'gives no list',
    (_: string, callback: (...parameters: never[]) => void) =>
      callback(...([null, undefined] as never[])),
    { kind: 'unreachable', code: 'ENOTFOUND', at: 'dns' },
  ],
])('survives a lookup that %s', async (_, lookup, outcome) => {
  await using receiver = await receive()
  const dispatcher = build({ allowedNetworks, lookup: lookup as DispatcherOptions['lookup'] })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome).toEqual(outcome)
  expect(receiver.sockets.length).toBe(outcome.kind === 'accepted' ? 1 : 0)
  await dispatcher.close()
})

it.each([
  ['resolving takes longer than its own limit', { connectTimeoutMs: 20 }, 5_000],
  ['the deadline comes first', { connectTimeoutMs: 5_000 }, 20],
])('times out while resolving when %s', async (_, options, timeoutMs) => {
  const dispatcher = build({ ...options, lookup: () => {} })
  const endpoint = endpointRecord('http://hooks.example.net/')
  const report = await attempt(dispatcher, attemptRequest(endpoint, { timeoutMs }))
  expect(report.outcome).toEqual({ kind: 'timed-out', phase: 'dns' })
  await dispatcher.close()
})

it.each([
  ['head', { kind: 'timed-out', phase: 'headers' }, '', 600],
  ['body', { kind: 'accepted', status: 200, redirected: false }, 'HTTP/1.1 200 OK\r\n\r\nx', 600],
])('peers 15: one deadline for a slow name and a slow %s', async (_, outcome, head, dnsMs) => {
  const timeoutMs = 1_000
  // Each alone would be in time.
  await using receiver = await receiveRaw((socket) => {
    if (head !== '') socket.write(head)
    const rest = head === '' ? 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n' : 'y'
    const timer = setTimeout(() => socket.end(rest), 600)
    socket.once('close', () => clearTimeout(timer))
  })
  const lookup: DispatcherOptions['lookup'] = (_name, callback) => {
    setTimeout(() => callback(null, [lookupAddress('127.0.0.1')]), dnsMs)
  }
  const dispatcher = build({ allowedNetworks, lookup })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  const report = await attempt(dispatcher, attemptRequest(endpoint, { timeoutMs }))
  expect(report.outcome).toEqual(outcome)
  expect(report.latencyMs).toBeGreaterThanOrEqual(timeoutMs)
  expect(report.latencyMs).toBeLessThan(dnsMs + 600)
  await dispatcher.close()
})

it('reports a closed port', async () => {
  const receiver = await receive()
  await receiver[Symbol.asyncDispose]()
  const dispatcher = build({ allowedNetworks })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  expect(report.outcome).toEqual({ kind: 'unreachable', code: 'ECONNREFUSED' })
  await dispatcher.close()
})

it('peers 17: keeps one connection alive for a hundred requests to one name, vetted once', async () => {
  await using receiver = await receive()
  const { asked, lookup } = resolver(['127.0.0.1'])
  const dispatcher = build({ allowedNetworks, lookup })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  for (let i = 0; i < 100; i += 1) {
    const { outcome } = await attempt(dispatcher, attemptRequest(endpoint))
    expect(outcome.kind).toBe('accepted')
  }
  expect(receiver.requests).toHaveLength(100)
  expect(receiver.sockets).toHaveLength(1)
  expect(asked).toEqual(['hooks.example.net'])
  await dispatcher.close()
})

it('checks a name again after five minutes, also where its connection is never idle', async () => {
  await using receiver = await receive()
  const { asked, lookup } = resolver(['127.0.0.1'], ['10.0.0.1'])
  let nowMs = 0
  const dispatcher = build({ allowedNetworks, lookup, monotonicMs: () => nowMs })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  const kinds: string[] = []
  for (; nowMs <= 302_500; nowMs += 2_500) {
    kinds.push((await attempt(dispatcher, attemptRequest(endpoint))).outcome.kind)
  }
  // The one that finds it too old still gets its answer; the next one needs a new connection.
  expect(kinds).toEqual([...Array(122).fill('accepted')])
  expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome.kind).toBe('blocked')
  expect(asked).toHaveLength(2)
  expect(receiver.sockets).toHaveLength(1)
  await dispatcher.close()
})

it('connections of stricter rules are not those of looser ones', async () => {
  await using receiver = await receive()
  const { lookup } = resolver(['127.0.0.1'])
  const dispatcher = build({ lookup })
  const endpoint = endpointRecord(`http://hooks.example.net:${receiver.port}/`)
  dispatcher.configure({ allowedNetworks })
  expect((await attempt(dispatcher, attemptRequest(endpoint))).outcome.kind).toBe('accepted')
  const [socket] = receiver.sockets
  const closed = new Promise((resolve) => socket?.once('close', resolve))
  dispatcher.configure({ timeoutMs: 1_000 })
  await closed
  await dispatcher.close()
})

it('ignores the proxy variables of the environment', async () => {
  await using proxy = await receive()
  await using receiver = await receive()
  const before = { ...process.env }
  process.env.http_proxy = process.env.HTTP_PROXY = proxy.url
  const dispatcher = build({ allowedNetworks })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  process.env = before
  expect(report.outcome.kind).toBe('accepted')
  expect(proxy.sockets).toHaveLength(0)
  await dispatcher.close()
})

it.each(['http', 'https'])(
  'sends nothing to another address than it asked for: %s',
  async (protocol) => {
    // The system takes `0.0.0.0` for 127.0.0.1.
    let received = 0
    const server = createServer((socket) => {
      socket
        .on('error', () => {})
        .on('data', ({ length }) => {
          received += length
        })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const connected = new Promise<Socket>((resolve) => server.once('connection', resolve))
    const { port } = server.address() as AddressInfo
    const dispatcher = build({
      allowedNetworks: ['0.0.0.0/8'],
      lookup: resolver(['0.0.0.0']).lookup,
    })
    const url = `${protocol}://hooks.example.net:${port}/`
    const { outcome } = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
    expect(outcome).toEqual({ kind: 'blocked', address: '127.0.0.1' })
    const socket = await connected
    if (!socket.destroyed) await new Promise((resolve) => socket.once('close', resolve))
    expect(received).toBe(0)
    await dispatcher.close()
    await new Promise((resolve) => server.close(resolve))
  },
)
