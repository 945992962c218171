/** Receivers that answer late, never, for ever, in no language or elsewhere: D1–D12 of the fault list. */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import { attempt, attemptRequest, endpointRecord, receive, receiveRaw } from './receivers.ts'

const timeoutMs = 300
const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, {
  allowedNetworks: ['127.0.0.0/8'],
})
afterAll(() => dispatcher.close())

const statusLine = 'HTTP/1.1 200 OK\r\n'
const cutAtDeadline = (phase: string) => ({
  outcome: { kind: 'timed-out', phase },
  from: timeoutMs,
})
const statusKept = { outcome: { kind: 'accepted', status: 200, redirected: false } }

/** What the receiver does, and what the attempt must report. */
const cases: [string, (socket: Socket) => void, { outcome: object; from?: number }][] = [
  ['D1 never replies', () => {}, cutAtDeadline('headers')],
  ['D2 slow status line', (socket) => void drip(socket, statusLine), cutAtDeadline('headers')],
  [
    'D3 slow headers',
    (socket) => void drip(socket, statusLine, ...Array<string>(100).fill('a: b\r\n')),
    cutAtDeadline('headers'),
  ],
  [
    'D4 endless headers',
    (socket) => flood(socket, statusLine, `x: ${'y'.repeat(1000)}\r\n`),
    { outcome: { kind: 'unreachable', code: 'HPE_HEADER_OVERFLOW' } },
  ],
  [
    'D4 one endless header',
    (socket) => flood(socket, `${statusLine}x: `, 'y'.repeat(1000)),
    { outcome: { kind: 'unreachable', code: 'HPE_HEADER_OVERFLOW' } },
  ],
  [
    'D5 endless interim replies, slow',
    (socket) => void drip(socket, ...Array<string>(100).fill('HTTP/1.1 102 Processing\r\n\r\n')),
    cutAtDeadline('headers'),
  ],
  [
    'D6 endless interim replies, fast',
    (socket) => flood(socket, '', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1000)),
    { outcome: { kind: 'unreachable', code: 'EPROTO' } },
  ],
  [
    'D6 unasked 100 Continue',
    (socket) => flood(socket, '', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(1000)),
    { outcome: { kind: 'unreachable', code: 'EPROTO' } },
  ],
  [
    'an upgrade nobody asked for',
    (socket) =>
      socket.write('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'),
    { outcome: { kind: 'unreachable', code: 'EPROTO' } },
  ],
  [
    'D7 slow body',
    (socket) => {
      socket.write(`${statusLine}content-length: 1000\r\n\r\n`)
      void drip(socket, 'abcdefghijklmnopqrstuvwxyz')
    },
    { ...statusKept, from: timeoutMs },
  ],
  [
    'D8 endless body',
    (socket) => flood(socket, `${statusLine}\r\n`, 'z'.repeat(10_000)),
    statusKept,
  ],
  [
    'D8 endless chunked body',
    (socket) =>
      flood(
        socket,
        `${statusLine}transfer-encoding: chunked\r\n\r\n`,
        `3e8\r\n${'z'.repeat(1000)}\r\n`,
      ),
    statusKept,
  ],
  [
    'D9 a body of 10 GB',
    (socket) =>
      flood(socket, `${statusLine}content-length: 10000000000\r\n\r\n`, 'z'.repeat(10_000)),
    statusKept,
  ],
  [
    'a body of 10 GB that never begins',
    (socket) => socket.write(`${statusLine}content-length: 10000000000\r\n\r\n`),
    { ...statusKept, from: timeoutMs },
  ],
  [
    'a 500 whose body never ends',
    (socket) => socket.write('HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nhalf'),
    { outcome: { kind: 'faulted', status: 500, retryAfterMs: null }, from: timeoutMs },
  ],
  [
    'a body cut by the receiver after its status',
    (socket) => socket.end(`${statusLine}content-length: 9\r\n\r\nhalf`),
    statusKept,
  ],
  [
    'half a status line',
    (socket) => socket.end('HTTP/1.1 20'),
    { outcome: { kind: 'unreachable', code: 'ECONNRESET' } },
  ],
  [
    'a close without a word',
    (socket) => socket.end(),
    { outcome: { kind: 'unreachable', code: 'ECONNRESET' } },
  ],
  [
    'a reset',
    (socket) => socket.resetAndDestroy(),
    { outcome: { kind: 'unreachable', code: 'ECONNRESET' } },
  ],
  [
    'another language',
    (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'),
    { outcome: { kind: 'unreachable', code: 'EPROTO' } },
  ],
]

describe('hostile receivers', () => {
  it.each(cases)('%s', async (_, answer, { outcome, from = 0 }) => {
    await using receiver = await receiveRaw(answer)
    const report = await attempt(
      dispatcher,
      attemptRequest(endpointRecord(receiver.url), { timeoutMs }),
    )
    expect(report.outcome).toEqual(outcome)
    expect(report.latencyMs).toBeGreaterThanOrEqual(from)
    // Measured by the attempt's own clock; the margin is for a machine that runs other tests too.
    expect(report.latencyMs).toBeLessThan(from + 250 + timeoutMs / 3)
    expect(report.responseBody?.length ?? 0).toBeLessThanOrEqual(4096)
    // Its socket is never used again.
    await closed(receiver.sockets[0])
    expect(receiver.sockets).toHaveLength(1)
  })
})

it('reads little more of an endless body than the cap', async () => {
  let sent = 0
  await using receiver = await receiveRaw((socket) => {
    flood(socket, `${statusLine}\r\n`, 'z'.repeat(10_000), (bytes) => {
      sent += bytes
    })
  })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  expect(report.outcome.kind).toBe('accepted')
  expect(Buffer.from(report.responseBody ?? []).toString()).toBe('z'.repeat(4096))
  await closed(receiver.sockets[0])
  // What the kernel's buffers on both sides took is sent but was never read.
  expect(sent).toBeLessThan(10_000_000)
})

it.each([
  ['waited for', 65_536, 300],
  ['cut', 65_537, 60_000],
])('a body that does not end is %s after %i bytes', async (what, bytes, limitMs) => {
  await using receiver = await receiveRaw((socket) => {
    socket.write(`${statusLine}content-length: 1000000\r\n\r\n${'z'.repeat(bytes)}`)
  })
  const request = { ...attemptRequest(endpointRecord(receiver.url)), timeoutMs: limitMs }
  const report = await attempt(dispatcher, request)
  expect(report.outcome).toEqual(statusKept.outcome)
  expect(report.latencyMs < limitMs ? 'cut' : 'waited for').toBe(what)
})

const zeros = Buffer.alloc(52_000_000)

it.each([
  ['gzip', () => gzipSync(zeros)],
  ['br', () => brotliCompressSync(zeros)],
  ['gzip, gzip', () => gzipSync(gzipSync(zeros))],
  ['deflate, gzip, br', () => gzipSync(zeros)],
])('peers 15: D10 a bomb of 52 MB in %s is bytes like others', async (encoding, make) => {
  const bomb = make()
  await using receiver = await receiveRaw((socket) => {
    const head = `content-encoding: ${encoding}\r\ncontent-length: ${bomb.length}\r\n\r\n`
    socket.write(statusLine + head)
    socket.write(bomb)
  })
  const endpoint = endpointRecord(receiver.url)
  await attempt(dispatcher, attemptRequest(endpoint))
  const before = process.memoryUsage()
  const report = await attempt(dispatcher, attemptRequest(endpoint))
  const after = process.memoryUsage()
  expect(report.outcome).toEqual(statusKept.outcome)
  expect(Buffer.from(report.responseBody ?? [])).toEqual(bomb.subarray(0, 4096))
  expect(after.rss - before.rss).toBeLessThan(5_000_000)
  expect(after.external - before.external).toBeLessThan(5_000_000)
})

it.each([301, 302, 303, 307, 308])('peers 16: D12 %i leads nowhere', async (status) => {
  await using canary = await receive()
  for (const headers of [
    { location: canary.url },
    { location: `//127.0.0.1:${canary.port}/` },
    { location: '/elsewhere' },
    { location: canary.url, refresh: `0; url=${canary.url}` },
  ]) {
    await using receiver = await receive((response) => response.writeHead(status, headers).end())
    const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
    expect(report.outcome).toEqual({ kind: 'accepted', status, redirected: true })
    expect(receiver.requests.map(({ url }) => url)).toEqual(['/hook'])
  }
  expect(canary.sockets).toHaveLength(0)
})

it('D12 a 200 with a Refresh header or a page that moves leads nowhere', async () => {
  await using canary = await receive()
  await using receiver = await receive((response) => {
    response.writeHead(200, { refresh: `0; url=${canary.url}`, 'content-location': canary.url })
    response.end(`<meta http-equiv="refresh" content="0; url=${canary.url}">`)
  })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  expect(report.outcome).toEqual(statusKept.outcome)
  expect(receiver.requests).toHaveLength(1)
  expect(canary.sockets).toHaveLength(0)
})

it('holds little memory for two hundred floods at one time', async () => {
  await using receiver = await receiveRaw((socket) =>
    flood(socket, `${statusLine}\r\n`, 'z'.repeat(10_000)),
  )
  const endpoint = endpointRecord(receiver.url)
  const before = process.memoryUsage().external
  const reports = await Promise.all(
    Array.from({ length: 200 }, () => attempt(dispatcher, attemptRequest(endpoint))),
  )
  expect(reports.every(({ outcome }) => outcome.kind === 'accepted')).toBe(true)
  // 4 KiB each is what is kept; the receiver's own buffers are in this process, too.
  expect(process.memoryUsage().external - before).toBeLessThan(60_000_000)
})

function closed(socket: Socket | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (socket === undefined || socket.destroyed) resolve()
    else socket.once('close', resolve)
  })
}

/** The parts a byte at a time while they are short, else part by part: 30 ms in between. */
async function drip(socket: Socket, ...parts: string[]): Promise<void> {
  const pieces = parts.length === 1 ? [...(parts[0] ?? '')] : parts
  for (const piece of pieces) {
    if (socket.destroyed) return
    socket.write(piece)
    await sleep(30)
  }
}

function flood(
  socket: Socket,
  head: string,
  more: string,
  count: (bytes: number) => void = () => {},
): void {
  socket.write(head)
  const write = () => {
    while (!socket.destroyed) {
      count(more.length)
      if (!socket.write(more)) return
    }
  }
  socket.on('drain', write)
  write()
}
