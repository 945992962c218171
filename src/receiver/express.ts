/**
 * Express: `app.post('/webhooks', expressHandler(receiver))`, best before any `express.json()`. Takes
 * what `express.raw()`, `express.text()` or a kept `rawBody` hold; a parsed body is answered with 500
 * and told to `onError`, with the fix.
 */
import { answerWith, type NodeRequest, type NodeResponse, readBody } from './node-http.ts'
import { bytesOf, type RawRequest } from './raw.ts'
import type { RequestReceiver } from './receiver.ts'

/** The part of Express's `Request` that is used. */
export interface ExpressRequest extends NodeRequest {
  readonly body?: unknown
  /** Kept by `express.json({ verify: (req, _res, bytes) => { Object.assign(req, { rawBody: bytes }) } })`. */
  readonly rawBody?: Uint8Array | undefined
  /** Whether something has read the stream, which cannot be read twice. */
  readonly readableDidRead: boolean
}

export function expressHandler(
  receiver: RequestReceiver,
): (
  request: ExpressRequest,
  response: NodeResponse,
  next: (error?: unknown) => void,
) => Promise<void> {
  return async (request, response, next) => {
    try {
      answerWith(response, await receiver.receive(await rawOf(request, receiver.maxBodyBytes)))
    } catch (error) {
      next(error)
    }
  }
}

async function rawOf(request: ExpressRequest, maxBytes: number): Promise<RawRequest> {
  const held = bytesOf(request.rawBody) ?? bytesOf(request.body)
  // What was parsed goes on as it is: the receiver says what is wrong with it.
  if (held === null && request.readableDidRead) return request as unknown as RawRequest
  return { headers: request.headers, body: held ?? (await readBody(request, maxBytes)) }
}
