import { describe, expect, test } from 'vitest'
import { chooseSeed } from '../crash/random.ts'
import { whyNoLoopDisk } from './loop-disk.ts'
import { PlantedBuild } from './planted-build.ts'
import { asTable, cutPower } from './power-cut.ts'

const why = whyNoLoopDisk()

describe.skipIf(why !== null)(
  `a power cut under load${why === null ? '' : ` (skipped: ${why})`}`,
  () => {
    test('loses nothing that was accepted, in 10 cuts', async () => {
      const seed = chooseSeed()
      const results = await cutPower(10, seed)
      console.log(`${asTable(`synchronous=FULL, seed ${seed}`, results)}\n`)
      for (const { accepted, forgotten, lost, problems, duplicates, inFlight } of results) {
        expect({ forgotten, lost, problems }).toEqual({ forgotten: 0, lost: 0, problems: 0 })
        expect(accepted).toBeGreaterThan(10)
        expect(duplicates).toBeLessThanOrEqual(inFlight)
      }
    })

    test('would be noticed: the same build without syncing loses events', async () => {
      using build = new PlantedBuild(
        'storage/sqlite/session.js',
        'pragma synchronous = full',
        'pragma synchronous = off',
      )
      const results = await cutPower(3, chooseSeed(), build.url)
      console.log(`${asTable('planted: synchronous=OFF', results)}\n`)
      expect(results.some((one) => one.forgotten + one.lost + one.problems > 0)).toBe(true)
    })
  },
)
