// d) BullMQ on Redis, the sender in its processor. A job is done when Redis has been told so.

import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { createSender } from './request.mjs'

const QUEUE = 'webhooks'

// The two clients that BullMQ takes; node-redis costs the process a fifth less.
const CLIENTS = {
  ioredis: {
    connect: (connection) => new Redis({ ...connection, maxRetriesPerRequest: null }),
    end: (client) => client.disconnect(),
  },
  'node-redis': {
    connect: (connection) => createClient({ socket: connection }),
    // BullMQ closes some of those that it is handed, and a second time is an error here.
    end: (client) => client.isOpen && client.destroy(),
  },
}

export async function open({ urls, inFlight, connection, settings, onDelivered, onError }) {
  const sender = createSender(urls, inFlight)
  const { connect, end } = CLIENTS[settings.client]
  const deliver = ({ data }) => sender.send(data.event, data.endpoint)

  const clients = Array.from({ length: 1 + settings.workers }, () => connect(connection))
  const queue = new Queue(QUEUE, { connection: clients[0] })
  const workers = clients.slice(1).map((client) => {
    const options = { connection: client, concurrency: settings.concurrency }
    const worker = new Worker(QUEUE, deliver, options)
    worker.on('completed', () => onDelivered(1))
    worker.on('failed', (_job, error) => onError(error))
    worker.on('error', onError)
    return worker
  })
  await Promise.all([queue, ...workers].map((part) => part.waitUntilReady()))

  const opts = { removeOnComplete: true, attempts: 4 }
  return {
    async accept(items) {
      await queue.addBulk(items.map((data) => ({ name: 'deliver', data, opts })))
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.close()))
      await queue.close()
      for (const client of clients) end(client)
      await sender.close()
    },
  }
}
