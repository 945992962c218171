// The thread under the store: it may die, and nobody is told anything wrong because of it.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { claim } from '../../src/storage/sqlite/claim.ts'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { startThread } from '../../src/storage/sqlite/leaving.ts'
import { openSession } from '../../src/storage/sqlite/session.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import { loadFrom, workerUrl } from '../../src/storage/sqlite/worker-url.ts'
import type { Store } from '../../src/storage/storage.ts'
import {
  accept,
  claimAll,
  commitAccepts,
  group,
  ownedOf,
  room,
  settle,
  startMs,
  type TestHost,
  testHost,
} from './fixtures.ts'

let folder: string
let file: string
let host: TestHost
let store: Store
let threads: Worker[]

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
  file = path.join(folder, 'webhooks.db')
  host = testHost()
  threads = []
  const post = Worker.prototype.postMessage
  vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, ...args) {
    if (!threads.includes(this)) threads.push(this)
    return Reflect.apply(post, this, args)
  })
  store = await sqlite({ path: file }).open(host)
})

afterEach(async () => {
  await store.close()
  vi.restoreAllMocks()
  rmSync(folder, { recursive: true })
})

/** No message of ours: the thread dies of it, after what was asked before and before what follows. */
const kill = () => threads.at(-1)?.postMessage(null)

test('correctness 7: what a thread left unanswered is asked again, and happens once', async () => {
  const before = accept(host, { owned: true })
  await commitAccepts(store, before)
  const records = Array.from({ length: 30 }, () => accept(host))
  const first = commitAccepts(store, ...records.slice(0, 15))
  const settled = store.commit(group({ settlements: [settle(host, ownedOf(before))] }))
  kill()
  const second = commitAccepts(store, ...records.slice(15))
  const claims = claimAll(store, host)
  const found = store.findEvent('', records[20]!.event.id)
  for (const { accepts } of await Promise.all([first, second])) {
    expect(accepts.every(({ kind }) => kind === 'stored')).toBe(true)
  }
  expect(['written', 'repeated']).toContain((await settled).settlements[0])
  expect(await claims).toHaveLength(30)
  expect(await found).not.toBeNull()
  expect(threads).toHaveLength(2)
  expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 30 })
  expect((await store.audit()).problems).toEqual([])
  expect(host.logged.map(({ level }) => level)).toEqual(['info', 'warn'])
  expect(host.fatal).toEqual([])
})

test('correctness 7: what was owned before the thread died is still owned after', async () => {
  const owned = accept(host, { owned: true })
  await commitAccepts(store, owned, accept(host))
  const [claimed] = await claimAll(store, host)
  kill()
  expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 2 })
  const result = await store.commit(
    group({ settlements: [settle(host, ownedOf(owned)), settle(host, claimed!)] }),
  )
  expect(result.settlements).toEqual(['written', 'written'])
})

test('a claim that was not answered is undone, a claim that was is not', async () => {
  await commitAccepts(store, accept(host), accept(host))
  await store.close()
  const driver = loadDriver([import.meta.url])
  const first = openSession(driver.open(file), { location: file, nowMs: startMs, resume: null })
  claim(first, [room('endpoint', 1)], host.now, 7)
  claim(first, [room('endpoint', 1)], host.now, 8)
  const { owner } = first
  first.connection.close()
  const resume = { owner, unansweredClaims: [8] }
  const second = openSession(driver.open(file), { location: file, nowMs: startMs, resume })
  expect([second.tally.waiting, second.tally.delivering]).toEqual([1, 1])
  const again = claim(second, [room('endpoint', 5)], host.now, 9)
  expect(again.claims.filter((value) => typeof value === 'number').slice(0, 2)).toEqual([2, 0])
  second.connection.close()
  store = await sqlite({ path: file }).open(host)
})

test('what a claim took whose answer died with its thread is claimed again', async () => {
  await commitAccepts(store, accept(host))
  const thread = threads.at(-1)!
  const emit = thread.emit.bind(thread)
  let isLost = false
  vi.spyOn(thread, 'emit').mockImplementation((event, ...given) => {
    if (event !== 'message' || isLost) return emit(event, ...given)
    isLost = true
    kill()
    return true
  })
  expect(await claimAll(store, host)).toMatchObject([{ token: 2 }])
  expect(isLost).toBe(true)
  expect(await store.backlog()).toMatchObject({ waiting: 0, delivering: 1 })
})

test('a thread that keeps dying is given up, and says so', async () => {
  await commitAccepts(store, accept(host))
  const post = vi.mocked(Worker.prototype.postMessage).getMockImplementation()
  vi.mocked(Worker.prototype.postMessage).mockImplementation(function (this: Worker) {
    return post?.call(this, null)
  })
  const failure = await commitAccepts(store, accept(host)).catch((error) => error)
  expect(failure).toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
  expect(host.fatal).toHaveLength(1)
  vi.mocked(Worker.prototype.postMessage).mockImplementation(post!)
  await expect(store.heads()).rejects.toMatchObject({ code: 'STORAGE_UNAVAILABLE' })
})

test('correctness 7: a disk that failed is never asked again, and the engine is told', async () => {
  await commitAccepts(store, accept(host))
  const failure = { code: 'STORAGE_IO', message: 'disk I/O error', stack: undefined }
  threads.at(-1)?.emit('message', [0, null, failure])
  expect(host.fatal).toMatchObject([{ code: 'STORAGE_IO' }])
  await expect(commitAccepts(store, accept(host))).rejects.toMatchObject({ code: 'STORAGE_IO' })
  await expect(store.heads()).rejects.toMatchObject({ code: 'STORAGE_IO' })
  await store.close()
  const again = await sqlite({ path: file }).open(host)
  expect(await again.backlog()).toMatchObject({ waiting: 1 })
  await again.close()
})

test('correctness 7: close answers what was asked before it, and nothing after', async () => {
  const commits = Array.from({ length: 20 }, () => commitAccepts(store, accept(host)))
  const audit = store.audit()
  const closing = store.close()
  await expect(store.heads()).rejects.toMatchObject({ code: 'SERVICE_CLOSED' })
  await closing
  for (const { accepts } of await Promise.all(commits)) expect(accepts).toHaveLength(1)
  expect((await audit).problems).toEqual([])
  await store.close()
})

test('a thread that is closed while it is busy does not look after its log any more', async () => {
  const job = { kind: 'serve', nowMs: startMs, resume: null } as const
  const location = path.join(folder, 'busy.db')
  const thread = startThread({ location, loadFrom: loadFrom(), code: workerUrl(), job }, 'busy')
  await once(thread, 'message')
  thread.postMessage([1, 'backlog', []])
  thread.postMessage([2, 'close', []])
  // So long that the thread of checkpoints has ended before this one looks at anything else.
  for (let id = 3; id < 40_000; id += 1) thread.postMessage([id, 'heads', []])
  const errors: Error[] = []
  thread.on('error', (error: Error) => errors.push(error))
  expect(await once(thread, 'exit')).toEqual([0])
  expect(errors).toEqual([])
})

test('a program that the command line holds as text has its thread, too', async () => {
  const built = fileURLToPath(new URL('../../dist/index.js', import.meta.url))
  const program = `
    import { WebhookService } from ${JSON.stringify(built)}
    const service = new WebhookService({ storage: 'text.db', logger: false })
    await service.dispatchEvent({ id: 'a', type: 'a', timestamp: new Date(), data: 1 })
    await service.backup('copy.db')
    console.log((await service.audit()).counts.events)
    await service.close()`
  const given = ['--input-type=module', '-e', program]
  const { stdout } = await promisify(execFile)(process.execPath, given, { cwd: folder })
  expect(stdout).toBe('1\n')
})
