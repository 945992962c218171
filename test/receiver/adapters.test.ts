/** The adapters in front of real servers, with requests as they come off a socket. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { createReceiver, type WebhookReceiver } from '@k-msg/webhook/receiver'
import { expressHandler } from '@k-msg/webhook/receiver/express'
import { fastifyPlugin } from '@k-msg/webhook/receiver/fastify'
import { honoHandler } from '@k-msg/webhook/receiver/hono'
import { nextHandler } from '@k-msg/webhook/receiver/next'
import { nodeHandler } from '@k-msg/webhook/receiver/node'
import express from 'express'
import { Hono } from 'hono'
import { afterEach, describe, expect, it } from 'vitest'
import { eventBody, nowMs, secret, signed } from './signed.ts'

// The order of keys and the spelling of numbers, which a parser and a serialiser do not give back.
const body = `{ "id":"evt_1", "type":"message.delivered", "data":{"price":1.0,"text":"\\uac00"} }`

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

describe.each<[string, (receiver: WebhookReceiver) => RequestListener]>([
  ['node', (receiver) => nodeHandler(receiver)],
  ['express', (receiver) => express().post('/webhooks', expressHandler(receiver))],
  [
    'express with express.raw()',
    (receiver) =>
      express()
        .use(express.raw({ type: '*/*' }))
        .post('/webhooks', expressHandler(receiver)),
  ],
  [
    'express with express.text()',
    (receiver) =>
      express()
        .use(express.text({ type: '*/*' }))
        .post('/webhooks', expressHandler(receiver)),
  ],
  [
    'express with express.json() that keeps the bytes',
    (receiver) =>
      express()
        .use(
          express.json({
            verify: (request, _, bytes) => Object.assign(request, { rawBody: bytes }),
          }),
        )
        .post('/webhooks', expressHandler(receiver)),
  ],
])('%s', (_, listenerOf) => {
  it('keeps the raw bytes, and hands the answer over', async () => {
    const { receiver, handled, errors } = stage()
    const post = await serve(listenerOf(receiver))
    expect(await post(signed({ body }))).toEqual([200, { received: 1 }])
    expect(handled).toEqual([JSON.parse(body)])
    const forged = { ...signed({ body }), body: body.replace('1.0', '1.00') }
    expect(await post(forged)).toMatchObject([401, { error: { code: 'SIGNATURE_INVALID' } }])
    expect(handled).toHaveLength(1)
    expect(errors).toEqual([])
  })

  it('survives a client that goes away in the middle of its body', async () => {
    const { receiver, handled } = stage()
    const { url, post } = await serveAt(listenerOf(receiver))
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write('POST /webhooks HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{"id":')
    await once(socket, 'connect')
    socket.resetAndDestroy()
    await once(socket, 'close')
    expect((await post(signed({ body })))[0]).toBe(200)
    expect(handled).toHaveLength(1)
  })
})

describe('node', () => {
  it('answers 413 to what is larger, sent at once or in pieces, and closes', async () => {
    const { receiver } = stage({ maxBodyBytes: 1_000 })
    const { url, post } = await serveAt(nodeHandler(receiver))
    expect((await post({ ...signed(), body: 'x'.repeat(1_001) }))[0]).toBe(413)
    expect((await post({ ...signed(), body: 'x'.repeat(30_000) }))[0]).toBe(413)
    const pieces = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 15; i += 1) controller.enqueue(new Uint8Array(100))
        controller.close()
      },
    })
    const response = await fetch(url, {
      method: 'POST',
      body: pieces,
      duplex: 'half',
    } as RequestInit)
    expect(response.status).toBe(413)
    expect(response.headers.get('connection')).toBe('close')
  })

  it('keeps little of an endless body', async () => {
    const { receiver } = stage({ maxBodyBytes: 1_000 })
    let pulled = 0
    const request = {
      headers: {},
      async *[Symbol.asyncIterator]() {
        for (;;) {
          pulled += 1
          yield new Uint8Array(100)
        }
      },
    }
    let status = 0
    const response = {
      writeHead: (code: number) => {
        status = code
      },
      end: () => {},
      destroy: () => {},
    }
    await nodeHandler(receiver)(request, response)
    expect(status).toBe(413)
    expect(pulled).toBe(21)
  })
})

describe('express', () => {
  it('says what to do when express.json() stood in front', async () => {
    const { receiver, errors } = stage()
    const post = await serve(
      express().use(express.json()).post('/webhooks', expressHandler(receiver)),
    )
    expect((await post(signed({ body })))[0]).toBe(500)
    expect(errors).toEqual([
      expect.objectContaining({
        code: 'BODY_ALREADY_PARSED',
        message: expect.stringMatching(/put expressHandler.* before express\.json/),
      }),
    ])
  })

  it('takes the bytes that a platform has read before it, and does not wait for more', async () => {
    const { receiver } = stage()
    const statuses: number[] = []
    const { headers } = signed({ body })
    const request = {
      headers,
      rawBody: Buffer.from(body),
      body: JSON.parse(body),
      readableDidRead: false,
      [Symbol.asyncIterator]: () => {
        throw new Error('the stream belongs to the platform')
      },
    }
    const response = {
      writeHead: (status: number) => statuses.push(status),
      end: () => {},
      destroy: () => {},
    }
    const failed: unknown[] = []
    await expressHandler(receiver)(request, response, (error) => failed.push(error))
    expect([statuses, failed]).toEqual([[200], []])
  })

  it('reads the body itself when express.json() was not meant for it', async () => {
    const { receiver } = stage()
    const post = await serve(
      express().use(express.json()).post('/webhooks', expressHandler(receiver)),
    )
    const request = signed({ body })
    request.headers['content-type'] = 'application/webhook'
    expect((await post(request))[0]).toBe(200)
  })
})

describe('hono', () => {
  it('keeps the raw bytes, also of a body that was read before', async () => {
    const { receiver, handled, errors } = stage()
    const app = new Hono()
    app.post('/webhooks', honoHandler(receiver))
    app.post('/after', async (c, next) => {
      await c.req.json()
      return next()
    })
    app.post('/after', honoHandler(receiver))
    for (const path of ['/webhooks', '/after']) {
      const { headers } = signed({ body })
      const response = await app.request(path, { method: 'POST', headers, body })
      expect(response.status).toBe(200)
      const forged = body.replace('1.0', '1.00')
      expect((await app.request(path, { method: 'POST', headers, body: forged })).status).toBe(401)
    }
    expect(handled).toHaveLength(2)
    expect(errors).toEqual([])
  })
})

describe('next', () => {
  it('is a route handler', async () => {
    const { receiver } = stage()
    const POST = nextHandler(receiver)
    const request = new Request('https://a.example/webhooks', { method: 'POST', ...signed() })
    const response = await POST(request)
    expect([response.status, await response.json()]).toEqual([200, { received: 1 }])
  })
})

// Against Fastify itself it runs with the examples; here is what it asks Fastify for.
describe('fastify', () => {
  it('takes every content type as bytes, in its own scope, up to the limit', async () => {
    const { receiver } = stage({ maxBodyBytes: 1_000 })
    const asked: unknown[] = []
    type Post = Parameters<Parameters<typeof fastifyPlugin>[0]['post']>
    let handler: Post[1] = () => {}
    await fastifyPlugin(
      {
        removeAllContentTypeParsers: () => asked.push('none'),
        addContentTypeParser: (type, options, parser) => {
          asked.push(type, options)
          parser({}, Buffer.from('x'), (_, parsed) => asked.push(parsed))
        },
        post: (path, given) => {
          asked.push(path)
          handler = given
        },
      },
      { path: '/webhooks', receiver },
    )
    const options = { parseAs: 'buffer', bodyLimit: 1_000 }
    expect(asked).toEqual(['none', '*', options, Buffer.from('x'), '/webhooks'])

    const sent: unknown[] = []
    const reply = {
      code: (status: number) => {
        sent.push(status)
        return reply
      },
      headers: () => reply,
      send: (answer: unknown) => sent.push(answer),
    }
    const { headers } = signed()
    await handler({ headers, body: Buffer.from(eventBody) }, reply)
    await handler({ headers, body: undefined }, reply)
    expect(sent).toMatchObject([
      200,
      { received: 1 },
      401,
      { error: { code: 'SIGNATURE_INVALID' } },
    ])
  })
})

function stage(options: { maxBodyBytes?: number } = {}) {
  const handled: unknown[] = []
  const errors: unknown[] = []
  const receiver = createReceiver({
    secret,
    nowMs: () => nowMs,
    onError: (error) => errors.push(error),
    ...options,
  })
  receiver.on('*', (event) => handled.push(event))
  return { receiver, handled, errors }
}

type Post = (request: {
  headers: Record<string, string>
  body: string
}) => Promise<[number, unknown]>

async function serve(listener: RequestListener): Promise<Post> {
  return (await serveAt(listener)).post
}

async function serveAt(listener: RequestListener): Promise<{ url: string; post: Post }> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closing.push(() => {
    server.close()
    server.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks`
  return {
    url,
    post: async ({ headers, body }) => {
      const response = await fetch(url, { method: 'POST', headers, body })
      return [response.status, await response.json()]
    },
  }
}
