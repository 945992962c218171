// b) @k-msg/webhook through its public API: every accept synced to disk before its promise
// resolves (SQLite `synchronous=FULL`, PostgreSQL `synchronous_commit=on`), an outcome and an
// attempt recorded for each delivery.

import { join } from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { channelOf } from '../workload/events.mjs'
import { postgresStorage } from './ours-postgres.mjs'
import { SECRET } from './request.mjs'

export async function open(setup) {
  const { urls, endpoints, inFlight, processes = 1, directory, onDelivered, onError } = setup
  const postgres = setup.connection ? await postgresStorage(setup.connection) : null
  const service = new WebhookService({
    storage: postgres?.storage ?? join(directory, 'webhooks.db'),
    secretKey: SECRET,
    allowedNetworks: ['127.0.0.0/8'],
    // As many requests under way as every other contender has.
    maxConcurrency: inFlight,
    // Warnings (the default schedule gives up after 7 s) are right, and not for a bench to print.
    logger: {
      debug() {},
      info() {},
      warn() {},
      error: (fields, message) => onError(new Error(`${message} ${JSON.stringify(fields)}`)),
    },
  })
  await service.ready()
  // More endpoints than addresses only where matching is measured, not sending.
  const registered = Array.from({ length: endpoints }, (_, i) =>
    service.registerEndpoint({
      id: `endpoint-${i}`,
      url: urls[i % urls.length],
      name: `endpoint ${i}`,
      events: ['*'],
      // The limit of an endpoint is one for all processes.
      concurrency: inFlight * processes,
      // A single endpoint gets everything, one of many the events of its channel.
      ...(endpoints > 1 && { filters: { channelId: [channelOf(i)] } }),
    }),
  )
  await Promise.all(registered)
  service.on('delivery.delivered', () => onDelivered(1))
  service.on('delivery.failed', ({ reason }) => onError(new Error(`a delivery failed: ${reason}`)))

  return {
    // One call per event, as an app makes them: the engine has to find its batches itself.
    accept: (items) => Promise.all(items.map(({ event }) => service.dispatchEvent(event))),
    acceptMany: (events) => service.dispatchEvents(events),
    ...(postgres && { roundTrips: postgres.roundTrips }),
    async close() {
      await service.drain()
      await service.close()
    },
  }
}
