// @ts-check
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { nextHandler } from '@k-msg/webhook/receiver/next'

const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
  .on('message.delivered', async (event) => {
    // Your work goes here. The sender gets its 200 when this has succeeded, and tries again otherwise.
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

export const POST = nextHandler(receiver)
