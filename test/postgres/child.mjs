// One process of several: accepts its events and delivers what is due on the database it is given,
// until it is killed; with `replay` (per second) it then has them sent again. To a file, so that no
// kill can take it back: `= event` once one is stored, `+ delivery` and `@ delivery time` before each
// request, `- delivery` once its outcome is written.
import { once } from 'node:events'
import { openSync, writeSync } from 'node:fs'
import { WebhookDispatcher, WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { watchedDispatcher, watchedStorage } from '../crash/failpoints.mjs'

const [url, schema, ledgerFile, secretKey, name, count, more] = process.argv.slice(2)
const { leaseMs = 1_500, pauseMs = 0, replay, isHeld = false, ...others } = JSON.parse(more ?? '{}')
const ledger = openSync(ledgerFile, 'a')
const note = (sign, ids) => writeSync(ledger, ids.map((id) => `${sign} ${id}\n`).join(''))
const Dispatcher = watchedDispatcher(
  WebhookDispatcher,
  () => {},
  ({ deliveryId }) => {
    note('+', [deliveryId])
    note('@', [`${deliveryId} ${Date.now()}`])
  },
)
const storage = watchedStorage(
  postgres(url, { schema, leaseMs: Number(leaseMs) }),
  () => {},
  (verb, [group]) => {
    if (verb !== 'commit') return
    const ended = [...group.settlements, ...group.releases].map(({ deliveryId }) => deliveryId)
    if (ended.length > 0) note('-', ended)
  },
)
const config = {
  storage,
  secretKey,
  allowedNetworks: ['127.0.0.0/8'],
  logger: false,
  retryScheduleMs: [100, 100, 100],
  ...others,
}
const service = new WebhookService(config, { dispatcher: new Dispatcher() })
await service.ready()
if (isHeld) {
  process.stdout.write('ready\n')
  await once(process.stdin, 'data')
  process.stdin.unref()
}
for (let i = 0; i < Number(count); i += 20) {
  const events = Array.from({ length: 20 }, (_, n) => ({
    id: `${name}_${i + n}`,
    type: 'message.sent',
    timestamp: new Date(),
    data: { by: name },
    metadata: {},
  }))
  await service.dispatchEvents(events)
  note(
    '=',
    events.map(({ id }) => id),
  )
  if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, Number(pauseMs)))
}
if (replay !== undefined) {
  await service.drain()
  await service.replay({ endpointId: 'hook', maxPerSecond: replay })
}
process.stdout.write('accepted\n')
