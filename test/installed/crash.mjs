// A user's bad day: a process accepts events while its receiver is down, and is killed. A second
// process on the same file delivers all of them. Runs against the installed package.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { WebhookEventType, WebhookService } from '@k-msg/webhook'

const ids = Array.from({ length: 50 }, (_, index) => `evt_crash_${index}`)
const config = {
  allowedNetworks: ['127.0.0.0/8'],
  secretKey: 'a-secret-of-the-crash',
  retryScheduleMs: [300, 300, 300, 300, 300, 300, 300, 300, 300, 300],
}

if (process.argv[2] === 'accept') await acceptAndDie(process.argv[3])
else await crashAndRestart()

async function crashAndRestart() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')

  const url = `http://127.0.0.1:${port}/`
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'accept', url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let accepted = ''
  child.stdout.on('data', (chunk) => {
    accepted += chunk
  })
  const [, signal] = await once(child, 'close')
  assert.equal(signal, 'SIGKILL')
  assert.equal(accepted, 'accepted 50\n')

  const arrived = await receive(port)
  const service = new WebhookService(config)
  await service.drain()
  await service.close()
  arrived.server.close()
  assert.deepEqual([...arrived.ids].sort(), [...ids].sort())
  console.log('crash and restart ok')
}

async function acceptAndDie(url) {
  const service = new WebhookService(config)
  await service.registerEndpoint({ id: 'crash', url, events: [WebhookEventType.MESSAGE_SENT] })
  await service.dispatchEvents(
    ids.map((id) => ({
      id,
      type: WebhookEventType.MESSAGE_SENT,
      timestamp: new Date(),
      data: {},
      metadata: {},
      version: '1.0',
    })),
  )
  process.stdout.write(`accepted ${ids.length}\n`, () => process.kill(process.pid, 'SIGKILL'))
}

async function receive(port) {
  const ids = new Set()
  const server = createServer((request, response) => {
    ids.add(request.headers['webhook-id'])
    request.resume()
    response.end()
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return { server, ids }
}
