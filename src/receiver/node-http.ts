/** Bodies and answers of `node:http`, which Express shares. */
import type { ReceiverAnswer } from './answers.ts'
import { concat, type HeaderFields } from './raw.ts'

/** The part of `http.IncomingMessage` that is used. */
export interface NodeRequest extends AsyncIterable<Uint8Array> {
  readonly headers: HeaderFields
}

/** The part of `http.ServerResponse` that is used. */
export interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): unknown
  end(body: string): unknown
  destroy(): unknown
}

/**
 * Keeps up to one chunk more than `maxBytes`, which the receiver then finds too large. Reads a little
 * on, because a client that is still sending does not hear the answer; ending the loop early would
 * make Node cut the connection.
 */
export async function readBody(request: NodeRequest, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let kept = 0
  let size = 0
  const iterator = request[Symbol.asyncIterator]()
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
    size += next.value.byteLength
    if (kept <= maxBytes) {
      chunks.push(next.value)
      kept += next.value.byteLength
    }
    if (size > 2 * maxBytes) break
  }
  return concat(chunks, kept)
}

export function answerWith(response: NodeResponse, answer: ReceiverAnswer): void {
  // The rest of a body that was not read to its end must not be taken for the next request.
  const close = answer.status === 413 ? { connection: 'close' } : {}
  response.writeHead(answer.status, { ...answer.headers, ...close })
  response.end(JSON.stringify(answer.body))
}
