// A process that leaves waits for the threads that are inside SQLite, and for no others.
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { startThread } from '../../src/storage/sqlite/leaving.ts'

/** Goes inside, says so, and comes out when it is told to, if ever. */
const visitor = `
  import { parentPort, workerData } from 'node:worker_threads'
  const state = new Int32Array(workerData.door)
  const [isLeaving, inside] = [0, 1]
  Atomics.add(state, inside, 1)
  parentPort.postMessage('inside')
  if (workerData.job.comesOut) {
    while (Atomics.load(state, isLeaving) === 0) Atomics.wait(state, isLeaving, 0, 10)
    Atomics.sub(state, inside, 1)
    Atomics.notify(state, inside)
  }
  setInterval(() => {}, 1_000)
`

async function visit(comesOut: boolean) {
  const data = { location: '', loadFrom: [], job: { comesOut } }
  const code = `data:text/javascript,${encodeURIComponent(visitor)}`
  const thread = startThread({ ...data, code } as never, 'visitor')
  await once(thread, 'message')
  return thread
}

/** What the process does last. @returns how long that took */
function leave(): number {
  const startMs = performance.now()
  for (const listener of process.listeners('exit')) {
    if (listener.name === 'closeDoors') listener(0)
  }
  return performance.now() - startMs
}

test('a thread that was ended inside is not waited for, one that is still inside is', async () => {
  const stuck = await visit(false)
  await stuck.terminate()
  expect(leave()).toBeLessThan(1_000)
  const inside = await visit(true)
  expect(leave()).toBeLessThan(1_000)
  await inside.terminate()
  const stays = await visit(false)
  // The longest wait is three seconds.
  expect(leave()).toBeGreaterThan(2_900)
  await stays.terminate()
}, 20_000)
