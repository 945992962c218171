import { once } from 'node:events'
import { auditFile } from '@k-msg/webhook'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
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

  // Thousands are under way: much is answered at the kill and not written yet.
  test.concurrent.each([
    ['after send', 1_500],
    ['before settle', 4],
    ['after settle', 3],
  ] as const)(
    '%s, the %i-th time, of a wide event',
    (point, nth) => dieOnce(point, nth, wideFile, plans['fan-out']),
    60_000,
  )

  test('peers 4: nobody is asked again who has settled the event', async () => {
    await using site = await Site.open()
    const child = site.start({ mode: 'load', publishers: 1 })
    const numberOf = (id = '') => Number(id.split('_')[2])
    let killed = false
    site.intercept = ({ path: at, events }) => {
      if (killed) return undefined
      // Its only publisher goes on when the ten events before are recorded as delivered there.
      if (at === '/healthy' && numberOf(events[0]?.id) > 10) killed = child.kill('SIGKILL')
      return at === '/healthy' && !killed ? undefined : { after: new Promise<never>(() => {}) }
    }
    expect(await once(child, 'close')).toEqual([null, 'SIGKILL'])
    expect(await site.finish()).toMatchObject({ problems: [], unended: [], forgotten: [] })
    const early = site.inbox.received.filter(
      ({ events }) => events.length === 1 && numberOf(events[0]?.id) <= 10,
    )
    const arrivals = (at: string) => {
      const ids = early.filter((one) => one.path === at).map(({ events }) => events[0]?.id)
      return [...new Set(ids)].map((id) => ids.filter((one) => one === id).length)
    }
    expect(arrivals('/healthy')).toEqual(Array(10).fill(1))
    // The same events were under way elsewhere, and those are taken up.
    expect(Math.min(...arrivals('/flaky'))).toBeGreaterThanOrEqual(2)
  }, 60_000)

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

test.each([
  [
    'event_has_all_its_deliveries',
    "delete from live where id = (select min(id) from live where kind = 'single')",
  ],
  [
    'live_delivery_is_due_or_owned',
    'update live set owner = 99 where id = (select max(id) from live)',
  ],
])(
  'peers 3: what is checked after each kill finds a pair that nobody will settle: %s',
  async (invariant, sql) => {
    await using site = await Site.open()
    const config = { shutdownTimeoutMs: 50 }
    // Nobody answers: every pair is still to be settled.
    site.intercept = () => ({ after: new Promise<never>(() => {}) })
    const child = site.start({ mode: 'steps', steps: ['register', 'publish'], config })
    expect(await once(child, 'close')).toEqual([0, null])
    expect((await auditFile(site.dataFile)).problems).toEqual([])
    const database = loadDriver([import.meta.url]).open(site.dataFile)
    database.exec(`pragma ignore_check_constraints = on; ${sql}`)
    database.close()
    const { problems } = await auditFile(site.dataFile)
    expect(problems).toContainEqual({ invariant, count: 1, examples: [expect.any(String)] })
  },
  60_000,
)

test('the ledgers would notice a loss', async () => {
  await using site = await Site.open()
  const child = site.start({ mode: 'steps', steps: ['publish'] })
  expect(await once(child, 'close')).toEqual([0, null])
  // Accepted before any endpoint was registered: delivered to nobody.
  expect(site.judge().lost).toHaveLength(36)
}, 60_000)
