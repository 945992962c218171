// What people do today: one BullMQ queue for all webhooks, the sender in its processor.

import { Queue, Worker } from 'bullmq'
import { createClient } from 'redis'
import { createSender } from '../contenders/request.mjs'

const QUEUE = 'webhooks'
const CONCURRENCY = 512

export async function open({ endpoints, connection, retryDelayMs, ratePerSecond }) {
  const sender = createSender(
    endpoints.map(({ url }) => url),
    CONCURRENCY * 10,
  )
  const clients = [0, 1].map(() => createClient({ socket: connection }))
  const queue = new Queue(QUEUE, { connection: clients[0] })
  const worker = new Worker(QUEUE, ({ data }) => sender.send(data.event, data.endpoint), {
    connection: clients[1],
    concurrency: CONCURRENCY,
    ...(ratePerSecond && { limiter: { max: ratePerSecond, duration: 1000 } }),
  })
  worker.on('error', () => {})
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()])
  const opts = {
    removeOnComplete: true,
    attempts: 61,
    backoff: { type: 'fixed', delay: retryDelayMs },
  }
  return {
    dispatch: (event, endpoint) => queue.add('deliver', { event, endpoint }, opts),
    async dump(events, endpoint) {
      for (let i = 0; i < events.length; i += 1000) {
        const some = events.slice(i, i + 1000)
        await queue.addBulk(
          some.map((event) => ({ name: 'deliver', data: { event, endpoint }, opts })),
        )
      }
    },
    // What hangs is left: its process ends.
    close: async () => {},
  }
}
