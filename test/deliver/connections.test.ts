import type { ServerResponse } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import type { AttemptReport, DispatcherOptions } from '../../src/deliver/attempt-request.ts'
import { Connections } from '../../src/deliver/connections.ts'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import type { Target } from '../../src/deliver/prepare.ts'
import { attempt, attemptRequest, endpointRecord, receive, receiveRaw } from './receivers.ts'

function build(options: DispatcherOptions = {}) {
  const allowedNetworks = ['127.0.0.0/8']
  return new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks, ...options })
}

/** Answers nothing until told to. */
async function heldReceiver() {
  const held: ServerResponse[] = []
  let arrived = () => {}
  const receiver = await receive((response) => {
    held.push(response)
    arrived()
  })
  return {
    receiver,
    held,
    async arrivals(count: number) {
      while (held.length < count) {
        await new Promise<void>((resolve) => {
          arrived = resolve
        })
      }
    },
  }
}

function attempts(dispatcher: WebhookDispatcher, url: string, count: number) {
  const endpoint = endpointRecord(url)
  return Array.from({ length: count }, () => attempt(dispatcher, attemptRequest(endpoint)))
}

const kinds = (reports: AttemptReport[]) => reports.map((report) => report.outcome.kind)

describe('connections', () => {
  it('are as many as requests at one time, and reused by the next ones', async () => {
    await using receiver = await receive()
    const dispatcher = build()
    await Promise.all(attempts(dispatcher, receiver.url, 5))
    await Promise.all(attempts(dispatcher, receiver.url, 5))
    for (let i = 0; i < 5; i += 1) await Promise.all(attempts(dispatcher, receiver.url, 1))
    expect(receiver.requests).toHaveLength(15)
    expect(receiver.sockets).toHaveLength(5)
    await dispatcher.close()
  })

  it('are bounded in all; who waits is served in order and its time does not run', async () => {
    const { receiver, held, arrivals } = await heldReceiver()
    await using _ = receiver
    let nowMs = 1_000
    const dispatcher = build({ maxConnections: 2, monotonicMs: () => nowMs })
    const reports = attempts(dispatcher, receiver.url, 4)
    await arrivals(2)
    expect(dispatcher.inFlight).toBe(4)
    expect(receiver.requests).toHaveLength(2)
    nowMs += 4_000
    for (const response of held) response.end()
    await arrivals(4)
    for (const response of held.slice(2)) response.end()
    const ended = await Promise.all(reports)
    expect(kinds(ended)).toEqual(Array(4).fill('accepted'))
    expect(ended.map(({ latencyMs }) => latencyMs)).toEqual([4_000, 4_000, 0, 0])
    expect(receiver.sockets).toHaveLength(2)
    await dispatcher.close()
  })

  it('make room by closing the idle one of the origin used longest ago', async () => {
    await using first = await receive()
    await using second = await receive()
    await using third = await receive()
    const dispatcher = build({ maxConnections: 2 })
    for (const { url } of [first, second, third]) await Promise.all(attempts(dispatcher, url, 1))
    await closeOf(first.sockets[0])
    expect(second.sockets[0]?.destroyed).toBe(false)
    await Promise.all(attempts(dispatcher, second.url, 1))
    expect(second.sockets).toHaveLength(1)
    await dispatcher.close()
  })

  it('serve those that wait also when the one before them failed', async () => {
    await using broken = await receiveRaw((socket) => socket.destroy())
    await using receiver = await receive()
    const dispatcher = build({ maxConnections: 1 })
    const reports = await Promise.all([
      ...attempts(dispatcher, broken.url, 3),
      ...attempts(dispatcher, receiver.url, 2),
    ])
    expect(kinds(reports)).toEqual([...Array(3).fill('unreachable'), 'accepted', 'accepted'])
    await dispatcher.close()
  })

  it('are closed when idle for long', async () => {
    // Its side stays open for ever: Node's own server would close it after five seconds.
    await using receiver = await receiveRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    })
    const dispatcher = build({ idleConnectionMs: 30 })
    await Promise.all(attempts(dispatcher, receiver.url, 1))
    await closeOf(receiver.sockets[0])
    await Promise.all(attempts(dispatcher, receiver.url, 1))
    expect(receiver.sockets).toHaveLength(2)
    await dispatcher.close()
  })

  it('end where the receiver says so, without harm to the attempt that follows', async () => {
    await using receiver = await receive((response) => {
      response.setHeader('connection', 'close')
      response.end('bye')
    })
    const dispatcher = build()
    const endpoint = endpointRecord(receiver.url)
    const outcomes: string[] = []
    await new Promise<void>((resolve) => {
      const next = (report: AttemptReport) => {
        outcomes.push(report.outcome.kind)
        if (outcomes.length === 5) resolve()
        else dispatcher.attempt(attemptRequest(endpoint), next)
      }
      dispatcher.attempt(attemptRequest(endpoint), next)
    })
    expect(outcomes).toEqual(Array(5).fill('accepted'))
    expect(receiver.sockets).toHaveLength(5)
    await dispatcher.close()
  })

  it('that a receiver closed while idle are not used', async () => {
    await using receiver = await receive()
    const dispatcher = build()
    await Promise.all(attempts(dispatcher, receiver.url, 1))
    receiver.sockets[0]?.end()
    await closeOf(receiver.sockets[0])
    expect(kinds(await Promise.all(attempts(dispatcher, receiver.url, 1)))).toEqual(['accepted'])
    await dispatcher.close()
  })

  it('are not used when the receiver is about to close them', async () => {
    let nowMs = 0
    let keepAlive = 'timeout=5'
    await using receiver = await receiveRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nkeep-alive: ${keepAlive}\r\ncontent-length: 0\r\n\r\n`)
    })
    const dispatcher = build({ monotonicMs: () => nowMs })
    const opened: number[] = []
    for (const atMs of [0, 2_900, 5_800, 8_900]) {
      nowMs = atMs
      await Promise.all(attempts(dispatcher, receiver.url, 1))
      opened.push(receiver.sockets.length)
    }
    expect(opened).toEqual([1, 1, 1, 2])
    keepAlive = 'timeout=1'
    await Promise.all(attempts(dispatcher, receiver.url, 1))
    await closeOf(receiver.sockets[1])
    await dispatcher.close()
  })

  it.each([
    [
      'more than was asked for',
      'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\n',
    ],
    ['without an end of its own', 'HTTP/1.1 200 OK\r\n\r\nok'],
    ['by HTTP/1.0', 'HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok'],
  ])('that answered %s carry nothing more', async (_, reply) => {
    await using receiver = await receiveRaw((socket) => {
      socket.write(reply)
      if (!reply.includes('length')) socket.end()
    })
    const dispatcher = build()
    const reports = await Promise.all(attempts(dispatcher, receiver.url, 1))
    await closeOf(receiver.sockets[0])
    reports.push(...(await Promise.all(attempts(dispatcher, receiver.url, 1))))
    expect(kinds(reports)).toEqual(['accepted', 'accepted'])
    expect(reports.map(({ responseBody }) => String(Buffer.from(responseBody ?? [])))).toEqual([
      'ok',
      'ok',
    ])
    expect(receiver.sockets).toHaveLength(2)
    await dispatcher.close()
  })

  it('that speak unasked are closed: it would be taken for the next answer', async () => {
    await using receiver = await receiveRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    })
    const dispatcher = build()
    await Promise.all(attempts(dispatcher, receiver.url, 1))
    receiver.sockets[0]?.write('HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n')
    await closeOf(receiver.sockets[0])
    expect(kinds(await Promise.all(attempts(dispatcher, receiver.url, 1)))).toEqual(['accepted'])
    await dispatcher.close()
  })

  it('that answered before the request was written carry nothing more', async () => {
    // More than the buffers of the system hold, and a receiver that reads none of it.
    const body = Buffer.alloc(32_000_000, 'x')
    await using receiver = await receiveRaw((socket) => {
      socket.pause()
      socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n')
    })
    const dispatcher = build()
    const endpoint = endpointRecord(receiver.url)
    const report = await attempt(dispatcher, attemptRequest(endpoint, { body }))
    expect(report.outcome).toEqual({ kind: 'refused', status: 413 })
    receiver.sockets[0]?.resume()
    await closeOf(receiver.sockets[0])
    await dispatcher.close()
  })

  it('do not keep the process alive when they are idle', async () => {
    await using receiver = await receive()
    const dispatcher = build()
    const held = () =>
      process.getActiveResourcesInfo().filter((one) => one === 'TCPSocketWrap').length
    const before = held()
    await Promise.all(attempts(dispatcher, receiver.url, 3))
    // Both ends are in this process: the receiver's three count, the sender's do not.
    expect(held() - before).toBe(3)
    await dispatcher.close()
  })

  it('that break under a request are unreachable, and the next attempt gets a new one', async () => {
    let requests = 0
    await using receiver = await receiveRaw((socket) => {
      requests += 1
      if (requests === 2) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    })
    const dispatcher = build()
    const outcomes: AttemptReport[] = []
    for (let i = 0; i < 3; i += 1) {
      outcomes.push(...(await Promise.all(attempts(dispatcher, receiver.url, 1))))
    }
    expect(outcomes.map(({ outcome }) => outcome)).toEqual([
      expect.objectContaining({ kind: 'accepted' }),
      { kind: 'unreachable', code: 'ECONNRESET' },
      expect.objectContaining({ kind: 'accepted' }),
    ])
    expect(receiver.sockets).toHaveLength(2)
    await dispatcher.close()
  })
})

describe('close', () => {
  it('lets what is under way end, then closes every connection', async () => {
    const { receiver, held, arrivals } = await heldReceiver()
    await using _ = receiver
    const dispatcher = build()
    const reports = attempts(dispatcher, receiver.url, 2)
    await arrivals(2)
    const closing = Promise.all([dispatcher.close(), dispatcher.close()])
    const refused = await Promise.all(attempts(dispatcher, receiver.url, 1))
    expect(refused[0]?.outcome).toEqual({ kind: 'unreachable', code: 'ABORTED' })
    for (const response of held) response.end()
    expect(kinds(await Promise.all(reports))).toEqual(['accepted', 'accepted'])
    await closing
    await Promise.all(receiver.sockets.map(closeOf))
  })

  it('resolves at once after abortAll, which ends connecting, waiting and sent attempts', async () => {
    const { receiver, arrivals } = await heldReceiver()
    await using _ = receiver
    const dispatcher = build({ maxConnections: 2, lookup: () => {} })
    const sent = attempts(dispatcher, receiver.url, 1)
    const connecting = attempts(dispatcher, 'http://hooks.example.net/', 1)
    const waiting = attempts(dispatcher, receiver.url, 2)
    await arrivals(1)
    dispatcher.abortAll()
    const reports = await Promise.all([...sent, ...connecting, ...waiting])
    for (const { outcome, latencyMs, startedAtMs } of reports) {
      expect(outcome).toEqual({ kind: 'unreachable', code: 'ABORTED' })
      expect(latencyMs).toBeLessThan(5_000)
      expect(startedAtMs).toBeGreaterThan(1e12)
    }
    expect(dispatcher.inFlight).toBe(0)
    await dispatcher.close()
    await closeOf(receiver.sockets[0])
    expect(receiver.requests).toHaveLength(1)
  })

  it('of a dispatcher that never sent does nothing', async () => {
    const dispatcher = build()
    await dispatcher.close()
    await dispatcher.close()
  })
})

function closeOf(
  socket: { destroyed: boolean; once(event: 'close', f: () => void): unknown } | undefined,
) {
  return new Promise<void>((resolve) => {
    if (socket === undefined || socket.destroyed) resolve()
    else socket.once('close', resolve)
  })
}

it('a receiver that closes after its reply without having said so costs no attempt', async () => {
  await using receiver = await receiveRaw((socket) => {
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
  })
  const dispatcher = build()
  const endpoint = endpointRecord(receiver.url)
  const outcomes: string[] = []
  await new Promise<void>((resolve) => {
    const next = (report: AttemptReport) => {
      outcomes.push(report.outcome.kind)
      if (outcomes.length === 100) resolve()
      if (outcomes.length <= 80) dispatcher.attempt(attemptRequest(endpoint), next)
    }
    for (let i = 0; i < 20; i += 1) dispatcher.attempt(attemptRequest(endpoint), next)
  })
  expect(outcomes).toEqual(Array(100).fill('accepted'))
  await dispatcher.close()
})

it('a receiver that closes its side in the middle of a request is not waited for', async () => {
  // More than the buffers of the system hold, so that it is never written to its end.
  const body = Buffer.alloc(32_000_000, 'x')
  await using receiver = await receiveRaw((socket) => {
    socket.pause()
    socket.end('HTTP/1.1 200')
  })
  const dispatcher = build()
  const request = attemptRequest(endpointRecord(receiver.url), { body, timeoutMs: 10_000 })
  const { outcome, latencyMs } = await attempt(dispatcher, request)
  expect(outcome).toEqual({ kind: 'unreachable', code: 'ECONNRESET' })
  expect(latencyMs).toBeLessThan(5_000)
  await dispatcher.close()
})

it('who waited for a connection and was aborted leaves nothing behind', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const connections = new Connections({
    connect: () => ({ phase: 'connect', giveUp: () => {} }),
    maxConnections: 1,
    idleMs: 1,
    monotonicMs: () => 0,
    setTimer: () => () => {},
  })
  const user = (key: string) => ({ target: { key } as Target, use: () => {} })
  connections.take(user('busy'))
  const target = (() => {
    const waiting = user('waiting')
    connections.take(waiting)
    expect(connections.cancel(waiting)).toBe(true)
    return new WeakRef(waiting.target)
  })()
  await new Promise((resolve) => setImmediate(resolve))
  collect()
  expect(target.deref()).toBeUndefined()
})
