import { beforeAll, describe, expect, test } from 'vitest'
import { dieOnce, makeWideFile } from '../crash/die-at-step.ts'
import { failpoints } from '../crash/failpoints.mjs'
import { expectNothingLost, killAtRandom } from '../crash/kill-at-random.ts'
import { chooseSeed } from '../crash/random.ts'
import { Site } from '../crash/site.ts'
import { PlantedBuild } from './planted-build.ts'

let wideFile = ''

beforeAll(async () => {
  const site = await Site.open()
  wideFile = await makeWideFile(site)
  return () => site[Symbol.asyncDispose]()
}, 60_000)

/** Points that a plan passes several times. */
const repeated = failpoints.filter((point) => /accept|settle|claim|seal|send|register/.test(point))

describe('a process killed at a named step loses nothing', () => {
  test.concurrent.each(repeated.flatMap((point) => [2, 3].map((nth) => [point, nth] as const)))(
    '%s, the %i. time',
    (point, nth) => dieOnce(point, nth, wideFile),
  )
})

test('a process killed 150 times at random under load loses nothing', async () => {
  expectNothingLost(await killAtRandom(150, chooseSeed()))
})

describe('it would be noticed if', () => {
  test('the next process did not take up what the dead one owned', async () => {
    using build = new PlantedBuild(
      'storage/sqlite/session.js',
      'connection.run(releaseDeadOwners)',
      '',
    )
    const { finished, verdict } = await killAtRandom(5, chooseSeed(), build.url)
    expect(finished.unended.length).toBeGreaterThan(0)
    expect(verdict.lost.length).toBeGreaterThan(0)
  })

  test('an event were answered for before it is committed', async () => {
    using build = new PlantedBuild(
      'storage/group-commit.js',
      'this.#accepts.push(pending);',
      `pending.committed({ kind: 'stored' });
       setTimeout(() => {
         this.#accepts.push({ ...pending, committed() {}, failed() {} });
         this.#schedule();
       }, 200);`,
    )
    const { finished, verdict } = await killAtRandom(5, chooseSeed(), build.url)
    expect(finished.forgotten.length + verdict.lost.length).toBeGreaterThan(0)
  })
})
