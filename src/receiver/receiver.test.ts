import { describe, expect, expectTypeOf, it, vi } from 'vitest'
import { eventBody, nowMs, type Signed, secret, signed } from '../../test/receiver/signed.ts'
import type { WebhookEventBody } from '../model/event.ts'
import { createReceiver, type ReceiverOptions } from './receiver.ts'
import { seenInMemory } from './seen-events.ts'

describe('handlers', () => {
  it('get the events of their type, and of patterns, in the order they were added', async () => {
    const { on, calls, post } = stage()
    on('message.delivered')
    on('message.*')
    on('*')
    on('message.failed')
    on('messages.*')
    expect(await post(signed())).toEqual([200, { received: 1 }])
    expect(calls).toEqual(['message.delivered evt_1', 'message.* evt_1', '* evt_1'])
  })

  it('are typed by what the caller says of each type', () => {
    interface Data {
      'order.paid': { total: number }
    }
    createReceiver<Data>({ secret })
      .on('order.paid', (event) => {
        expectTypeOf(event).toEqualTypeOf<WebhookEventBody<{ total: number }>>()
      })
      .on('message.delivered', (event) => {
        expectTypeOf(event).toEqualTypeOf<WebhookEventBody<unknown>>()
      })
    createReceiver({ secret }).on('*', (event) => {
      expectTypeOf(event).toEqualTypeOf<WebhookEventBody<unknown>>()
    })
  })

  it('are awaited before the answer', async () => {
    const { receiver, post } = stage()
    let handled = false
    receiver.on('*', async () => {
      await Promise.resolve()
      handled = true
    })
    const answered = post(signed())
    expect(handled).toBe(false)
    await answered
    expect(handled).toBe(true)
  })

  it('that fail have the event sent again, and say so to `onError` only', async () => {
    const onError = vi.fn()
    const { receiver, post } = stage({ onError })
    receiver.on('*', () => {
      throw new Error('the secret of our database')
    })
    const [status, answer] = await post(signed())
    expect([status, answer.error.code]).toEqual([500, 'EVENT_NOT_HANDLED'])
    expect(JSON.stringify(answer)).not.toContain('database')
    expect(onError).toHaveBeenCalledWith(
      new Error('the secret of our database'),
      JSON.parse(eventBody),
    )
  })

  it('that fail are heard of without `onError`, too', async () => {
    const print = vi.spyOn(console, 'error').mockImplementation(() => {})
    const { receiver, post } = stage({ onError: undefined })
    receiver.on('*', () => Promise.reject(new Error('boom')))
    expect((await post(signed()))[0]).toBe(500)
    expect(print).toHaveBeenCalledWith(
      'Webhook receiver: message.delivered evt_1 not handled:',
      new Error('boom'),
    )
    print.mockRestore()
  })

  it('have the last word even when `onError` throws', async () => {
    const { receiver, post } = stage({
      onError: () => {
        throw new Error('of the logger')
      },
    })
    receiver.on('*', () => {
      throw new Error('of the handler')
    })
    expect((await post(signed()))[0]).toBe(500)
  })

  it('have the last word even when the hooks are async, and reject or never end', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    const away = () => Promise.reject(new Error('no database'))
    const seen = { begin: async () => ({ done: away, failed: away }) }
    for (const hook of [() => Promise.reject(new Error('logger')), () => new Promise(() => {})]) {
      const { receiver, post } = stage({ onError: hook, onRefused: hook, seen })
      expect((await post({ headers: {}, body: '' }))[0]).toBe(401)
      expect((await post(signed()))[0]).toBe(200)
      receiver.on('*', () => {})
      expect((await post(signed()))[0]).toBe(200)
      receiver.on('*', () => Promise.reject(new Error('of the handler')))
      expect((await post(signed()))[0]).toBe(500)
    }
    // Node tells of unhandled rejections before the next turn.
    await new Promise(setImmediate)
    process.off('unhandledRejection', unhandled)
    expect(unhandled).not.toHaveBeenCalled()
  })

  it('that are missing leave an event acknowledged, or refused when wanted', async () => {
    expect(await stage().post(signed())).toEqual([200, { received: 1 }])
    const [status, answer] = await stage({ unhandled: 'refuse' }).post(signed())
    expect([status, answer.error.code]).toEqual([400, 'EVENT_TYPE_UNHANDLED'])
  })

  it("that are missing never make a sender's test fail: the address and the secret are right", async () => {
    const test = signed({ body: eventBody.replace('message.delivered', 'webhook.test') })
    expect(test.body).toContain('webhook.test')
    expect(await stage({ unhandled: 'refuse' }).post(test)).toEqual([200, { received: 1 }])
  })
})

describe('answers', () => {
  const forged = (): Signed => ({ ...signed(), body: eventBody.replace('evt_1', 'evt_2') })

  it.each<[number, string, () => Signed, ReceiverOptions?]>([
    [401, 'SIGNATURE_INVALID', forged],
    [401, 'HEADER_MISSING', () => ({ headers: {}, body: eventBody })],
    [401, 'TIMESTAMP_TOO_OLD', () => signed({ timestamp: String(nowMs / 1_000 - 301) })],
    [401, 'TIMESTAMP_TOO_NEW', () => signed({ timestamp: String(nowMs / 1_000 + 301) })],
    [400, 'TIMESTAMP_INVALID', () => signed({ timestamp: '1e9' })],
    [400, 'HEADER_INVALID', () => signed({ id: 'a.b' })],
    [400, 'BODY_INVALID', () => signed({ body: '{' })],
    [400, 'EVENT_INVALID', () => signed({ body: '"hello"' })],
    [400, 'EVENT_INVALID', () => signed({ body: 'null' })],
    [400, 'EVENT_INVALID', () => signed({ body: '[{"type":"a"},null]' })],
    [413, 'BODY_TOO_LARGE', () => signed(), { maxBodyBytes: 20 }],
  ])('%i %s', async (status, code, request, options) => {
    const onRefused = vi.fn()
    const { post, calls, on, onError } = stage({ onRefused, ...options })
    on('*')
    const [got, answer] = await post(request())
    expect([got, answer.error.code]).toEqual([status, code])
    expect(calls).toEqual([])
    expect(onError).not.toHaveBeenCalled()
    expect(onRefused).toHaveBeenCalledTimes(1)
  })

  it('500 for what is our own fault: the sender must not give the event up', async () => {
    const unset = stage({ secret: undefined })
    expect((await unset.post(signed()))[1].error.code).toBe('EVENT_NOT_HANDLED')
    expect(unset.onError.mock.calls).toMatchObject([[{ code: 'SECRET_MISSING' }, undefined]])

    const parsed = stage()
    const answer = await parsed.receiver.receive({ ...signed(), body: JSON.parse(eventBody) })
    expect(answer.status).toBe(500)
    expect(parsed.onError.mock.calls[0]?.[0]).toMatchObject({ code: 'BODY_ALREADY_PARSED' })

    const read = stage()
    const request = new Request('https://a.example', { method: 'POST', ...signed() })
    await request.text()
    expect((await read.receiver.handle(request)).status).toBe(500)
    expect(read.onError.mock.calls[0]?.[0]).toMatchObject({ code: 'BODY_ALREADY_PARSED' })
  })

  it('a receiver that names no secret is refused at once; one that is not set, at the first request', () => {
    const missing = expect.objectContaining({ code: 'SECRET_MISSING' })
    expect(() => createReceiver({})).toThrow(missing)
    expect(() => createReceiver({ toleranceSeconds: 5 })).toThrow(missing)
    // A build may load the module without its environment.
    for (const name of ['secret', 'secrets', 'publicKey']) createReceiver({ [name]: undefined })
  })

  it('413 without reading what is announced or turns out to be too large', async () => {
    const { receiver } = stage({ maxBodyBytes: 1_000 })
    const announced = new Request('https://a.example', {
      method: 'POST',
      headers: { 'content-length': '1001' },
      body: 'x',
    })
    expect((await receiver.handle(announced)).status).toBe(413)
    expect(announced.bodyUsed).toBe(false)

    let pulled = 0
    const endless = new ReadableStream({
      pull(controller) {
        pulled += 1
        controller.enqueue(new Uint8Array(100))
      },
    })
    const { headers } = signed()
    const init = { method: 'POST', headers, body: endless, duplex: 'half' } as const
    expect((await receiver.handle(new Request('https://a.example', init))).status).toBe(413)
    expect(pulled).toBeLessThan(15)
  })

  it('401 and not a crash for a client that goes away in the middle', async () => {
    const { receiver, onError } = stage()
    const broken = new ReadableStream({
      pull() {
        throw new Error('aborted')
      },
    })
    const { headers } = signed()
    const init = { method: 'POST', headers, body: broken, duplex: 'half' } as const
    expect((await receiver.handle(new Request('https://a.example', init))).status).toBe(401)
    expect(onError).not.toHaveBeenCalled()
  })

  it('a request without a body', async () => {
    const { receiver } = stage()
    expect((await receiver.handle(new Request('https://a.example'))).status).toBe(401)
  })

  it('wrong options at once', () => {
    expect(() => createReceiver({ secret: 'whsec_' })).toThrow('whsec_')
    expect(() => createReceiver({ secret, maxBodyBytes: 0 })).toThrow('maxBodyBytes')
  })
})

describe('deduplication', () => {
  it('I14: handles a replayed request once, within the tolerance', async () => {
    const { on, calls, post } = stage({ seen: seenInMemory() })
    on('*')
    expect((await post(signed()))[0]).toBe(200)
    expect((await post(signed()))[0]).toBe(200)
    expect((await post(signed({ timestamp: String(nowMs / 1_000 + 1) })))[0]).toBe(200)
    expect(calls).toEqual(['* evt_1'])
  })

  it('does not remember what no handler wanted', async () => {
    const seen = seenInMemory()
    await stage({ seen }).post(signed())
    const later = stage({ seen })
    later.on('*')
    await later.post(signed())
    expect(later.calls).toEqual(['* evt_1'])
  })

  it('handles it again after it failed', async () => {
    const { receiver, post } = stage({ seen: seenInMemory() })
    let tries = 0
    receiver.on('*', () => {
      tries += 1
      if (tries === 1) throw new Error('not yet')
    })
    expect((await post(signed()))[0]).toBe(500)
    expect((await post(signed()))[0]).toBe(200)
    expect((await post(signed()))[0]).toBe(200)
    expect(tries).toBe(2)
  })

  it('asks to come back while the same event is being handled', async () => {
    const { receiver, post } = stage({ seen: seenInMemory() })
    let letGo = () => {}
    let tries = 0
    receiver.on('*', () => {
      tries += 1
      return new Promise<void>((resolve) => {
        letGo = resolve
      })
    })
    const first = post(signed())
    await vi.waitFor(() => expect(tries).toBe(1))
    const second = await receiver.receive(signed())
    expect([second.status, second.headers['retry-after']]).toEqual([503, '1'])
    letGo()
    expect((await first)[0]).toBe(200)
    expect((await post(signed()))[0]).toBe(200)
    expect(tries).toBe(1)
  })

  it('handles nothing when the store of seen events is away', async () => {
    const seen = { begin: () => Promise.reject(new Error('no database')) }
    const { on, calls, post, onError } = stage({ seen })
    on('*')
    expect((await post(signed()))[0]).toBe(500)
    expect(calls).toEqual([])
    expect(onError).toHaveBeenCalledWith(new Error('no database'), JSON.parse(eventBody))
  })

  it('keeps its answer when only the note of it fails', async () => {
    const away = () => Promise.reject(new Error('no database'))
    const seen = { begin: async () => ({ done: away, failed: away }) }
    const { receiver, post, onError } = stage({ seen })
    let fail = false
    receiver.on('*', () => {
      if (fail) throw new Error('boom')
    })
    expect((await post(signed()))[0]).toBe(200)
    fail = true
    expect((await post(signed()))[0]).toBe(500)
    expect(onError.mock.calls.map(([error]) => error.message)).toEqual([
      'no database',
      'boom',
      'no database',
    ])
  })

  it('goes by the signed id, and only without one by that of the body', async () => {
    const foreign = (id: string) => signed({ id, body: '{"type":"user.updated","id":"user_1"}' })
    const { on, calls, post } = stage({ seen: seenInMemory() })
    on('*')
    await post(foreign('msg_1'))
    await post(foreign('msg_2'))
    await post(foreign('msg_2'))
    expect(calls).toHaveLength(2)
  })
})

describe('batches', () => {
  const member = (id: string) => eventBody.replace('evt_1', id)
  const batch = (...ids: string[]) =>
    signed({ id: 'bat_1', body: `[${ids.map(member).join(',')}]` })

  it('are taken apart', async () => {
    const { on, calls, post } = stage()
    on('*')
    expect(await post(batch('a', 'b', 'c'))).toEqual([200, { received: 3 }])
    expect(calls).toEqual(['* a', '* b', '* c'])
    expect(await post(batch())).toEqual([200, { received: 0 }])
  })

  it('are repeated for the event that failed alone', async () => {
    const { receiver, post } = stage({ seen: seenInMemory() })
    const calls: string[] = []
    receiver.on('*', ({ id }) => {
      calls.push(id)
      if (id === 'b' && calls.length < 4) throw new Error('not yet')
    })
    expect((await post(batch('a', 'b', 'c')))[0]).toBe(500)
    expect((await post(batch('a', 'b', 'c')))[0]).toBe(200)
    expect(calls).toEqual(['a', 'b', 'c', 'b'])
  })

  it('share their ids with the same events sent alone', async () => {
    const { on, calls, post } = stage({ seen: seenInMemory() })
    on('*')
    await post(signed())
    await post(batch('evt_1', 'evt_2', 'evt_2'))
    expect(calls).toEqual(['* evt_1', '* evt_2'])
  })

  it('of senders that give their members no id are told apart by place', async () => {
    const { on, calls, post } = stage({ seen: seenInMemory() })
    on('*')
    const request = signed({ id: 'bat_1', body: '[{"type":"a"},{"type":"a"}]' })
    await post(request)
    await post(request)
    expect(calls).toHaveLength(2)
  })

  it('with one failed and one busy event say failed', async () => {
    const seen = {
      begin: async (id: string) =>
        id === 'b' ? ('busy' as const) : { done: async () => {}, failed: async () => {} },
    }
    const { receiver, post } = stage({ seen })
    receiver.on('*', ({ id }) => {
      if (id === 'a') throw new Error('boom')
    })
    expect((await post(batch('a', 'b')))[0]).toBe(500)
    expect((await post(batch('b', 'a')))[0]).toBe(500)
    expect((await post(batch('b', 'c')))[0]).toBe(503)
  })
})

function stage(options: ReceiverOptions = {}) {
  const onError = vi.fn()
  const receiver = createReceiver({ secret, nowMs: () => nowMs, onError, ...options })
  const calls: string[] = []
  return {
    receiver,
    onError,
    calls,
    on: (type: string) => receiver.on(type, (event) => calls.push(`${type} ${event.id}`)),
    post: async (request: Signed) => {
      const init = { method: 'POST', headers: request.headers, body: request.body }
      const response = await receiver.handle(new Request('https://a.example/hook', init))
      expect(response.headers.get('content-type')).toBe('application/json')
      return [response.status, await response.json()] as [number, { error: { code: string } }]
    },
  }
}
