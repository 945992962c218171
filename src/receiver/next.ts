/** Next.js, in `app/webhooks/route.ts`: `export const POST = nextHandler(receiver)`. */
import type { RequestReceiver } from './receiver.ts'

export function nextHandler(receiver: RequestReceiver): (request: Request) => Promise<Response> {
  return (request) => receiver.handle(request)
}
