// @ts-check
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { expressHandler } from '@k-msg/webhook/receiver/express'
import express from 'express'

const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
  .on('message.delivered', async (event) => {
    // Your work goes here. The sender gets its 200 when this has succeeded, and tries again otherwise.
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

const app = express()
app.post('/webhooks', expressHandler(receiver)) // before express.json(): it needs the raw bytes
app.use(express.json())
app.get('/', (_request, response) => {
  response.send('POST webhooks to /webhooks')
})

const port = Number(process.env.PORT ?? 3000)
app.listen(port, '127.0.0.1', (error) => {
  if (error) throw error
  console.log(`listening on http://127.0.0.1:${port}/webhooks`)
})
