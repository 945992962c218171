/** From whatever a framework hands over to headers and the raw bytes of the body. */
import {
  expected,
  type VerificationErrorCode,
  type WebhookVerificationError,
} from './verification-error.ts'

/** Headers as `node:http` has them. */
export type HeaderFields = Readonly<Record<string, string | readonly string[] | undefined>>

/** Headers and body as they came, for frameworks without a fetch `Request`. */
export interface RawRequest {
  /** Fetch `Headers`, or an object as of `node:http`. */
  headers: { get(name: string): string | null } | HeaderFields
  /** The bytes or the text as received. A parsed body cannot be verified. */
  body: string | Uint8Array | ArrayBuffer
  /** Where a framework keeps the bytes beside a parsed `body`; taken first. */
  rawBody?: string | Uint8Array | ArrayBuffer | undefined
}

/** Value of a header by its lower-case name; null when it is missing. Throws when it came twice. */
export type ReadHeader = (name: string) => string | null

export interface ReadRequest {
  readonly header: ReadHeader
  /** Reads at the first call; headers that cannot be right cost no reading. */
  readonly body: () => Promise<Uint8Array>
}

/** @throws WebhookVerificationError BODY_ALREADY_PARSED, BODY_MISSING, BODY_TOO_LARGE; so may `body` */
export function readRaw(request: Request | RawRequest, maxBytes: number): ReadRequest {
  const header = headerOf(request)
  // By shape: there are more `Request` classes than the global one.
  const isStream = 'arrayBuffer' in request
  if (isStream && request.bodyUsed) throw notRaw(request, 'a request that was read')
  const bytes = isStream ? null : rawBytesOf(request)
  const size = bytes?.byteLength ?? Number(header('content-length'))
  if (size > maxBytes) throw tooLarge(maxBytes)
  let body = bytes && Promise.resolve(bytes)
  return {
    header,
    body() {
      body ??= readStream(request as Request, maxBytes)
      return body
    },
  }
}

/** More than any server makes of a request; a body of 1 MiB is some hundred chunks. */
const maxEmptyChunks = 1_000

/** Stops reading at `maxBytes`. */
async function readStream(request: Request, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  let empty = 0
  const reader = request.body?.getReader()
  // A client that goes away in the middle ends the body: what has come of it cannot verify.
  const next = () => reader?.read().catch(() => undefined)
  for (let chunk = await next(); chunk?.value; chunk = await next()) {
    const { byteLength } = chunk.value
    size += byteLength
    // Chunks of nothing that are always ready would keep this loop, and the thread, for ever.
    if (!byteLength) empty += 1
    if (size > maxBytes || empty > maxEmptyChunks) {
      reader?.cancel().catch(() => {})
      throw tooLarge(maxBytes)
    }
    chunks.push(chunk.value)
  }
  return concat(chunks, size)
}

function tooLarge(maxBytes: number): WebhookVerificationError {
  return expected('BODY_TOO_LARGE', `at most ${maxBytes} bytes (\`maxBodyBytes\`)`)
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
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
  if (typeof body === 'string') return utf8(body)
  if (body instanceof Uint8Array) return body
  return body instanceof ArrayBuffer ? new Uint8Array(body) : null
}

function rawBytesOf(request: RawRequest): Uint8Array {
  const bytes = bytesOf(request.rawBody) ?? bytesOf(request.body)
  if (bytes) return bytes
  if ((request.body ?? null) !== null) throw notRaw(request, 'a parsed body')
  throw notRaw(request, 'nothing', 'BODY_MISSING')
}

function notRaw(
  request: object,
  got: string,
  code: VerificationErrorCode = 'BODY_ALREADY_PARSED',
): WebhookVerificationError {
  return expected(code, `the raw body as signed, got ${got}. ${fixFor(request)}`)
}

/** What to do, by what the request looks like. */
function fixFor(request: object): string {
  if ('app' in request) {
    return "Express: put expressHandler, or express.raw({ type: '*/*' }), before express.json()"
  }
  if ('server' in request) return 'Fastify: use fastifyPlugin'
  if ('query' in request) {
    return 'Next.js: use nextHandler; in pages/api, nodeHandler with bodyParser: false'
  }
  if ('raw' in request) return 'Hono: use honoHandler, or pass c.req.raw'
  return 'Use an adapter, or pass { headers, body } with the body as text or bytes'
}

function headerOf(request: Request | RawRequest): ReadHeader {
  // A framework's request without a `headers` property gets told what to pass instead.
  if (!request.headers) throw notRaw(request, 'no headers')
  const { headers } = request
  if (typeof headers.get === 'function') return (name) => (headers as Headers).get(name)
  const fields = headers as HeaderFields
  return (name) => {
    const values = Object.keys(fields)
      .filter((one) => one.toLowerCase() === name)
      .flatMap((one) => fields[one] ?? [])
    // Two are an attempt to have one checked and another one used.
    if (values.length <= 1) return values[0] ?? null
    throw expected('HEADER_INVALID', `\`${name}\` once, got it ${values.length} times`)
  }
}
