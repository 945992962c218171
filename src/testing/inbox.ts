/**
 * A receiver on 127.0.0.1 for tests and local development: it verifies signatures, keeps what
 * arrives, and answers what the test wants it to answer.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { WebhookEventBody } from '../model/event.ts'
import { checkOptions } from '../model/given.ts'
import { judge, type SignatureVerdict } from './verdict.ts'

export interface ReceivedRequest {
  readonly path: string
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
  /** One event, or the members of a batch. */
  readonly events: readonly WebhookEventBody[]
  /** Of `webhook-signature` and `X-Webhook-Signature` together. */
  readonly signature: SignatureVerdict
  readonly receivedAtMs: number
}

export interface InboxAnswer {
  status?: number
  headers?: Record<string, string>
  body?: string
  /** Resolve it to answer then; without it the answer is at once. */
  after?: Promise<unknown>
}

export interface InboxOptions {
  /** One secret for every path, or one per path; of an Ed25519 endpoint its public key. */
  secret?: string | Readonly<Record<string, string>> | undefined
  /** Port on 127.0.0.1; a free one by default. */
  port?: number | undefined
  /** What to answer; 200 by default. */
  answer?: ((request: ReceivedRequest) => InboxAnswer | undefined) | undefined
  /** How many requests, and how many events, are kept: the latest ones. All by default. */
  keep?: number | undefined
}

export interface Inbox extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  readonly received: readonly ReceivedRequest[]
  /** Every event of every request, batches taken apart. */
  readonly events: readonly WebhookEventBody[]
  setSecret(path: string, secret: string): void
  setAnswer(answer: NonNullable<InboxOptions['answer']>): void
  /** The next request that fits, or one that has already arrived. Rejects when the inbox closes. */
  waitFor(wanted: string | ((request: ReceivedRequest) => boolean)): Promise<ReceivedRequest>
  /** Resolves when that many requests have arrived in all. */
  waitForCount(count: number): Promise<void>
  close(): Promise<void>
}

interface Waiter {
  readonly look: () => boolean
  readonly reject: (error: Error) => void
}

/** Starts a receiver. @example await using inbox = await createInbox({ secret }) */
export async function createInbox(options: InboxOptions = {}): Promise<Inbox> {
  checkOptions(options, ['secret', 'port', 'answer', 'keep'], 'createInbox')
  const secrets = new Map<string, string>(
    typeof options.secret === 'string'
      ? [['*', options.secret]]
      : Object.entries(options.secret ?? {}),
  )
  const received: ReceivedRequest[] = []
  const events: WebhookEventBody[] = []
  const { keep = Number.POSITIVE_INFINITY } = options
  let arrived = 0
  let answer = options.answer
  let waiters: Waiter[] = []

  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('error', () => response.destroy())
    request.on('end', () => {
      const one = receive(request, Buffer.concat(chunks), secrets)
      received.push(one)
      events.push(...one.events)
      arrived += 1
      waiters = waiters.filter((waiter) => !waiter.look())
      if (received.length > keep) received.splice(0, received.length - keep)
      if (events.length > keep) events.splice(0, events.length - keep)
      void reply(response, answer?.(one) ?? {})
    })
  }
  const server = createServer(handle)
  const url = await listen(server, options.port ?? 0)
  const wait = (look: () => boolean, reject: (error: Error) => void): void => {
    if (!look()) waiters.push({ look, reject })
  }
  const close = async (): Promise<void> => {
    for (const waiter of waiters) waiter.reject(new Error('the inbox was closed while waiting'))
    waiters = []
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return {
    url,
    received,
    events,
    setSecret: (path, secret) => secrets.set(path, secret),
    setAnswer: (next) => {
      answer = next
    },
    waitFor: (wanted) =>
      new Promise((resolve, reject) => {
        const fits =
          typeof wanted === 'function'
            ? wanted
            : (one: ReceivedRequest) => one.events.some((event) => event.type === wanted)
        wait(() => {
          const found = received.find(fits)
          if (found !== undefined) resolve(found)
          return found !== undefined
        }, reject)
      }),
    waitForCount: (count) =>
      new Promise((resolve, reject) => {
        wait(() => {
          if (arrived >= count) resolve()
          return arrived >= count
        }, reject)
      }),
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function listen(server: Server, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => resolve())
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function receive(
  request: IncomingMessage,
  bytes: Buffer,
  secrets: ReadonlyMap<string, string>,
): ReceivedRequest {
  const path = request.url ?? '/'
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, value?.toString()]),
  )
  const secret = secrets.get(path) ?? secrets.get('*')
  return {
    path,
    headers,
    body: bytes.toString(),
    events: parseEvents(bytes),
    signature: judge(headers, bytes, secret),
    receivedAtMs: Date.now(),
  }
}

function parseEvents(bytes: Buffer): WebhookEventBody[] {
  try {
    const parsed: unknown = JSON.parse(bytes.toString())
    return (Array.isArray(parsed) ? parsed : [parsed]) as WebhookEventBody[]
  } catch {
    return []
  }
}

async function reply(response: ServerResponse, answer: InboxAnswer): Promise<void> {
  await answer.after
  if (response.destroyed) return
  response.writeHead(answer.status ?? 200, answer.headers ?? {})
  response.end(answer.body ?? '')
}
