/**
 * Fastify: `await app.register(fastifyPlugin, { path: '/webhooks', receiver })`. The plugin's own
 * scope keeps the raw bytes; the rest of the app goes on parsing JSON.
 */
import type { HeaderFields } from './raw.ts'
import type { RequestReceiver } from './receiver.ts'

/** The part of a Fastify instance that is used. */
export interface FastifyScope {
  removeAllContentTypeParsers(): unknown
  addContentTypeParser(
    type: string,
    options: { parseAs: 'buffer'; bodyLimit: number },
    parser: (
      request: unknown,
      body: Uint8Array,
      done: (error: null, body: Uint8Array) => void,
    ) => void,
  ): unknown
  post(path: string, handler: (request: FastifyRequest, reply: FastifyReply) => unknown): unknown
}

interface FastifyRequest {
  readonly headers: HeaderFields
  readonly body: unknown
}

interface FastifyReply {
  code(status: number): FastifyReply
  headers(values: Record<string, string>): FastifyReply
  send(body: unknown): unknown
}

export async function fastifyPlugin(
  scope: FastifyScope,
  { path, receiver }: { path: string; receiver: RequestReceiver },
): Promise<void> {
  const options = { parseAs: 'buffer', bodyLimit: receiver.maxBodyBytes } as const
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', options, (_request, body, done) => done(null, body))
  scope.post(path, async ({ headers, body }, reply) => {
    // Without a body no parser is called; nothing was sent, so there is nothing to verify.
    const raw = (body ?? new Uint8Array(0)) as Uint8Array
    const answer = await receiver.receive({ headers, body: raw })
    return reply.code(answer.status).headers(answer.headers).send(answer.body)
  })
}
