// e) pg-boss on PostgreSQL. It has no event for "completed": a job counts as delivered when its
// batch has been sent, before pg-boss has written that down. That is in its favour.

import PgBoss from 'pg-boss'
import { createSender } from './request.mjs'

const QUEUE = 'webhooks'

export async function open({ urls, inFlight, connection, settings, onDelivered, onError }) {
  const sender = createSender(urls, inFlight)
  const boss = new PgBoss(connection)
  boss.on('error', onError)
  await boss.start()
  await boss.createQueue(QUEUE)

  const workers = []
  const perWorker = Math.max(1, Math.floor(inFlight / settings.workers))
  for (let i = 0; i < settings.workers; i++) {
    const options = {
      batchSize: settings.batchSize,
      pollingIntervalSeconds: 0.5,
      priority: settings.priority,
    }
    const id = await boss.work(QUEUE, options, async (jobs) => {
      await inParallel(jobs, perWorker, (job) => sender.send(job.data.event, job.data.endpoint))
      onDelivered(jobs.length)
      // A worker that was notified fetches again at once, instead of at its next poll.
      if (settings.notify) boss.notifyWorker(id)
    })
    workers.push(id)
  }
  return {
    async accept(items) {
      await boss.insert(items.map((data) => ({ name: QUEUE, data, retryLimit: 3 })))
      if (settings.notify) for (const id of workers) boss.notifyWorker(id)
    },
    async close() {
      await boss.stop({ graceful: true, wait: true, timeout: 10_000 })
      await sender.close()
    },
  }
}

/** At most `limit` at once, as many as the other contenders have in flight. */
async function inParallel(jobs, limit, work) {
  let next = 0
  const loop = async () => {
    while (next < jobs.length) await work(jobs[next++])
  }
  await Promise.all(Array.from({ length: Math.min(limit, jobs.length) }, loop))
}
