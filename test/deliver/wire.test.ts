import { createHmac } from 'node:crypto'
import { expect, it } from 'vitest'
import { WebhookDispatcher } from '../../src/deliver/dispatcher.ts'
import {
  attempt,
  attemptRequest,
  endpointRecord,
  receive,
  receiveRaw,
  testSecret,
} from './receivers.ts'

const allowedNetworks = ['127.0.0.0/8']
const key = Buffer.from(testSecret.slice('whsec_'.length), 'base64')

it('sends exactly the headers and the bytes of the protocol', async () => {
  await using receiver = await receive()
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, {
    allowedNetworks,
    nowMs: () => 1_767_225_600_999,
  })
  const body = Buffer.from('{"id":"evt_123","data":"안녕"}')
  const report = await attempt(
    dispatcher,
    attemptRequest(endpointRecord(`${receiver.url}?a=b`, { headers: { 'X-Team': 'billing' } }), {
      body,
      attempt: 3,
    }),
  )
  expect(report).toMatchObject({
    outcome: { kind: 'accepted', status: 200, redirected: false },
    startedAtMs: 1_767_225_600_999,
  })
  expect(Buffer.from(report.responseBody ?? []).toString()).toBe('ok')
  const [request] = receiver.requests
  expect(request?.body.equals(body)).toBe(true)
  expect(request).toMatchObject({ method: 'POST', url: '/hook?a=b' })
  expect(request?.rawHeaders).toEqual([
    ...['host', `127.0.0.1:${receiver.port}`],
    ...['connection', 'keep-alive'],
    ...['content-type', 'application/json'],
    ...['accept-encoding', 'identity'],
    ...['user-agent', 'K-Message-Webhook/0.2.0'],
    ...['X-Team', 'billing'],
    ...['webhook-id', 'evt_123'],
    ...['webhook-timestamp', '1767225600'],
    ...['X-Webhook-Timestamp', '1767225600'],
    ...['X-Webhook-ID', 'evt_123'],
    ...['X-Webhook-Event', 'message.sent'],
    ...['X-Webhook-Delivery', 'dlv_1'],
    ...['X-Webhook-Attempt', '3'],
    'webhook-signature',
    `v1,${createHmac('sha256', key)
      .update(Buffer.concat([Buffer.from('evt_123.1767225600.'), body]))
      .digest('base64')}`,
    ...['X-Webhook-Signature', `sha256=${createHmac('sha256', key).update(body).digest('hex')}`],
    ...['content-length', String(body.length)],
  ])
  await dispatcher.close()
})

it.each([1, 16_384, 16_385, 1_000_000])('sends a body of %i bytes as it is', async (length) => {
  await using receiver = await receive()
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks })
  const body = Uint8Array.from({ length }, (_, i) => (i * 31) % 256)
  // A view into something larger is its own bytes only.
  const view = new Uint8Array(Uint8Array.from([7, ...body.subarray(0, 9), 7]).buffer, 1, 1)
  for (const sent of [body, view]) {
    await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url), { body: sent }))
    expect(receiver.requests.at(-1)?.body.equals(sent)).toBe(true)
  }
  expect(receiver.sockets).toHaveLength(1)
  await dispatcher.close()
})

it.each([
  ['id', { eventId: 'evt\r\nx: y' }],
  ['type', { eventType: 'message sent' }],
  ['delivery', { deliveryId: 'dlv_안' }],
])('sends nothing whose %s would not stay in its header', async (_, changes) => {
  await using receiver = await receive()
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url), changes))
  expect(report.outcome).toEqual({ kind: 'unreachable', code: 'EVENT_INVALID' })
  expect(receiver.requests).toHaveLength(0)
  await dispatcher.close()
})

it('reads past interim answers that it did not ask for', async () => {
  await using receiver = await receiveRaw((socket) => {
    socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
  })
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks })
  const report = await attempt(dispatcher, attemptRequest(endpointRecord(receiver.url)))
  expect(report.outcome).toMatchObject({ kind: 'accepted', status: 200 })
  await dispatcher.close()
})

it('reuses the connection, also for the attempt that follows a report', async () => {
  await using receiver = await receive()
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, { allowedNetworks })
  const endpoint = endpointRecord(receiver.url)
  let left = 20
  await new Promise<void>((resolve) => {
    const next = () => {
      left -= 1
      if (left < 0) resolve()
      else dispatcher.attempt(attemptRequest(endpoint), next)
    }
    next()
  })
  await attempt(dispatcher, attemptRequest(endpoint))
  expect(receiver.requests).toHaveLength(21)
  expect(receiver.sockets).toHaveLength(1)
  await dispatcher.close()
})
