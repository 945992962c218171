/** Hono: `app.post('/webhooks', honoHandler(receiver))`. */
import { toResponse } from './answers.ts'
import type { RequestReceiver } from './receiver.ts'

/** The part of Hono's `Context` that is used. */
export interface HonoContext {
  readonly req: { readonly raw: Request; arrayBuffer(): Promise<ArrayBuffer> }
}

export function honoHandler(
  receiver: RequestReceiver,
): (context: HonoContext) => Promise<Response> {
  return async ({ req }) => {
    if (!req.raw.bodyUsed) return receiver.handle(req.raw)
    // A validator or a logger has read it before; Hono keeps the bytes.
    const body = await req.arrayBuffer()
    return toResponse(await receiver.receive({ headers: req.raw.headers, body }))
  }
}
