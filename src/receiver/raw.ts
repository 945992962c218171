/** From whatever a framework hands over to headers and the raw bytes of the body. */
import { WebhookVerificationError } from './verification-error.ts'

/** Headers and body as they came, for frameworks without a fetch `Request`. */
export interface RawRequest {
  /** Fetch `Headers`, or an object as of `node:http`. */
  headers:
    | { get(name: string): string | null }
    | Readonly<Record<string, string | readonly string[] | undefined>>
  /** The bytes or the text as received. A parsed body cannot be verified. */
  body: string | Uint8Array | ArrayBuffer
  /** Where a framework keeps the bytes beside a parsed `body`; taken first. */
  rawBody?: string | Uint8Array | ArrayBuffer | undefined
}

/** Value of a header by its lower-case name; null when it is missing. Throws when it came twice. */
export type ReadHeader = (name: string) => string | null

export interface ReadRequest {
  readonly header: ReadHeader
  readonly body: Uint8Array
}

/** @throws WebhookVerificationError BODY_ALREADY_PARSED, BODY_MISSING, HEADER_MISSING */
export async function readRaw(request: Request | RawRequest): Promise<ReadRequest> {
  const header = headerOf(request)
  if (!isFetchRequest(request)) return { header, body: rawBytesOf(request) }
  if (request.bodyUsed) throw parsed(request, 'a request whose body has been read')
  return { header, body: new Uint8Array(await request.arrayBuffer()) }
}

/** By shape: there are more `Request` classes than the global one. */
function isFetchRequest(request: Request | RawRequest): request is Request {
  return 'arrayBuffer' in request && 'bodyUsed' in request && request.headers !== undefined
}

/**
 * Reads the body of a fetch `Request`, and stops when it grows too large.
 *
 * @returns null when it is larger than `maxBytes`
 * @throws WebhookVerificationError BODY_ALREADY_PARSED
 */
export async function readFetchBody(
  request: Request,
  maxBytes: number,
): Promise<Uint8Array | null> {
  if (request.bodyUsed) throw parsed(request, 'a request whose body has been read')
  if (Number(request.headers.get('content-length')) > maxBytes) return null
  if (request.body === null) return new Uint8Array(0)
  const reader = request.body.getReader()
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return concat(chunks, size)
    size += value.byteLength
    if (size > maxBytes) {
      await reader.cancel()
      return null
    }
    chunks.push(value)
  }
}

export function concat(chunks: readonly Uint8Array[], size: number): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(size)
  let end = 0
  for (const chunk of chunks) {
    all.set(chunk, end)
    end += chunk.byteLength
  }
  return all
}

/** @returns null when it is not raw: nothing, or what a parser made of it */
export function bytesOf(body: unknown): Uint8Array | null {
  if (typeof body === 'string') return new TextEncoder().encode(body)
  if (body instanceof Uint8Array) return body
  return body instanceof ArrayBuffer ? new Uint8Array(body) : null
}

function rawBytesOf(request: RawRequest): Uint8Array {
  const bytes = bytesOf(request.rawBody) ?? bytesOf(request.body)
  if (bytes !== null) return bytes
  if (request.body !== undefined && request.body !== null) throw parsed(request, 'a parsed one')
  throw new WebhookVerificationError(
    'BODY_MISSING',
    `Expected \`body\` to be the raw body as text or bytes, got nothing. ${fixFor(request)}`,
  )
}

function parsed(request: object, got: string): WebhookVerificationError {
  return new WebhookVerificationError(
    'BODY_ALREADY_PARSED',
    `Expected the raw body, got ${got}: serialising it again need not give back the signed bytes. ${fixFor(request)}`,
  )
}

/** What to do, by what the request looks like. */
function fixFor(request: object): string {
  if ('app' in request && 'res' in request) {
    return "Express: put express.raw({ type: '*/*' }) on this route, before any express.json(), or use expressHandler of '@k-msg/webhook/receiver/express'."
  }
  if ('server' in request && 'raw' in request) {
    return "Fastify: register fastifyPlugin of '@k-msg/webhook/receiver/fastify', which keeps the bytes."
  }
  if ('cookies' in request && 'query' in request) {
    return 'Next.js: use a route handler (app/…/route.ts), or `export const config = { api: { bodyParser: false } }` and nodeHandler.'
  }
  if ('raw' in request && 'header' in request) {
    return 'Hono: pass c.req.raw, or { headers: c.req.raw.headers, body: await c.req.text() }.'
  }
  if ('bodyUsed' in request) {
    return 'Pass the request before anything reads it, or read it with `await request.text()` and pass { headers, body }.'
  }
  return "Express: express.raw({ type: '*/*' }). Fastify, Next.js, node:http: the adapters of '@k-msg/webhook/receiver/…'. Elsewhere: read the body as text or bytes and pass { headers, body }."
}

function headerOf(request: Request | RawRequest): ReadHeader {
  // A framework's request without a `headers` property gets told what to pass instead.
  if (request.headers === undefined) throw parsed(request, 'a request of another kind')
  const { headers } = request
  if (isFetchHeaders(headers)) return (name) => headers.get(name)
  return (name) => {
    const values = Object.keys(headers)
      .filter((one) => one.toLowerCase() === name)
      .flatMap((one) => headers[one] ?? [])
    // Two are an attempt to have one checked and another one used.
    if (values.length <= 1) return values[0] ?? null
    throw new WebhookVerificationError(
      'HEADER_INVALID',
      `Expected the header \`${name}\` once, got it ${values.length} times.`,
    )
  }
}

function isFetchHeaders(
  headers: RawRequest['headers'],
): headers is { get(name: string): string | null } {
  return typeof headers.get === 'function'
}
