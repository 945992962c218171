/**
 * A process that rotates a secret, or lives on after that, and dies by SIGKILL: the built package on
 * a file, at a time that is handed in.
 *
 *   node rotating-child.mjs '{"dataFile", "url", "nowMs", "oldSecret", "newSecret", "overlapMs", "step"}'
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const { WebhookService } = await import('../../dist/index.js')
const { manualClock } = await import('../../dist/testing/index.js')

const { dataFile, url, nowMs, oldSecret, newSecret, overlapMs, step } = JSON.parse(process.argv[2])
const service = new WebhookService({
  storage: dataFile,
  clock: manualClock(nowMs),
  allowedNetworks: ['127.0.0.0/8'],
  logger: false,
  retryScheduleMs: Array(5).fill(1_000),
})
await service.ready()

/** The store's thread clears its log when it rests; each question gives it a moment to. */
async function untilCleared() {
  const folder = path.dirname(dataFile)
  const holdsOld = (file) => readFileSync(path.join(folder, file)).includes(oldSecret)
  for (let i = 0; i < 1_000 && readdirSync(folder).some(holdsOld); i += 1) await service.health()
}

const steps = {
  async rotate() {
    await service.registerEndpoint({ id: 'shop', url, events: ['*'], secret: oldSecret })
    await service.dispatchEvent({ id: 'evt_1', type: 'a.b', timestamp: new Date(nowMs), data: 1 })
    await service.runDue()
    await service.rotateSecret('shop', { secret: newSecret, overlapMs })
  },
  retry: () => service.runDue(),
  'live on': untilCleared,
}
await steps[step]()
process.kill(process.pid, 'SIGKILL')
