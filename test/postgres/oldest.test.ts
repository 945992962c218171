// The conformance suite on the oldest PostgreSQL that is supported; the others run on the newest.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { postgres } from '../../src/storage/postgres/postgres.ts'
import { describeStore } from '../storage/conformance.ts'
import { openOn } from './conformance-store.ts'
import { freshSchema } from './schemas.ts'
import { oldestEmbedded, type Server, startServer } from './server.ts'

const programs = oldestEmbedded()

if (programs === null) {
  test.skip(`PostgreSQL 15 (skipped: npm has none for ${process.platform}-${process.arch})`)
} else {
  let server: Server
  beforeAll(async () => {
    server = await startServer({ programs })
  }, 30_000)
  afterAll(() => server.stop())

  describeStore({
    name: 'postgres, oldest version',
    open: (host) => openOn(freshSchema(server.url), host),
    skip: [],
  })

  test('it is 15', async () => {
    const host = { nowMs: Date.now, log: () => {}, onFatal: () => {} }
    const store = await postgres(server.url).open(host)
    expect(store.description).toMatch(/^PostgreSQL 15\./)
    await store.close()
  })
}
