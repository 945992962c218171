import { expect, test } from 'vitest'
import { World } from '../chaos/world.ts'
import { chooseSeed } from '../crash/random.ts'

test('whatever happens in whatever order, the rules hold and everything ends: 200 worlds', async () => {
  const seed = chooseSeed()
  const sums = { accepted: 0, sent: 0, restarts: 0 }
  for (let i = 0; i < Number(process.env.WORLDS ?? 200); i += 1) {
    const { broken, ...figures } = await new World(seed + i).live(150)
    expect(broken, `SEED=${seed + i}`).toEqual([])
    sums.accepted += figures.accepted
    sums.sent += figures.sent
    sums.restarts += figures.restarts
  }
  console.log(`chaos: seed ${seed} · ${JSON.stringify(sums)}`)
})
