// One of several processes that share a store: accepts its share of the events, and delivers
// whatever the store hands it. How much all have delivered together, the coordinator says
// (../fleet.mjs), which also holds the clock.

import { Progress } from './progress.mjs'
import { feedShare } from './throughput.mjs'

const TELL_EVERY_MS = 10

process.once('message', async ({ contender: { module, settings = {} }, setup, share }) => {
  try {
    const all = new Progress()
    let own = 0
    const { open } = await import(`../contenders/${module}.mjs`)
    const contender = await open({
      ...setup,
      settings,
      onDelivered: (count) => {
        own += count
      },
      onError: (error) => process.send({ error: String(error?.stack ?? error) }),
    })
    process.send({ opened: true })
    await once('go')
    const before = contender.roundTrips?.() ?? 0
    const timer = setInterval(() => process.send({ own }), TELL_EVERY_MS)
    process.on('message', ({ delivered }) => {
      if (delivered !== undefined) all.onDelivered(delivered - all.delivered)
    })
    const feeding = feedShare(contender, all, { ...share, onSent: () => own++ })
    await Promise.all([feeding, once('stop')])
    clearInterval(timer)
    const roundTrips = contender.roundTrips && contender.roundTrips() - before
    const peakRssMb = process.resourceUsage().maxRSS / 1024
    await contender.close()
    process.send({ own, roundTrips, peakRssMb, closed: true }, () => process.exit())
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) }, () => process.exit(1))
  }
})
process.on('disconnect', () => process.exit(1))

function once(word) {
  return new Promise((resolve) => {
    const listen = (message) => {
      if (!message[word]) return
      process.off('message', listen)
      resolve(message)
    }
    process.on('message', listen)
  })
}
