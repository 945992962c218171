// @k-msg/webhook: one endpoint each, as a customer registers it.

import { join } from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { postgresStorage } from '../contenders/ours-postgres.mjs'
import { SECRET } from '../contenders/request.mjs'

const QUIET = { debug() {}, info() {}, warn() {}, error() {} }

export async function open({ endpoints, directory, connection, retryDelayMs, ratePerSecond }) {
  const postgres = connection ? await postgresStorage(connection) : null
  const service = new WebhookService({
    storage: postgres?.storage ?? join(directory, 'webhooks.db'),
    secretKey: SECRET,
    allowedNetworks: ['127.0.0.0/8'],
    logger: QUIET,
    retryScheduleMs: Array(60).fill(retryDelayMs),
  })
  await service.ready()
  await Promise.all(
    endpoints.map(({ url, tenantId }, i) =>
      service.registerEndpoint({
        id: `endpoint-${i}`,
        url,
        events: ['*'],
        secret: SECRET,
        ...(ratePerSecond && { rateLimit: { limit: ratePerSecond, perMs: 1000 } }),
        ...(tenantId ? { tenantId } : { filters: { channelId: [String(i)] } }),
      }),
    ),
  )
  const at = (event, endpoint) => ({
    ...event,
    metadata: { channelId: String(endpoint) },
    ...(endpoints[endpoint].tenantId && { tenantId: endpoints[endpoint].tenantId }),
  })
  return {
    dispatch: (event, endpoint) => service.dispatchEvent(at(event, endpoint)),
    dump: (events, endpoint) => service.dispatchEvents(events.map((one) => at(one, endpoint))),
    close: () => service.close(),
  }
}
