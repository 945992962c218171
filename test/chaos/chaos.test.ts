import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sqlite } from '@k-msg/webhook'
import { expect, test } from 'vitest'
import { chooseSeed } from '../crash/random.ts'
import { World } from './world.ts'

test('whatever happens in whatever order, the rules hold and everything ends', async () => {
  const seed = chooseSeed()
  for (let i = 0; i < 12; i += 1) {
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-chaos-'))
    try {
      const file = path.join(folder, 'w.db')
      const { broken } = await new World(seed + i, () => sqlite({ path: file })).live(80)
      expect(broken, `SEED=${seed + i}`).toEqual([])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
}, 60_000)
