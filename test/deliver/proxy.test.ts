/** The egress proxy: what it is asked, what it is never told, and what its answers come to. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { expect, it } from 'vitest'
import type { DispatcherOptions } from '../../src/deliver/attempt-request.ts'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import { attempt, attemptRequest, endpointRecord, receive } from './receivers.ts'
import { Authority } from './tls/certificates.ts'
import { receiveTls } from './tls/receivers.ts'

const host = 'hooks.example.net'
const publicAddress = '8.8.8.8'

interface Asked {
  target: string
  head: string
}

/** Opens every tunnel to a port of 127.0.0.1, or says what it is told to. */
async function proxyTo(
  port: number,
  answer: (target: string) => string | null = () => null,
  { hangsUp = true } = {},
) {
  const asked: Asked[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    let head = ''
    const read = (chunk: Buffer): void => {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      socket.off('data', read)
      const [, target = ''] = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head) ?? []
      asked.push({ target, head })
      const words = answer(target)
      if (words !== null) return void (hangsUp ? socket.end(words) : socket.write(words))
      const tunnel = connect(port, '127.0.0.1')
      sockets.push(tunnel)
      tunnel.on('error', () => {})
      socket.write('HTTP/1.1 200 Connection established\r\nvia: a test\r\n\r\n')
      socket.pipe(tunnel).pipe(socket)
    }
    socket.on('data', read)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address() as AddressInfo
  return {
    asked,
    sockets,
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function build(options: DispatcherOptions, ...addresses: string[]) {
  const found = (addresses.length > 0 ? addresses : [publicAddress]).map((address) => ({
    address,
    family: address.includes(':') ? 6 : 4,
  }))
  return new WebhookDispatcher(undefined, undefined, undefined, {
    lookup: (_, callback) => queueMicrotask(() => callback(null, found)),
    ...options,
  })
}

async function outcomeOf(dispatcher: WebhookDispatcher, url = `http://${host}/hook`) {
  const { outcome } = await attempt(dispatcher, attemptRequest(endpointRecord(url)))
  await dispatcher.close()
  return outcome
}

it('is asked for the address that was checked; Host keeps the name', async () => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const dispatcher = build({ proxy: proxy.url })
  for (let i = 0; i < 3; i += 1) {
    const { outcome } = await attempt(
      dispatcher,
      attemptRequest(endpointRecord(`http://${host}/hook?a=b`)),
    )
    expect(outcome.kind).toBe('accepted')
  }
  await dispatcher.close()
  expect(proxy.asked).toEqual([
    { target: `${publicAddress}:80`, head: expect.any(String) as string },
  ])
  expect(proxy.asked[0]?.head).toBe(
    `CONNECT ${publicAddress}:80 HTTP/1.1\r\nHost: ${publicAddress}:80\r\n\r\n`,
  )
  expect(receiver.requests.map(({ headers, url }) => [headers.host, url])).toEqual(
    Array(3).fill([host, '/hook?a=b']),
  )
})

it('carries TLS end to end: the certificate is the receiver’s, and so is SNI', async () => {
  const authority = new Authority()
  await using receiver = await receiveTls(authority.certify(host))
  await using proxy = await proxyTo(receiver.port)
  const tls = { ca: authority.cert }
  expect(await outcomeOf(build({ proxy: proxy.url, tls }), `https://${host}:8443/`)).toMatchObject({
    kind: 'accepted',
  })
  expect(proxy.asked[0]?.target).toBe(`${publicAddress}:8443`)
  expect(receiver.requests[0]).toMatchObject({ servername: host })
  // One that is not believed is not believed through a proxy either.
  expect(await outcomeOf(build({ proxy: proxy.url }), `https://${host}/`)).toEqual({
    kind: 'unreachable',
    code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  })
})

it('gets its own credentials, and the receiver does not', async () => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const url = `http://us%40er:pa%3Ass@127.0.0.1:${proxy.port}`
  expect(await outcomeOf(build({ proxy: url }))).toMatchObject({ kind: 'accepted' })
  const expected = Buffer.from('us@er:pa:ss').toString('base64')
  expect(proxy.asked[0]?.head).toContain(`\r\nProxy-Authorization: Basic ${expected}\r\n`)
  expect(JSON.stringify(receiver.requests[0]?.rawHeaders)).not.toContain(expected)
})

it.each([
  ['a literal', `http://10.0.0.1/`, []],
  ['a name', `http://${host}/`, ['10.0.0.1']],
  ['a name with one bad address', `http://${host}/`, [publicAddress, '10.0.0.1']],
])('is not asked for what the guard refuses: %s', async (_, url, addresses) => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const outcome = await outcomeOf(build({ proxy: proxy.url }, ...addresses), url)
  expect(outcome).toEqual({ kind: 'blocked', address: '10.0.0.1' })
  expect(proxy.sockets).toHaveLength(0)
})

it('is passed by for networks that are open: they are inside', async () => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const allowedNetworks = ['127.0.0.0/8']
  const dispatcher = build({ proxy: proxy.url, allowedNetworks }, '127.0.0.1')
  const outcome = await outcomeOf(dispatcher, `http://${host}:${receiver.port}/`)
  expect(outcome).toMatchObject({ kind: 'accepted' })
  expect(proxy.sockets).toHaveLength(0)
})

it('tries the next address when the proxy could not reach one', async () => {
  await using receiver = await receive()
  const dead = '2606:4700:4700::1111'
  await using proxy = await proxyTo(receiver.port, (target) =>
    target.startsWith('[') ? 'HTTP/1.1 502 Bad Gateway\r\n\r\n' : null,
  )
  const dispatcher = build({ proxy: proxy.url }, dead, publicAddress)
  expect(await outcomeOf(dispatcher)).toMatchObject({ kind: 'accepted' })
  expect(proxy.asked.map(({ target }) => target)).toEqual([`[${dead}]:80`, `${publicAddress}:80`])
})

it('by name: nothing is resolved here, literals are judged all the same', async () => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const options = {
    proxy: { url: proxy.url, connectTo: 'name' as const },
    lookup: () => {
      throw new Error('nothing is to be resolved')
    },
  }
  expect(await outcomeOf(build(options))).toMatchObject({ kind: 'accepted' })
  expect(proxy.asked[0]?.target).toBe(`${host}:80`)
  expect(await outcomeOf(build(options), 'http://10.0.0.1/')).toMatchObject({ kind: 'blocked' })
  expect(await outcomeOf(build(options), 'http://[2606:4700::1]:8080/')).toMatchObject({
    kind: 'accepted',
  })
  expect(proxy.asked.map(({ target }) => target)).toEqual([`${host}:80`, '[2606:4700::1]:8080'])
})

it.each([
  ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 'PROXY_407'],
  ['HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno', 'PROXY_403'],
  ['HTTP/1.1 502 Bad Gateway\r\n\r\n', 'PROXY_502'],
  ['HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n', 'PROXY_302'],
  ['HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', 'PROXY_PROTOCOL'],
  ['HTTP/1.1 100 Continue\r\n\r\n', 'PROXY_PROTOCOL'],
  ['SSH-2.0-OpenSSH\r\n\r\n', 'PROXY_PROTOCOL'],
  [`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(20_000)}`, 'PROXY_PROTOCOL'],
  ['', 'PROXY_CLOSED'],
  ['HTTP/1.1 200', 'PROXY_CLOSED'],
])('peers 19: a proxy that says %j is named as the trouble', async (words, code) => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port, () => words)
  expect(await outcomeOf(build({ proxy: proxy.url }))).toEqual({
    kind: 'unreachable',
    code,
    at: 'proxy',
  })
  expect(receiver.sockets).toHaveLength(0)
})

it('peers 19: a proxy that is not there is named as the trouble', async () => {
  expect(await outcomeOf(build({ proxy: 'http://127.0.0.1:1' }))).toEqual({
    kind: 'unreachable',
    code: 'ECONNREFUSED',
    at: 'proxy',
  })
})

it.each([
  // It may be the receiver that it waits for.
  ['is reached and says nothing', 'http', 'connect'],
  ['cannot be spoken to', 'https', 'proxy'],
])('peers 19: a proxy that %s is cut at the connect limit', async (_, protocol, phase) => {
  const sockets: Socket[] = []
  const server = createServer((socket) => sockets.push(socket.on('error', () => {})))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const dispatcher = build({ proxy: `${protocol}://127.0.0.1:${port}`, connectTimeoutMs: 60 })
  expect(await outcomeOf(dispatcher)).toEqual({ kind: 'timed-out', phase })
  const [socket] = sockets
  socket?.resume()
  if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve))
  await new Promise((resolve) => server.close(resolve))
})

it('a TLS handshake that stalls in the tunnel is cut, and the tunnel with it', async () => {
  await using receiver = await receive()
  const silence = { hangsUp: false }
  await using proxy = await proxyTo(receiver.port, () => 'HTTP/1.1 200 OK\r\n\r\n', silence)
  const dispatcher = build({ proxy: proxy.url, connectTimeoutMs: 100 })
  const outcome = await outcomeOf(dispatcher, `https://${host}/`)
  expect(outcome).toEqual({ kind: 'timed-out', phase: 'connect' })
  const [socket] = proxy.sockets
  socket?.resume()
  if (socket?.destroyed === false) await new Promise((resolve) => socket.once('close', resolve))
})

it('may speak TLS itself, and is then checked like any server', async () => {
  const authority = new Authority()
  const server = createTlsServer(authority.certify('proxy.example.net'), () => {})
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  expect(await outcomeOf(build({ proxy: `https://127.0.0.1:${port}` }))).toEqual({
    kind: 'unreachable',
    code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    at: 'proxy',
  })
  await new Promise((resolve) => server.close(resolve))
})

it('speaks TLS with a proxy on curves only: a prime of its choosing would be our work', async () => {
  const certified = new Authority().certify('proxy.example.net', { keyType: 'rsa' })
  const ciphers = 'DHE-RSA-AES128-GCM-SHA256'
  const dhe = { ...certified, maxVersion: 'TLSv1.2' as const, ciphers, dhparam: 'auto' }
  const server = createTlsServer(dhe, () => {})
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  expect(await outcomeOf(build({ proxy: `https://127.0.0.1:${port}` }))).toEqual({
    kind: 'unreachable',
    code: expect.stringMatching(/^ERR_SSL_.*HANDSHAKE_FAILURE$/) as string,
    at: 'proxy',
  })
  await new Promise((resolve) => server.close(resolve))
})

it('is checked by the constructor, whose error holds no password', () => {
  for (const proxy of [
    'http://user:hunter2@',
    'socks5://user:hunter2@10.0.0.1:1080',
    'http://user:hunter2@10.0.0.1/path',
    'http://user:%zzhunter2@10.0.0.1',
    'hunter2',
    { url: 'ftp://user:hunter2@x' },
    { url: 'http://10.0.0.1', connectTo: 'hunter2' },
  ]) {
    const make = () => build({ proxy } as DispatcherOptions)
    expect(make).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
    expect(make).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('hunter2') }),
    )
  }
  expect(() => build({ proxy: { url: 'http://10.0.0.1', ur1: '' } } as DispatcherOptions)).toThrow(
    /did you mean `url`/,
  )
})

it.each<[string, NonNullable<DispatcherOptions['lookup']>, object]>([
  [
    'reports an error and nothing else',
    (_, callback) => (callback as (error: Error) => void)(new Error('none')),
    { kind: 'unreachable', code: 'ENOTFOUND', at: 'proxy' },
  ],
  [
    'throws',
    () => {
      throw new Error('none')
    },
    { kind: 'unreachable', code: 'ENOTFOUND', at: 'proxy' },
  ],
  [
    'answers twice',
    (_, callback) => {
      const found = [{ address: '127.0.0.1', family: 4 }]
      callback(null, found)
      callback(null, found)
    },
    { kind: 'accepted', status: 200, redirected: false },
  ],
])('peers 19: a lookup of the proxy that %s ends in one report', async (_, lookup, outcome) => {
  await using receiver = await receive()
  await using proxy = await proxyTo(receiver.port)
  const url = `http://proxy.example.net:${proxy.port}`
  const dispatcher = build({ proxy: { url, connectTo: 'name' }, lookup })
  expect(await outcomeOf(dispatcher)).toEqual(outcome)
})

it.each(['closes', 'resets'])('a proxy that %s the tunnel ends the request in it', async (how) => {
  const authority = new Authority()
  await using receiver = await receive()
  const silence = { hangsUp: false }
  for (const url of [`http://${host}/`, `https://${host}/`]) {
    await using proxy = await proxyTo(receiver.port, () => 'HTTP/1.1 200 OK\r\n\r\n', silence)
    const dispatcher = build({ proxy: proxy.url, tls: { ca: authority.cert } })
    const reported = attempt(dispatcher, attemptRequest(endpointRecord(url)))
    while (proxy.asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
    const [socket] = proxy.sockets
    // The request, or the greeting of TLS.
    await new Promise((resolve) => socket?.once('data', resolve))
    if (how === 'closes') socket?.end()
    else socket?.resetAndDestroy()
    const { outcome } = await reported
    expect(outcome).toEqual({ kind: 'unreachable', code: 'ECONNRESET' })
    await dispatcher.close()
  }
})
