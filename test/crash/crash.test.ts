import { once } from 'node:events'
import { beforeAll, describe, expect, test } from 'vitest'
import { dieOnce, makeWideFile, plans } from './die-at-step.ts'
import { failpoints } from './failpoints.mjs'
import { expectNothingLost, killAtRandom } from './kill-at-random.ts'
import { chooseSeed } from './random.ts'
import { Site } from './site.ts'

let wideFile = ''

beforeAll(async () => {
  const site = await Site.open()
  wideFile = await makeWideFile(site)
  return () => site[Symbol.asyncDispose]()
}, 60_000)

describe('a process killed at a named step loses nothing', () => {
  test('every named step has a plan that reaches it', () => {
    expect(
      failpoints.map((point) => point.split(' ')[1]).filter((step) => !(step! in plans)),
    ).toEqual([])
  })

  test.concurrent.each(failpoints)('%s', (point) => dieOnce(point, 1, wideFile), 60_000)

  test.concurrent.each([
    ['before fan-out', 2],
    ['after fan-out', 2],
    ['after cancel', 2],
    ['before settle', 3],
    ['after settle', 4],
    ['after claim', 3],
    ['after send', 20],
    ['after register', 5],
    ['before repair', 2],
    ['after repair', 2],
    ['after repair', 3],
  ] as const)('%s, the %i-th time', (point, nth) => dieOnce(point, nth, wideFile), 60_000)

  test('while a request is under way: the same id again, with a new signature', async () => {
    await using site = await Site.open()
    const child = site.start({ mode: 'steps', steps: ['register', 'publish', 'drain'] })
    let killed = false
    site.intercept = () => {
      if (killed) return undefined
      killed = true
      child.kill('SIGKILL')
      return { after: new Promise<never>(() => {}) }
    }
    expect(await once(child, 'close')).toEqual([null, 'SIGKILL'])
    const inFlight = site.inFlight
    const finished = await site.finish()
    expect(finished).toMatchObject({ problems: [], unended: [], forgotten: [] })
    const verdict = site.judge()
    expect(verdict).toMatchObject({ lost: [], unexpected: [], half: [], badSignatures: 0 })
    expect(verdict.duplicates).toBeGreaterThanOrEqual(1)
    expect(verdict.duplicates).toBeLessThanOrEqual(inFlight)
  }, 60_000)
})

test('a process killed 20 times at random under load loses nothing', async () => {
  expectNothingLost(await killAtRandom(20, chooseSeed()))
}, 120_000)

test('a process that leaves under load without closing ends with its own code, and loses nothing', async () => {
  await using site = await Site.open()
  const ends: unknown[] = []
  let inFlight = 0
  for (let run = 0; run < 10; run += 1) {
    const child = site.start({ mode: 'load', publishers: 64, exitAfterMs: 30 + run * 10 })
    ends.push(await once(child, 'close'))
    inFlight += site.inFlight
  }
  // A thread that is ended inside SQLite takes the process with it: 134 instead of 0.
  expect(ends).toEqual(Array(10).fill([0, null]))
  const finished = await site.finish()
  expectNothingLost({ finished, verdict: site.judge(), inFlight })
}, 60_000)

test('the ledgers would notice a loss', async () => {
  await using site = await Site.open()
  const child = site.start({ mode: 'steps', steps: ['publish'] })
  expect(await once(child, 'close')).toEqual([0, null])
  // Accepted before any endpoint was registered: delivered to nobody.
  expect(site.judge().lost).toHaveLength(36)
}, 60_000)
