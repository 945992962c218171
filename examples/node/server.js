// @ts-check
import { createServer } from 'node:http'
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { nodeHandler } from '@k-msg/webhook/receiver/node'

const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
  .on('message.delivered', async (event) => {
    // Your work goes here. The sender gets its 200 when this has succeeded, and tries again otherwise.
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

const handle = nodeHandler(receiver)
const server = createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/webhooks') await handle(request, response)
  else response.end('POST webhooks to /webhooks')
})

const port = Number(process.env.PORT ?? 3000)
server.listen(port, '127.0.0.1', () =>
  console.log(`listening on http://127.0.0.1:${port}/webhooks`),
)
