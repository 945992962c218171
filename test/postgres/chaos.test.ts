import { expect, test } from 'vitest'
import { Fleet } from '../chaos/fleet.ts'
import { chooseSeed } from '../crash/random.ts'
import { freshSchema } from './schemas.ts'

test('whatever happens to several processes in whatever order, the rules hold and everything ends', async () => {
  const seed = chooseSeed()
  for (let i = 0; i < 3; i += 1) {
    const { url, name, drop } = freshSchema()
    try {
      const { broken } = await new Fleet(seed + i, url, name).live(80)
      expect(broken, `SEED=${seed + i}`).toEqual([])
    } finally {
      await drop()
    }
  }
}, 180_000)
