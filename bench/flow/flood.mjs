// More comes in than goes out, for a minute: what becomes of the memory, and of what is too much.
// `node bench/flow/flood.mjs` after `npm run build`.

import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { SECRET } from '../contenders/request.mjs'
import { startScript } from '../machine/child.mjs'
import { makeEvent } from '../workload/events.mjs'

const SECONDS = 60
const CHUNK = 200
const QUIET = { debug() {}, info() {}, warn() {}, error() {} }
const data = join(import.meta.dirname, '../.data')
mkdirSync(data, { recursive: true })
const folder = mkdtempSync(join(data, 'flood-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

const receiver = startScript(new URL('./endpoints.mjs', import.meta.url))
const { ports } = await receiver.ask({ listen: Array(4).fill(true) }, 10_000)
for (const limits of [{}, { maxBacklog: 20_000 }]) await flood(limits)
await receiver.stop()
process.exit()

async function flood(limits) {
  const file = join(folder, `${JSON.stringify(limits).length}.db`)
  const service = new WebhookService({
    storage: file,
    secretKey: SECRET,
    allowedNetworks: ['127.0.0.0/8'],
    logger: QUIET,
    ...limits,
  })
  await service.ready()
  for (const [i, port] of ports.entries()) {
    await service.registerEndpoint({
      id: `slow-${i}`,
      url: `http://127.0.0.1:${port}/hook`,
      events: ['*'],
      filters: { channelId: [String(i)] },
    })
  }
  const counts = { stored: 0, BACKLOG_FULL: 0 }
  const rssMb = []
  const endMs = performance.now() + SECONDS * 1_000
  let number = 0
  let sampledMs = performance.now()
  while (performance.now() < endMs) {
    const some = Array.from({ length: CHUNK }, () => {
      number += 1
      const metadata = { channelId: String(number % ports.length) }
      return service.dispatchEvent({ ...makeEvent(number, 1), id: `evt_${number}`, metadata })
    })
    for (const { status, reason } of await Promise.allSettled(some)) {
      counts[status === 'fulfilled' ? 'stored' : reason.code] += 1
    }
    if (performance.now() - sampledMs < 1_000) continue
    sampledMs = performance.now()
    rssMb.push(Math.round(process.memoryUsage().rss / 1024 / 1024))
  }
  const at = (second) => rssMb[Math.min(second, rssMb.length) - 1]
  console.log(
    `${JSON.stringify(limits)}: ${counts.stored} stored, ${counts.BACKLOG_FULL} refused as BACKLOG_FULL; ` +
      `RSS after 10, 30, ${SECONDS} s: ${at(10)}, ${at(30)}, ${at(SECONDS)} MB; ` +
      `the file: ${Math.round(statSync(file).size / 1024 / 1024)} MB`,
  )
  await service.close()
}
