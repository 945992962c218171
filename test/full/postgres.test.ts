// The long fault runs on PostgreSQL, each on a server of its own. Each says what was accepted and what
// became of it, and ends with every invariant of the data.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { chooseSeed, randomFrom } from '../crash/random.ts'
import { Load, nothingWrong, sayResult } from '../postgres/load.ts'
import { onServer } from '../postgres/schemas.ts'
import { type Server, startServer, unprivilegedAccount } from '../postgres/server.ts'
import { LoopDisk, whyNoLoopDisk } from './loop-disk.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

let inbox: Inbox
let log: string[]
let leaving: (() => unknown)[]

beforeEach(async () => {
  inbox = await createInbox({ secret: secretKey })
  log = []
  leaving = [() => inbox.close()]
})
afterEach(async () => {
  for (const leave of leaving.reverse()) await leave()
})

async function started(options: Parameters<typeof startServer>[0] = {}): Promise<Server> {
  const server = await startServer(options)
  leaving.push(() => server.stop())
  return server
}

async function open(url: string, leaseMs = 30_000): Promise<WebhookService> {
  const keep = (_fields: object, message: string) => void log.push(message)
  const service = new WebhookService({
    storage: postgres(url, { leaseMs }),
    secretKey,
    allowedNetworks: ['127.0.0.0/8'],
    logger: { info: keep, warn: keep, error: keep, debug: () => {} },
    maxRetries: 0,
  })
  // Where a planted fault took the tables with it, it cannot give anything back.
  leaving.push(() => service.close().catch(() => {}))
  await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
  return service
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('every connection ended every 200 ms for 20 s', async () => {
  const server = await started()
  const [one, two] = [await open(server.url), await open(server.url)]
  const load = new Load([one, two], inbox)
  let ended = 0
  await onServer(server.url, async (admin) => {
    for (let round = 0; round < 100; round += 1) {
      await pause(200)
      const { rows } = await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where application_name = 'kmsg-webhook'`,
      )
      ended += rows.length
    }
  })
  const result = await load.end()
  sayResult(`${ended} connections ended in 20 s`, result)
  expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
  expect(await one.getFailedDeliveries()).toEqual([])
  expect((await one.audit()).problems).toEqual([])
})

describe('a disk of its own', () => {
  const why = whyNoLoopDisk()

  test.skipIf(why !== null)(
    `that loses its power under load, 5 times${why === null ? '' : ` (skipped: ${why})`}`,
    async () => {
      const seed = chooseSeed()
      for (let cut = 0; cut < 5; cut += 1) {
        const { forgotten, problems } = await cutPower(randomFrom(seed + cut), [])
        expect({ forgotten, problems }).toEqual({ forgotten: 0, problems: [] })
      }
    },
  )

  test.skipIf(why !== null)('and it would be noticed if the server did not sync', async () => {
    let forgotten = 0
    for (let cut = 0; cut < 5 && forgotten === 0; cut += 1) {
      // Without the log's own writer, nothing reaches the disk but by a sync.
      const flags = ['synchronous_commit=off', 'fsync=off', 'wal_writer_delay=10s']
      forgotten += (await cutPower(randomFrom(chooseSeed() + cut), flags)).forgotten
    }
    expect(forgotten).toBeGreaterThan(0)
  })

  async function cutPower(random: () => number, flags: readonly string[]) {
    const disk = new LoopDisk(400)
    // The kernel may be busy with it for a moment after the last file is closed.
    leaving.push(() => disk[Symbol.dispose]())
    const folder = path.join(disk.mountPoint, 'server')
    mkdirSync(folder)
    // The server runs as somebody else, who has to get there.
    chmodSync(path.dirname(disk.mountPoint), 0o755)
    const server = await started({ folder, flags: ['max_wal_size=64MB', ...flags] })
    // So that what the cut may take is only what comes after it.
    execFileSync('sync', ['-f', disk.mountPoint])
    const service = await open(server.url)
    const load = new Load([service], inbox, 32)
    await pause(300 + random() * 1_500)
    const acceptedIds = load.acceptedIds
    disk.cut()
    await server.kill()
    disk.restore()
    const damage = await server.start().then(
      () => null,
      (error: Error) => error,
    )
    // A server that does not start any more has forgotten everything.
    if (damage !== null) return { forgotten: acceptedIds.length, problems: ['the server'] }
    const known = await onServer(server.url, (client) =>
      client.query('select id from kmsg.event_key where id = any($1)', [acceptedIds]),
    ).catch((error: { code?: string }) => {
      // Not even the tables are there any more.
      if (flags.length > 0 && error.code === '42P01') return { rows: [] }
      throw error
    })
    const forgotten = acceptedIds.length - known.rows.length
    if (flags.length > 0) {
      console.log(`planted, ${flags.join(' ')}: forgotten ${forgotten} of ${acceptedIds.length}`)
      return { forgotten, problems: [] }
    }
    const result = await load.end()
    sayResult(`power cut: forgotten ${forgotten}`, result)
    expect(result).toMatchObject(nothingWrong)
    expect(await service.getFailedDeliveries()).toEqual([])
    return { forgotten, problems: (await service.audit()).problems }
  }

  const whyNoMount = process.getuid?.() === 0 && process.platform === 'linux' ? null : 'needs root'

  const needs = whyNoMount === null ? '' : ` (skipped: ${whyNoMount})`

  test.skipIf(whyNoMount !== null)(`for its tables that is full under load${needs}`, async () => {
    const mount = smallDisk(160)
    const folder = path.join(mount, 'server')
    mkdirSync(folder)
    await fillUnderLoad('tables', mount, await started({ folder, flags: ['max_wal_size=64MB'] }))
  })

  test.skipIf(whyNoMount !== null)(`for its log that is full under load${needs}`, async () => {
    const mount = smallDisk(24)
    const wal = path.join(mount, 'wal')
    mkdirSync(wal)
    const account = unprivilegedAccount()
    if (account) chownSync(wal, account.uid, account.gid)
    // Small segments: the next one is needed soon, and the server stops itself when it has no room.
    const initdb = [`--waldir=${wal}`, '--wal-segsize=1']
    const flags = ['max_wal_size=8MB', 'min_wal_size=2MB', 'wal_recycle=off']
    await fillUnderLoad('log', mount, await started({ initdb, flags }))
  })

  function smallDisk(megabytes: number): string {
    const mount = mkdtempSync(path.join(tmpdir(), 'kmsg-full-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', mount])
    leaving.push(() => {
      execFileSync('umount', ['-l', mount])
      rmSync(mount, { recursive: true, force: true })
    })
    return mount
  }

  /** The server takes room meanwhile, so nobody knows how much is left. */
  function fillUp(file: string): void {
    try {
      for (;;) appendFileSync(file, Buffer.alloc(65_536))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  }

  async function fillUnderLoad(what: string, mount: string, server: Server): Promise<void> {
    const service = await open(server.url)
    const load = new Load([service], inbox, 16, 20_000)
    await inbox.waitForCount(200)
    const ballast = path.join(mount, 'ballast')
    fillUp(ballast)
    // Whatever the server says first: no room, or nothing at all, because it has stopped itself.
    while (!log.includes('the store takes no writes')) await pause(20)
    await pause(3_000)
    const { status, trouble } = await service.health()
    expect(status).toBe('degraded')
    truncateSync(ballast)
    const freedAtMs = performance.now()
    // It ends when there is no room for the log of its own recovery; people start it again.
    if (!server.isRunning) await server.start()
    const { accepted } = load
    while (load.accepted < accepted + 10) await pause(20)
    const resumedMs = Math.round(performance.now() - freedAtMs)
    const result = await load.end()
    sayResult(
      `disk of the ${what} full (${trouble?.code}), accepting ${resumedMs} ms after`,
      result,
    )
    expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
    expect(await service.getFailedDeliveries()).toEqual([])
    expect((await service.audit()).problems).toEqual([])
  }
})

describe('three processes', () => {
  const leaseMs = 5_000
  const childFile = path.join(import.meta.dirname, '../postgres/child.mjs')

  class Process {
    readonly child: ChildProcess
    readonly #ledgerFile: string

    constructor(server: Server, folder: string, name: string) {
      this.#ledgerFile = path.join(folder, name)
      const more = JSON.stringify({ leaseMs, pauseMs: 100 })
      const args = [server.url, 'kmsg', this.#ledgerFile, secretKey, name, '1000000', more]
      this.child = spawn(process.execPath, [childFile, ...args], {
        stdio: ['ignore', 'ignore', 'inherit'],
      })
    }

    /** See child.mjs: `=` accepted, `+` sent, `-` its outcome written. */
    noted(sign: '=' | '+' | '-'): string[] {
      if (!existsSync(this.#ledgerFile)) return []
      const lines = readFileSync(this.#ledgerFile, 'utf8').split('\n')
      return lines.filter((line) => line.startsWith(`${sign} `)).map((line) => line.slice(2))
    }

    async kill(): Promise<void> {
      const closed = once(this.child, 'close')
      this.child.kill('SIGKILL')
      await closed
    }
  }

  test('of which one is killed every 2 s, 20 times', async () => {
    const server = await started()
    // It lives throughout: one that is killed before a lease is over can take over nothing.
    const service = await open(server.url, leaseMs)
    // What the dead may still have under way counts until they are missed: half of a small limit is
    // less than what is accepted here, and the rest would wait for that, not for a takeover.
    await service.updateEndpoint('hook', { concurrency: 40 })
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-killed-'))
    leaving.push(() => rmSync(folder, { recursive: true, force: true }))
    inbox.setAnswer(() => ({ after: pause(10) }))
    const all: Process[] = []
    const start = () => {
      const one = new Process(server, folder, `p${all.length}`)
      all.push(one)
      return one
    }
    const living = [start(), start(), start()]
    leaving.push(() => Promise.all(living.map((one) => one.kill())))
    const arrivedAtMs = () => {
      const at = new Map<string, number>()
      for (const { events, receivedAtMs } of inbox.received) {
        const id = events[0]?.id ?? ''
        if (!at.has(id)) at.set(id, receivedAtMs)
      }
      return at
    }
    const left: { ids: string[]; killedAtMs: number }[] = []
    let unknown = 0
    for (let kills = 0; kills < 20; kills += 1) {
      await pause(2_000)
      const victim = living.shift() as Process
      await victim.kill()
      const killedAtMs = Date.now()
      const written = new Set(victim.noted('-'))
      unknown += victim.noted('+').filter((id) => !written.has(id)).length
      const arrived = arrivedAtMs()
      left.push({ ids: victim.noted('=').filter((id) => !arrived.has(id)), killedAtMs })
      living.push(start())
    }
    await pause(2 * leaseMs)
    // The last of them have nobody to take over from them but the service of this test.
    await Promise.all(living.map((one) => one.kill()))
    const killedAtMs = Date.now()
    for (const one of living.splice(0)) {
      const written = new Set(one.noted('-'))
      unknown += one.noted('+').filter((id) => !written.has(id)).length
    }
    await pause(Math.max(0, killedAtMs + leaseMs + 1_000 - Date.now()))
    await service.drain()
    const accepted = new Set(all.flatMap((one) => one.noted('=')))
    const arrived = arrivedAtMs()
    const lost = [...accepted].filter((id) => !arrived.has(id))
    const recoveredMs = left.flatMap(({ ids, killedAtMs: atMs }) =>
      ids.map((id) => (arrived.get(id) ?? Number.POSITIVE_INFINITY) - atMs),
    )
    const duplicates = inbox.received.length - arrived.size
    const longestMs = Math.max(0, ...recoveredMs)
    console.log(
      `kill -9 of one of three every 2 s, 20 times: accepted ${accepted.size} · delivered ${accepted.size - lost.length} · lost ${lost.length} · duplicates ${duplicates} of ${unknown} under way · ${recoveredMs.length} left behind, all delivered ${longestMs} ms after the kill at the latest (lease ${leaseMs} ms)`,
    )
    expect(lost).toEqual([])
    expect(recoveredMs.length).toBeGreaterThan(0)
    expect(duplicates).toBeLessThanOrEqual(unknown)
    // A second until the last beat is seen.
    expect(longestMs).toBeLessThanOrEqual(leaseMs + 1_000)
    expect(await service.getFailedDeliveries()).toEqual([])
    expect((await service.audit()).problems).toEqual([])
  })
})

describe('PgBouncer in transaction mode', () => {
  const why = whyNoPgBouncer()

  test.skipIf(why !== null)(
    `works, by polling${why === null ? '' : ` (skipped: ${why})`}`,
    async () => {
      const server = await started()
      const url = await bounce(server)
      const [one, two] = [await open(url), await open(url)]
      const load = new Load([one, two], inbox)
      await inbox.waitForCount(500)
      await onServer(server.url, (client) =>
        client.query(`select pg_terminate_backend(pid) from pg_stat_activity
                       where pid <> pg_backend_pid() and datname = 'postgres'`),
      )
      await inbox.waitForCount(inbox.received.length + 500)
      // An endpoint that one changes is known to the other by the next poll at the latest.
      await one.registerEndpoint({ id: 'more', url: `${inbox.url}/more`, events: ['other.*'] })
      const result = await load.end()
      sayResult('PgBouncer', result)
      expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
      // In a transaction of the caller, which the pooler keeps together.
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.query('begin')
      const event = { type: 'other.thing', timestamp: new Date(), data: {}, metadata: {} }
      await two.dispatchEvent({ ...event, id: 'brought' }, { transaction: client })
      await client.query('commit')
      await client.end()
      await inbox.waitFor(({ path: at, events }) => at === '/more' && events[0]?.id === 'brought')
      await two.drain()
      expect(log).toContain('a pooler is in front of the database: what others do is polled')
      const left = await onServer(server.url, (direct) =>
        direct.query('select count(*)::int as n from pg_prepared_statements'),
      )
      expect(left.rows).toEqual([{ n: 0 }])
      expect(await one.getFailedDeliveries()).toEqual([])
      expect((await one.audit()).problems).toEqual([])
    },
  )

  async function bounce(server: Server): Promise<string> {
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-bouncer-'))
    leaving.push(() => rmSync(folder, { recursive: true, force: true }))
    const { hostname, port } = new URL(server.url)
    const listen = Number(port) + 1
    const file = path.join(folder, 'pgbouncer.ini')
    const users = path.join(folder, 'users.txt')
    writeFileSync(users, '"test" ""\n')
    writeFileSync(
      file,
      `[databases]\npostgres = host=${hostname} port=${port} dbname=postgres\n[pgbouncer]
listen_addr = 127.0.0.1\nlisten_port = ${listen}\nunix_socket_dir =\nauth_type = trust
auth_file = ${users}\npool_mode = transaction\ndefault_pool_size = 4\n`,
    )
    execFileSync('chmod', ['-R', 'a+rX', folder])
    const bouncer = spawn('pgbouncer', [file], {
      ...unprivilegedAccount(),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    leaving.push(() => endOf(bouncer))
    const url = server.url.replace(`:${port}`, `:${listen}`)
    for (let tries = 0; tries < 200; tries += 1) {
      const isThere = await onServer(url, async () => true).catch(() => false)
      if (isThere) return url
      await pause(25)
    }
    throw new Error('Expected PgBouncer to take connections within 5 s.')
  }

  async function endOf(bouncer: ChildProcess): Promise<void> {
    if (bouncer.exitCode !== null) return
    const ended = once(bouncer, 'exit')
    bouncer.kill('SIGKILL')
    await ended
  }

  function whyNoPgBouncer(): string | null {
    try {
      execFileSync('pgbouncer', ['--version'], { stdio: 'ignore' })
      return null
    } catch {
      return 'no program named pgbouncer'
    }
  }
})
