import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Storage, sqlite } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { describe, expect, test } from 'vitest'
import { World } from '../chaos/world.ts'
import { chooseSeed } from '../crash/random.ts'
import { freshSchema } from '../postgres/schemas.ts'
import { startServer } from '../postgres/server.ts'

const worlds = Number(process.env.WORLDS ?? 200)

/** @param data makes a place for the data of one world, and takes it away */
async function live(data: () => [storage: () => Storage, end: () => unknown]): Promise<void> {
  const seed = chooseSeed()
  const sums = { accepted: 0, sent: 0, restarts: 0 }
  for (let i = 0; i < worlds; i += 1) {
    const [storage, end] = data()
    try {
      const { broken, ...figures } = await new World(seed + i, storage).live(150)
      expect(broken, `SEED=${seed + i}`).toEqual([])
      sums.accepted += figures.accepted
      sums.sent += figures.sent
      sums.restarts += figures.restarts
    } finally {
      await end()
    }
  }
  console.log(`chaos: seed ${seed} · ${worlds} worlds · ${JSON.stringify(sums)}`)
}

describe('whatever happens in whatever order, the rules hold and everything ends', () => {
  test('in a file', () =>
    live(() => {
      const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-chaos-'))
      const file = path.join(folder, 'w.db')
      return [() => sqlite({ path: file }), () => rmSync(folder, { recursive: true })]
    }))

  test('on a server', async () => {
    const server = await startServer()
    try {
      await live(() => {
        const { url, name, drop } = freshSchema(server.url)
        return [() => postgres(url, { schema: name }), drop]
      })
    } finally {
      await server.stop()
    }
  })
})
