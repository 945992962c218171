// @ts-check
import { serve } from '@hono/node-server'
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { honoHandler } from '@k-msg/webhook/receiver/hono'
import { Hono } from 'hono'

const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
  .on('message.delivered', async (event) => {
    // Your work goes here. The sender gets its 200 when this has succeeded, and tries again otherwise.
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

const app = new Hono()
app.post('/webhooks', honoHandler(receiver))
app.get('/', (c) => c.text('POST webhooks to /webhooks'))

// On Bun, Deno and Workers `export default app` is all it takes.
const port = Number(process.env.PORT ?? 3000)
serve({ fetch: app.fetch, hostname: '127.0.0.1', port }, () => {
  console.log(`listening on http://127.0.0.1:${port}/webhooks`)
})
