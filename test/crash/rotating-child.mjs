/**
 * A process that rotates a secret, or lives on after that, and dies by SIGKILL: the built package on
 * a file, at a time that is handed in.
 *
 *   node rotating-child.mjs '{"dataFile", "url", "nowMs", "oldSecret", "newSecret", "overlapMs", "step"}'
 */
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

switch (step) {
  case 'rotate':
    await service.registerEndpoint({ id: 'shop', url, events: ['*'], secret: oldSecret })
    await service.dispatchEvent({ id: 'evt_1', type: 'a.b', timestamp: new Date(nowMs), data: 1 })
    await service.runDue()
    await service.rotateSecret('shop', { secret: newSecret, overlapMs })
    break
  case 'retry':
    await service.runDue()
    break
  case 'retry, and clear away':
    await service.runDue()
    // Each question gives the store's thread a moment to look after its log.
    for (let i = 0; i < 20; i += 1) await service.health()
    break
  default:
    throw new Error(`Expected a step, got ${step}.`)
}
process.kill(process.pid, 'SIGKILL')
