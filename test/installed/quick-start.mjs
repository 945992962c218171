// A user's program: runs against the installed package, on Node and Bun, as files and bundled.
// It fails by throwing. One async function, because a CommonJS bundle allows no top-level await.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { SecurityManager, WebhookEventType, WebhookService } from '@k-msg/webhook'

const secret = 'a-secret-of-the-quick-start'

void main()

async function main() {
  const receiver = await listen()
  await deliversOneEvent(receiver)
  await refusesPrivateAddresses(receiver)
  receiver.server.close()
  console.log('quick start ok')
}

async function deliversOneEvent(receiver) {
  const service = new WebhookService({ allowedNetworks: ['127.0.0.0/8'] })
  await service.registerEndpoint({
    id: 'quick-start',
    url: receiver.url,
    events: [WebhookEventType.MESSAGE_SENT],
    secret,
  })
  await service.dispatchEvent({
    id: 'evt_quick',
    type: WebhookEventType.MESSAGE_SENT,
    timestamp: new Date(),
    data: { messageId: 'msg_1', text: '안녕하세요' },
    metadata: {},
    version: '1.0',
  })
  await service.drain()
  const stats = await service.getStats()
  await service.close()

  assert.equal(stats.successfulDeliveries, 1)
  assert.equal(receiver.requests.length, 1)
  const [{ headers, body }] = receiver.requests
  assert.equal(JSON.parse(body).id, 'evt_quick')
  assert.equal(headers['webhook-id'], 'evt_quick')
  const security = new SecurityManager()
  assert.equal(security.verifySignature(body, headers['x-webhook-signature'], secret), true)
}

// The guard sits in the connector: where a runtime's own sockets looked names up by themselves, it
// would vanish without a word. The endpoint is the one stored above.
async function refusesPrivateAddresses(receiver) {
  const service = new WebhookService({})
  const result = await service.testEndpoint('quick-start')
  await service.close()

  assert.equal(result.success, false)
  assert.equal(receiver.requests.length, 1)
}

async function listen() {
  const requests = []
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    requests.push({ headers: request.headers, body: Buffer.concat(chunks).toString() })
    response.end('ok')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, requests, url: `http://127.0.0.1:${server.address().port}/webhooks` }
}
