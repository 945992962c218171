import { expect, test } from 'vitest'
import { chooseSeed } from '../crash/random.ts'
import { World } from './world.ts'

test('whatever happens in whatever order, the rules hold and everything ends', async () => {
  const seed = chooseSeed()
  for (let i = 0; i < 12; i += 1) {
    const { broken } = await new World(seed + i).live(80)
    expect(broken, `SEED=${seed + i}`).toEqual([])
  }
}, 60_000)
