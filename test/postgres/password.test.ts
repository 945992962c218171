// A server that asks for a password, as every server of an operator does; the others of the tests
// trust everybody.
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { auditPostgres, postgres } from '@k-msg/webhook/postgres'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testHost } from '../storage/fixtures.ts'
import { onServer } from './schemas.ts'
import { type Server, startServer } from './server.ts'

let server: Server

beforeAll(async () => {
  server = await startServer()
  await onServer(server.url, (client) => client.query(`create role app login password 's3cret'`))
  const rules = path.join(server.data, 'pg_hba.conf')
  const others = readFileSync(rules, 'utf8')
  writeFileSync(rules, `host all app 127.0.0.1/32 scram-sha-256\n${others}`)
  await server.halt()
  await server.start()
}, 60_000)

afterAll(() => server.stop())

function urlOf(user: string, password = ''): string {
  const url = new URL(server.url)
  Object.assign(url, { username: user, password })
  return url.href
}

const missing = {
  code: 'STORAGE_UNAVAILABLE',
  message: expect.stringMatching(
    /^Expected a password for .+, whose server asks for one, got none; .*postgres:\/\/user:password@.*PGPASSWORD/,
  ),
}

describe('a password that is not given', () => {
  test('is asked for in a sentence of ours, and at once', async () => {
    const startMs = performance.now()
    const opening = postgres(urlOf('app')).open(testHost())
    await expect(opening).rejects.toMatchObject(missing)
    await expect(opening).rejects.not.toThrow('SASL')
    expect(performance.now() - startMs).toBeLessThan(4_000)
    await expect(auditPostgres(urlOf('app'))).rejects.toMatchObject(missing)
  })

  test('by an app with a pool of its own, too', async () => {
    const pool = new pg.Pool({ connectionString: urlOf('app') })
    await expect(postgres(pool).open(testHost())).rejects.toMatchObject(missing)
    await pool.end()
  })

  test('is another thing than a wrong one, and neither is ever said', async () => {
    const opening = postgres(urlOf('app', 'wr0ng')).open(testHost())
    await expect(opening).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
      message: expect.stringContaining('password authentication failed for user "app"'),
    })
    await expect(opening).rejects.not.toThrow(/wr0ng|got none/)
  })
})
