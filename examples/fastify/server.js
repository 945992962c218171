// @ts-check
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { fastifyPlugin } from '@k-msg/webhook/receiver/fastify'
import fastify from 'fastify'

const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
  .on('message.delivered', async (event) => {
    // Your work goes here. The sender gets its 200 when this has succeeded, and tries again otherwise.
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

const app = fastify()
// A scope of its own, which keeps the raw bytes; other routes go on parsing JSON.
await app.register(fastifyPlugin, { path: '/webhooks', receiver })
app.get('/', async () => 'POST webhooks to /webhooks')

const port = Number(process.env.PORT ?? 3000)
await app.listen({ host: '127.0.0.1', port })
console.log(`listening on http://127.0.0.1:${port}/webhooks`)
