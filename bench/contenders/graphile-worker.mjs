// e) graphile-worker on PostgreSQL. With batched completion a job counts as delivered when it
// has been handed to the completion batch, shortly before the commit. That is in its favour.

import { EventEmitter } from 'node:events'
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { createSender } from './request.mjs'

export async function open({ urls, inFlight, connection, settings, onDelivered, onError }) {
  const sender = createSender(urls, inFlight)
  const { host, port, user, database } = connection
  const events = new EventEmitter()
  const shared = {
    connectionString: `postgres://${user}@${host}:${port}/${database}`,
    // Its logger prints a line per job.
    logger: new Logger(() => () => {}),
  }
  const producer = await makeWorkerUtils(shared)
  await producer.migrate()
  const runner = await run({
    ...shared,
    concurrency: settings.concurrency,
    events,
    noHandleSignals: true,
    parsedCronItems: [],
    preset: { worker: settings.worker },
    taskList: { deliver: (data) => sender.send(data.event, data.endpoint) },
  })
  events.on('job:complete', () => onDelivered(1))
  events.on('job:error', ({ error }) => onError(error))
  return {
    async accept(items) {
      await producer.addJobs(items.map((payload) => ({ identifier: 'deliver', payload })))
    },
    async close() {
      await runner.stop()
      await producer.release()
      await sender.close()
    },
  }
}
