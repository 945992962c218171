/** Receivers for tests: real servers on 127.0.0.1, and what it takes to send to them. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import net, { type AddressInfo, type Socket } from 'node:net'
import type { AttemptReport, AttemptRequest } from '../../src/deliver/attempt-request.ts'
import type { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import type { EndpointRecord } from '../../src/model/endpoint.ts'

export interface Received {
  method: string
  url: string
  headers: IncomingMessage['headers']
  rawHeaders: string[]
  body: Buffer
  socket: Socket
}

export interface Receiver extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** In the order of coming. */
  readonly requests: Received[]
  /** Every connection ever made, open or not. */
  readonly sockets: Socket[]
}

/** Keeps what it gets, then answers. */
export async function receive(
  answer: (response: ServerResponse, request: Received) => void = (response) => response.end('ok'),
): Promise<Receiver> {
  const requests: Received[] = []
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const request: Received = {
        method: incoming.method ?? '',
        url: incoming.url ?? '',
        headers: incoming.headers,
        rawHeaders: incoming.rawHeaders,
        body: Buffer.concat(chunks),
        socket: incoming.socket,
      }
      requests.push(request)
      answer(response, request)
    })
  })
  return await listening(server, requests)
}

/** Speaks bytes: for answers that no HTTP library would give. */
export async function receiveRaw(onRequest: (socket: Socket, head: string) => void) {
  const server = net.createServer((socket) => {
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      // Tests send one small body, so the head and the body come together or shortly after.
      if (!text.includes('\r\n\r\n')) return
      const head = text
      text = ''
      onRequest(socket, head)
    })
    socket.on('error', () => {})
  })
  return await listening(server, [])
}

async function listening(server: Server | net.Server, requests: Received[]): Promise<Receiver> {
  const sockets: Socket[] = []
  server.on('connection', (socket: Socket) => sockets.push(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/hook`,
    port,
    requests,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export const testSecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

export function endpointRecord(url: string, changes: Partial<EndpointRecord> = {}): EndpointRecord {
  return {
    key: 'abcdefgh',
    id: 'endpoint-1',
    tenantId: '',
    url,
    events: ['*'],
    name: 'endpoint-1',
    description: '',
    status: 'active',
    statusReason: null,
    statusChangedAtMs: 0,
    secrets: [{ secret: testSecret, createdAtMs: 0, expiresAtMs: null }],
    signatureSchemes: null,
    filters: {},
    bodyFilter: null,
    retryConfig: {},
    headers: {},
    tls: null,
    timeoutMs: null,
    concurrency: null,
    batch: false,
    ordering: null,
    version: 1,
    warning: null,
    rateLimit: null,
    createdAtMs: 0,
    updatedAtMs: 0,
    ...changes,
  }
}

export function attemptRequest(
  endpoint: EndpointRecord,
  changes: Partial<AttemptRequest> = {},
): AttemptRequest {
  return {
    deliveryId: 'dlv_1',
    attempt: 1,
    eventId: 'evt_123',
    eventType: 'message.sent',
    body: Buffer.from('{"id":"evt_123"}'),
    endpoint,
    fallbackSecret: null,
    timeoutMs: 5_000,
    enableSecurity: true,
    ...changes,
  }
}

/** One attempt as a promise; fails when it reports more than once. */
export function attempt(
  dispatcher: WebhookDispatcher,
  request: AttemptRequest,
): Promise<AttemptReport> {
  return new Promise((resolve, reject) => {
    let reports = 0
    dispatcher.attempt(request, (report) => {
      reports += 1
      if (reports > 1) reject(new Error('reported twice'))
      else setImmediate(() => resolve(report))
    })
  })
}
