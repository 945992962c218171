import { expect, test } from 'vitest'
import { freeFlow } from '../../src/model/flow.ts'
import { Scheduler } from '../../src/schedule/scheduler.ts'
import type { Claim } from '../../src/storage/claims.ts'
import { claimOf, endpointRecord, settled } from '../engine/fakes.ts'

/** @returns µs of the scheduler for one delivery while so many endpoints have a backlog */
async function costWith(lanes: number): Promise<number> {
  const running: Claim[] = []
  let sent = 0
  const scheduler = new Scheduler(
    {
      clock: { nowMs: () => 1, setTimer: () => () => {} },
      store: {
        claim: (rooms) =>
          Promise.resolve({
            claims: rooms.flatMap(({ endpointKey, limit }) =>
              Array.from({ length: Math.min(limit, 4) }, () => claimOf('d', endpointKey)),
            ),
            heads: rooms.map(({ endpointKey }) => ({ endpointKey, dueAtMs: 0 })),
          }),
        changeBreaker: () => Promise.reject(new Error('Nothing fails here.')),
        takeSendTimes: () => Promise.reject(new Error('Nothing is limited here.')),
      },
      endpoint: (key) => endpointRecord(key),
      limits: () => ({
        concurrency: 10,
        isShared: false,
        rateLimit: null,
        timeoutMs: 1_000,
        batch: null,
      }),
      flow: freeFlow,
      breakerChanged: () => {},
      flows: { failed: () => {}, worked: () => {} },
      run: (claim) => {
        running.push(claim)
        sent += 1
      },
      release: () => {},
      isCancelled: () => false,
      congested: () => false,
      claims: { failed: () => {}, worked: () => {} },
      orphaned: () => {},
      quiet: () => {},
    },
    {
      maxConcurrency: 512,
      laneCapacity: 1_000,
      memoryCapacity: 20_000,
      memoryBytes: 64 * 1_048_576,
      maxBatchBytes: 262_144,
      delivers: true,
    },
  )
  scheduler.start()
  for (let i = 0; i < lanes; i += 1) scheduler.stored(`l${i}`, 0)
  await settled()
  const startMs = performance.now()
  const before = sent
  while (performance.now() - startMs < 1_000) {
    for (const claim of running.splice(0, 50)) scheduler.finished(claim)
    await settled()
  }
  return ((performance.now() - startMs) * 1_000) / (sent - before)
}

test('a delivery costs much the same when 10,000 endpoints have a backlog', async () => {
  const few = await costWith(10)
  const many = await costWith(10_000)
  console.log(`lanes: ${few.toFixed(1)} µs with 10, ${many.toFixed(1)} µs with 10,000`)
  // Looking at every full lane for every delivery made it 70 times as much.
  expect(many).toBeLessThan(few * 15)
})
