/** Plain `node:http`: `createServer(nodeHandler(receiver))`. Reads the raw bytes itself. */
import { answerWith, type NodeRequest, type NodeResponse, readBody } from './node-http.ts'
import type { RequestReceiver } from './receiver.ts'

/** @returns a listener that never rejects */
export function nodeHandler(
  receiver: RequestReceiver,
): (request: NodeRequest, response: NodeResponse) => Promise<void> {
  return async (request, response) => {
    try {
      const body = await readBody(request, receiver.maxBodyBytes)
      answerWith(response, await receiver.receive({ headers: request.headers, body }))
    } catch {
      // The client went away in the middle: nobody is left to answer.
      response.destroy()
    }
  }
}
