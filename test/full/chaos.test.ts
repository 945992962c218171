import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sqlite } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Fleet } from '../chaos/fleet.ts'
import { World } from '../chaos/world.ts'
import { chooseSeed } from '../crash/random.ts'
import { freshSchema } from '../postgres/schemas.ts'
import { type Server, startServer } from '../postgres/server.ts'

const worlds = Number(process.env.WORLDS ?? 200)

interface Figures {
  readonly broken: readonly string[]
  readonly accepted: number
  readonly sent: number
}

async function live(world: (seed: number) => Promise<Figures>): Promise<void> {
  const seed = chooseSeed()
  const sums = { accepted: 0, sent: 0 }
  for (let i = 0; i < worlds; i += 1) {
    const { broken, accepted, sent } = await world(seed + i)
    expect(broken, `SEED=${seed + i}`).toEqual([])
    sums.accepted += accepted
    sums.sent += sent
  }
  console.log(`chaos: seed ${seed} · ${worlds} worlds · ${JSON.stringify(sums)}`)
}

describe('whatever happens in whatever order, the rules hold and everything ends', () => {
  let server: Server

  beforeAll(async () => {
    server = await startServer()
  })
  afterAll(async () => {
    await server.stop()
  })

  test('in a file', () =>
    live(async (seed) => {
      const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-chaos-'))
      try {
        const file = path.join(folder, 'w.db')
        return await new World(seed, () => sqlite({ path: file })).live(150)
      } finally {
        rmSync(folder, { recursive: true })
      }
    }))

  test('on a server', () =>
    live(async (seed) => {
      const { url, name, drop } = freshSchema(server.url)
      try {
        return await new World(seed, () => postgres(url, { schema: name })).live(150)
      } finally {
        await drop()
      }
    }))

  test(
    'in several processes',
    () =>
      live(async (seed) => {
        const { url, name, drop } = freshSchema(server.url)
        try {
          return await new Fleet(seed, url, name).live(150)
        } finally {
          await drop()
        }
      }),
    3_600_000,
  )
})
