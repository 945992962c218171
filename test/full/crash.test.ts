import { beforeAll, describe, test } from 'vitest'
import { dieOnce, makeWideFile } from '../crash/die-at-step.ts'
import { failpoints } from '../crash/failpoints.mjs'
import { killAtRandom } from '../crash/kill-at-random.ts'
import { chooseSeed } from '../crash/random.ts'
import { Site } from '../crash/site.ts'

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
  await killAtRandom(150, chooseSeed())
})
