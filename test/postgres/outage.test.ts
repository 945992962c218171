// Servers that go away under load, on servers of this file's own: a restart, and a standby that takes
// over. DATABASE_URL may name any server, but not one that may be stopped; these run without it, too.
import { appendFileSync, chmodSync, chownSync, cpSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox, manualClock } from '@k-msg/webhook/testing'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Load, nothingWrong, sayResult } from './load.ts'
import { onServer } from './schemas.ts'
import { type Server, startServer, unprivilegedAccount } from './server.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

let inbox: Inbox
let log: string[]
let leaving: (() => Promise<unknown>)[]

beforeEach(async () => {
  inbox = await createInbox({ secret: secretKey })
  log = []
  leaving = [() => inbox.close()]
})
afterEach(async () => {
  for (const leave of leaving.reverse()) await leave()
})

async function open(target: string | string[], more: object = {}): Promise<WebhookService> {
  const keep = (_fields: object, message: string) => void log.push(message)
  const service = new WebhookService({
    storage: postgres(target),
    secretKey,
    allowedNetworks: ['127.0.0.0/8'],
    logger: { info: keep, warn: keep, error: keep, debug: () => {} },
    maxRetries: 0,
    ...more,
  })
  leaving.push(() => service.close())
  await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
  return service
}

async function started(options: Parameters<typeof startServer>[0] = {}): Promise<Server> {
  const server = await startServer(options)
  leaving.push(() => server.stop())
  return server
}

test('a server that is restarted, stopped fast and killed, under load', async () => {
  const server = await started()
  const [one, two] = [await open(server.url), await open(server.url)]
  const load = new Load([one, two], inbox)
  for (const down of [server.halt, server.kill, server.halt]) {
    await inbox.waitForCount(inbox.received.length + 100)
    await down()
    await server.start()
  }
  await inbox.waitForCount(inbox.received.length + 100)
  const result = await load.end()
  sayResult('3 restarts', result)
  expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
  expect(await one.getFailedDeliveries()).toEqual([])
  expect((await one.audit()).problems).toEqual([])
}, 60_000)

test('runDue() says that the server is away, and sends once it is back', async () => {
  const leaseMs = 1_500
  const server = await started()
  const clock = manualClock()
  const storage = postgres(server.url, { leaseMs })
  const schedule = { maxRetries: 1, retryScheduleMs: [1_000] }
  const service = await open(server.url, { storage, clock, ...schedule })
  inbox.setAnswer(() => ({ status: 503 }))
  const timestamp = new Date(clock.nowMs())
  const event = { id: 'evt_1', type: 'message.sent', timestamp, data: {}, metadata: {} }
  await service.dispatchEvent(event)
  await service.runDue()
  await server.halt()
  clock.advance(1_000)
  inbox.setAnswer(() => undefined)
  const ran = () =>
    service.runDue().then(
      () => 'sent',
      (error) => error.code,
    )
  // Also once its lease is in doubt, when it asks for nothing to send.
  const awayMs = performance.now()
  do expect(await ran()).toBe('STORAGE_UNAVAILABLE')
  while (performance.now() < awayMs + leaseMs)
  await server.start()
  await expect.poll(ran, { timeout: 20_000 }).toBe('sent')
  expect(inbox.received).toHaveLength(2)
  expect((await service.audit()).problems).toEqual([])
}, 60_000)

test('a primary that dies, and the standby that takes over: nothing is lost', async () => {
  const flags = ['wal_keep_size=256MB', 'hot_standby=on']
  const [primary, standby] = await withStandby(flags)
  // The standby first: it answers, and is passed over while it is in recovery.
  const urls = [standby.url, primary.url]
  const [one, two] = [await open(urls), await open(urls)]
  expect((await one.health()).storage?.location).toMatch(/127.0.0.1:\d+.*, .*127.0.0.1:\d+/)
  const load = new Load([one, two], inbox)
  await inbox.waitForCount(300)
  await primary.kill()
  const killedAtMs = performance.now()
  await onServer(standby.url, (client) => client.query('select pg_promote()'))
  const accepted = load.accepted
  while (load.accepted < accepted + 10) await new Promise(setImmediate)
  const tookMs = Math.round(performance.now() - killedAtMs)
  await inbox.waitForCount(inbox.received.length + 100)
  const result = await load.end()
  sayResult(`failover, accepting again after ${tookMs} ms`, result)
  expect(result).toMatchObject({ ...nothingWrong, duplicates: 0 })
  expect(await one.getFailedDeliveries()).toEqual([])
  expect((await one.audit()).problems).toEqual([])
  expect(log).toContain('another database server takes writes now')
}, 60_000)

/** A primary that answers to a commit when its standby has it on disk, too. */
async function withStandby(flags: readonly string[]): Promise<[Server, Server]> {
  const primary = await started({ flags: [...flags, 'synchronous_standby_names=*'] })
  await primary.halt()
  const data = path.join(path.dirname(primary.data), 'standby')
  cpSync(primary.data, data, { recursive: true, preserveTimestamps: true })
  const { hostname, port } = new URL(primary.url)
  const conninfo = `host=${hostname} port=${port} user=test`
  writeFileSync(path.join(data, 'standby.signal'), '')
  appendFileSync(
    path.join(data, 'postgresql.auto.conf'),
    `primary_conninfo = '${conninfo}'\nsynchronous_standby_names = ''\n`,
  )
  const account = unprivilegedAccount()
  if (account) ownAll(data, account)
  await primary.start()
  const standby = await started({ flags, data, folder: path.dirname(data) })
  await onServer(primary.url, async (client) => {
    for (;;) {
      const { rows } = await client.query('select sync_state from pg_stat_replication')
      if (rows[0]?.sync_state === 'sync') return
    }
  })
  return [primary, standby]
}

function ownAll(folder: string, { uid, gid }: { uid: number; gid: number }): void {
  chownSync(folder, uid, gid)
  for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    chownSync(path.join(folder, entry), uid, gid)
  }
  chmodSync(folder, 0o700)
}
