// The file itself: who may open it, what is refused before anything is written, what others can read.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { WebhookError } from '../../src/model/errors.ts'
import { WebhookService } from '../../src/service/webhook-service.ts'
import { auditFile } from '../../src/storage/sqlite/beside.ts'
import { type Database, loadDriver } from '../../src/storage/sqlite/driver.ts'
import { storageError } from '../../src/storage/sqlite/errors.ts'
import { firstSchema } from '../../src/storage/sqlite/migrations/0001-first.ts'
import { refuseOtherNames } from '../../src/storage/sqlite/names-of-file.ts'
import { makePrivate } from '../../src/storage/sqlite/private-file.ts'
import { applicationId } from '../../src/storage/sqlite/schema.ts'
import { type SqliteOptions, sqlite } from '../../src/storage/sqlite/sqlite.ts'
import {
  accept,
  claimAll,
  commitAccepts,
  group,
  ownedOf,
  query,
  settle,
  testHost,
} from './fixtures.ts'

let folder: string
let file: string
let children: ChildProcess[]

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'kmsg-'))
  file = path.join(folder, 'webhooks.db')
  children = []
})

afterEach(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

const open = (options: SqliteOptions = {}, host = testHost()) =>
  sqlite({ path: file, ...options }).open(host)

async function refusal(work: Promise<unknown>): Promise<WebhookError> {
  const error = await work.then(
    () => new Error('it was not refused'),
    (failure: Error) => failure,
  )
  expect(error).toBeInstanceOf(WebhookError)
  return error as WebhookError
}

function raw(location: string, work: (database: Database) => void): void {
  const database = loadDriver([import.meta.url]).open(location)
  work(database)
  database.close()
}

const storeProgram = fileURLToPath(new URL('./store-program.mjs', import.meta.url))

/** Another process with the store open; resolves once it has written a first event. */
async function otherProcess(...args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [storeProgram, file, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.push(child)
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', (code) => reject(new Error(`The other process ended with ${code}.`)))
  })
  return child
}

const ended = (child: ChildProcess) => new Promise((resolve) => child.once('exit', resolve))

describe('one process per file', () => {
  test('correctness 7: a second store in this process is refused, by any name of the file', async () => {
    const store = await open()
    symlinkSync(file, path.join(folder, 'alias.db'))
    for (const name of [file, path.join(folder, 'alias.db')]) {
      const error = await refusal(open({ path: name }))
      expect(error.code).toBe('STORAGE_LOCKED')
      expect(error.message).toContain(file)
      expect(error.message).toContain('waitForLockMs')
    }
    await store.close()
    const again = await open()
    await again.close()
  })

  test.runIf(process.platform !== 'win32')(
    'a file with a second name is refused: whoever opened that one would not see the lock',
    async () => {
      const store = await open()
      await store.close()
      const other = path.join(folder, 'other.db')
      linkSync(file, other)
      for (const name of [file, other]) {
        const error = await refusal(open({ path: name }))
        expect(error.code).toBe('OPTION_INVALID')
        expect(error.message).toMatch(/^Expected .* to have one name, .* 2 hard links/)
      }
      unlinkSync(other)
      await (await open()).close()
    },
  )

  test('a file that is mounted by itself is refused: log and lock would stay beside the mount', () => {
    const mounts = [
      '22 1 0:21 / /proc rw - proc proc rw',
      '36 22 98:0 /w.db /srv/web\\040hooks.db rw,noatime - ext4 /dev/vda rw',
    ].join('\n')
    expect(() => refuseOtherNames('/srv/web hooks.db', 1, mounts)).toThrow(/mount the folder/i)
    expect(() => refuseOtherNames('/srv/other.db', 1, mounts)).not.toThrow()
  })

  test('correctness 7: a second process is refused at once, and let in when the first is killed', async () => {
    const other = await otherProcess()
    expect((await refusal(open())).code).toBe('STORAGE_LOCKED')
    const waiting = open({ waitForLockMs: 15_000 })
    other.kill('SIGKILL')
    const store = await waiting
    expect(await store.findEvent('', 'e0')).not.toBeNull()
    expect((await store.audit()).problems).toEqual([])
    await store.close()
  })

  test('a store that failed to open holds no lock', async () => {
    writeFileSync(file, 'this is text, and long enough to be no empty database'.repeat(20))
    expect((await refusal(open())).code).toBe('STORAGE_CORRUPT')
    rmSync(file)
    const store = await open()
    await store.close()
  })
})

describe('what is in the file', () => {
  test('a foreign database is refused and left as it was', async () => {
    raw(file, (database) => database.exec('create table customer (name text)'))
    const before = readFileSync(file)
    const error = await refusal(open())
    expect(error.code).toBe('STORAGE_FOREIGN')
    expect(error.message).toContain('another application')
    expect(readFileSync(file).equals(before)).toBe(true)
    expect((await refusal(auditFile(file))).code).toBe('STORAGE_FOREIGN')
  })

  test('a newer schema is refused and left as it was', async () => {
    await (await open()).close()
    raw(file, (database) => database.exec('pragma user_version = 999'))
    const error = await refusal(open())
    expect(error.code).toBe('STORAGE_SCHEMA_NEWER')
    expect(error.message).toContain('999')
    raw(file, (database) => {
      expect(database.prepare('pragma user_version').get()).toEqual({ user_version: 999 })
    })
  })

  test('a file of the first schema is brought up to date', async () => {
    raw(file, (database) => {
      database.exec(firstSchema)
      database.exec(`pragma application_id = ${applicationId}; pragma user_version = 1`)
      for (const [i, key] of ['0000000000aaaaaaaaaaaaaa', '0000zzzzzzaaaaaaaaaaaaaa'].entries()) {
        database.exec(`
          insert into event values ('${key}', '', 'e${i}', 'message.sent', ${i}, 2, 0, null, null);
          insert into event_key values ('', 'e${i}', '${key}', x'00', ${i});
          insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts,
                            due_at_ms, round, created_at_ms)
          values ('dlv_${key}_aaaaaaaa', 'single', 0, '${key}', 'aaaaaaaa', 'waiting', 0, 0, 9, 1, 1);
          insert into done values ('dlv_${key}_bbbbbbbb', '${key}', 'bbbbbbbb', 'cancelled', 'x', 1,
                                   0, 0, null, 1, 1, null);
          update event set body = x'7b7d'`)
      }
    })
    const store = await open()
    for (const endpointKey of ['aaaaaaaa', 'bbbbbbbb']) {
      expect(await store.listDeliveries(query({ endpointKey }))).toHaveLength(2)
    }
    expect((await store.audit()).problems).toEqual([])
    await store.close()
  })

  test('retention takes the slots of what it took', async () => {
    const host = testHost()
    const store = await open({}, host)
    for (let i = 0; i < 8; i += 1) {
      host.now += 60_000
      const record = accept(host, { to: ['one', 'two'], owned: true })
      await commitAccepts(store, record)
      const settlements = record.deliveries.map((_, at) => settle(host, ownedOf(record, at)))
      await store.commit(group({ settlements }))
    }
    const cutoffs = {
      settledBeforeMs: host.now - 150_000,
      deliveredBodiesBeforeMs: 0,
      failedBodiesBeforeMs: 0,
      eventIdsBeforeMs: 0,
    }
    while ((await store.prune(cutoffs, 1)) > 0) {}
    expect((await store.audit()).problems).toEqual([])
    await store.close()
    raw(file, (database) => {
      const count = 'select count(*) as n from delivery_slot'
      expect(database.prepare(count).get()).toEqual({ n: 6 })
    })
  })

  test('a damaged file is refused', async () => {
    await (await open()).close()
    const content = readFileSync(file)
    content.fill(0xab, 100, 4_096)
    writeFileSync(file, content)
    expect((await refusal(open())).code).toBe('STORAGE_CORRUPT')
    expect((await refusal(auditFile(file))).code).toBe('STORAGE_CORRUPT')
  })

  test('a file is audited without being locked or changed', async () => {
    const host = testHost()
    const store = await open({}, host)
    await commitAccepts(store, accept(host), accept(host))
    expect(await auditFile(file)).toMatchObject({ counts: { waiting: 2 }, problems: [] })
    await store.close()
    const before = readFileSync(file)
    expect(await auditFile(file)).toMatchObject({ counts: { waiting: 2 }, problems: [] })
    expect(readFileSync(file).equals(before)).toBe(true)
    expect((await refusal(auditFile(path.join(folder, 'none.db')))).code).toBe('OPTION_INVALID')
  })

  test('erased text is in no file any more', async () => {
    const host = testHost()
    const store = await open({}, host)
    const personal = `010-${'1234-5678 '.repeat(1_000)}`
    const record = accept(host, { id: 'a', body: JSON.stringify({ personal }), owned: true })
    await commitAccepts(store, record, accept(host, { id: 'b' }))
    const answer = 'answer with 010-9876-5432'
    await store.commit(
      group({ settlements: [settle(host, ownedOf(record), undefined, { answer })] }),
    )
    const everywhere = () =>
      readdirSync(folder)
        .map((name) => readFileSync(path.join(folder, name), 'latin1'))
        .join('')
    expect(everywhere()).toContain('1234-5678')
    await store.eraseEvents({ kind: 'ids', tenantId: '', ids: ['a'] }, host.now, 10)
    expect(everywhere()).not.toContain('1234-5678')
    expect(everywhere()).not.toContain('9876-5432')
    expect((await store.audit()).problems).toEqual([])
    await store.close()
  })

  test.each(['given back', 'owner gone', 'delivered'])(
    'nor the copy in a batch: %s',
    async (way) => {
      const host = testHost()
      let store = await open({}, host)
      const personal = `010-${'1234-5678 '.repeat(1_000)}`
      const records = ['a', 'b'].map((id) =>
        accept(host, { id, body: JSON.stringify({ personal }) }),
      )
      await commitAccepts(store, ...records)
      const [batch] = await claimAll(store, host, 'endpoint', { size: 2, maxBytes: 100_000 })
      const both = { kind: 'ids', tenantId: '', ids: ['a', 'b'] } as const
      expect(await store.eraseEvents(both, host.now, 10)).toMatchObject({ inFlight: 2 })
      if (way === 'given back') {
        const { deliveryId = '', token = 0 } = batch ?? {}
        await store.commit(group({ releases: [{ deliveryId, token, dueAtMs: null }] }))
      } else if (way === 'delivered') {
        await store.commit(group({ settlements: [settle(host, batch!)] }))
      } else {
        await store.close()
        store = await open({}, host)
      }
      expect(await store.eraseEvents(both, host.now, 10)).toMatchObject({ erased: 2 })
      const files = readdirSync(folder).map((name) =>
        readFileSync(path.join(folder, name), 'latin1'),
      )
      expect(files.join('')).not.toContain('1234-5678')
      expect((await store.audit()).problems).toEqual([])
      await store.close()
    },
  )
})

describe('files and folders', () => {
  const mode = (name: string) => (statSync(name).mode & 0o777).toString(8)
  const narrowed = expect.objectContaining({
    level: 'warn',
    message: expect.stringContaining('others could read the data'),
  })

  test.skipIf(process.platform === 'win32')(
    'one that others may read becomes its owner’s alone, with its log, and that is said once',
    async () => {
      writeFileSync(file, '')
      writeFileSync(`${file}-lock`, '')
      for (const name of [file, `${file}-lock`]) chmodSync(name, 0o644)
      const host = testHost()
      const store = await open({}, host)
      await commitAccepts(store, accept(host))
      for (const name of readdirSync(folder)) {
        expect([name, mode(path.join(folder, name))]).toEqual([name, '600'])
      }
      expect(readdirSync(folder)).toHaveLength(5)
      expect(host.logged.filter(({ level }) => level === 'warn')).toEqual([narrowed])
      const { files } = host.logged.find(({ level }) => level === 'warn')?.fields ?? {}
      for (const suffix of ['', '-wal', '-shm', '-lock', '-lock-journal']) {
        expect(files).toContain(`${file}${suffix} (0644)`)
      }
      await store.close()
      const later = testHost()
      await (await open({}, later)).close()
      expect(later.logged).not.toContainEqual(narrowed)
    },
  )

  test.skipIf(process.platform === 'win32')(
    'one that is not ours to change is told, and is used all the same',
    async () => {
      await (await open()).close()
      chmodSync(file, 0o664)
      const host = testHost()
      makePrivate(file, host, () => {
        throw Object.assign(new Error('EPERM: operation not permitted'), { code: 'EPERM' })
      })
      expect(host.logged).toEqual([
        {
          level: 'warn',
          message: expect.stringContaining('only the owner'),
          fields: { location: file, mode: '0664', error: 'EPERM: operation not permitted' },
        },
      ])
      expect(mode(file)).toBe('664')
    },
  )

  test.skipIf(process.platform === 'win32')(
    'a foreign one and the target of a link keep their modes',
    async () => {
      raw(file, (database) => database.exec('create table customer (name text)'))
      chmodSync(file, 0o644)
      expect((await refusal(open())).code).toBe('STORAGE_FOREIGN')
      expect(mode(file)).toBe('644')
      const own = path.join(folder, 'own.db')
      const elsewhere = path.join(folder, 'elsewhere')
      writeFileSync(elsewhere, '')
      chmodSync(elsewhere, 0o644)
      symlinkSync(elsewhere, `${own}-lock`)
      await (await open({ path: own })).close()
      expect(mode(elsewhere)).toBe('644')
    },
  )

  test('only their owner can read them, also under an open umask', async () => {
    const host = testHost()
    const umask = process.umask(0)
    const location = path.join(folder, 'deep', 'er', 'webhooks.db')
    const store = await open({ path: location }, host).finally(() => process.umask(umask))
    await commitAccepts(store, accept(host))
    const copy = path.join(folder, 'copy.db')
    await store.backup(copy)
    for (const name of ['webhooks.db', 'webhooks.db-wal', 'webhooks.db-shm', 'webhooks.db-lock']) {
      expect([name, mode(path.join(path.dirname(location), name))]).toEqual([name, '600'])
    }
    expect(mode(copy)).toBe('600')
    expect(mode(path.dirname(location))).toBe('700')
    expect(host.logged).toEqual([
      {
        level: 'info',
        message: 'storage is open',
        fields: { location, storage: store.description },
      },
    ])
    await store.close()
    expect(existsSync(`${location}-wal`)).toBe(false)
  })

  test('the default path is taken when the storage is made, not when it is opened', async () => {
    const cwd = process.cwd()
    process.chdir(folder)
    const storage = sqlite()
    process.chdir(cwd)
    const store = await storage.open(testHost())
    expect(store.location).toBe(path.join(folder, '.k-msg', 'webhooks.db'))
    await store.close()
  })

  test.skipIf(process.getuid?.() === 0)('a folder that cannot be written is refused', async () => {
    chmodSync(folder, 0o500)
    expect((await refusal(open())).code).toBe('STORAGE_READ_ONLY')
    chmodSync(folder, 0o700)
  })

  test('a path below a file is refused', async () => {
    writeFileSync(path.join(folder, 'text'), '')
    const error = await refusal(open({ path: path.join(folder, 'text', 'webhooks.db') }))
    expect(error.code).toBe('OPTION_INVALID')
  })

  test('a directory is refused, with a file to give instead, and nothing beside it', async () => {
    const data = path.join(folder, 'data')
    mkdirSync(data)
    symlinkSync(data, path.join(folder, 'link'))
    for (const given of [data, path.join(folder, 'link')]) {
      const error = await refusal(open({ path: given }))
      expect(error.code).toBe('OPTION_INVALID')
      expect(error.message).toContain(`got the directory ${given}`)
      expect(error.message).toContain(path.join(given, 'webhooks.db'))
    }
    expect(readdirSync(folder).sort()).toEqual(['data', 'link'])
  })

  test.skipIf(!existsSync('/proc/self'))('a folder that cannot be made is refused', async () => {
    const error = await refusal(open({ path: '/proc/none/deep/webhooks.db' }))
    expect(error.code).toBe('OPTION_INVALID')
    expect(error.message).toContain('/proc/none')
  })

  test('options are checked when the storage is made', () => {
    const wrong: [unknown, string][] = [
      [{ file: 'x.db' }, 'OPTION_UNKNOWN'],
      [{ path: '' }, 'OPTION_INVALID'],
      [{ path: ':memory:' }, 'OPTION_INVALID'],
      [{ path: 'web\0hooks.db' }, 'OPTION_INVALID'],
      [{ path: 5 }, 'OPTION_INVALID'],
      [{ path: 'postgres://user:password@db/app' }, 'OPTION_INVALID'],
      [{ waitForLockMs: -1 }, 'OPTION_OUT_OF_RANGE'],
      [{ waitForLockMs: Number.NaN }, 'OPTION_OUT_OF_RANGE'],
    ]
    for (const [options, code] of wrong) {
      expect(() => sqlite(options as SqliteOptions)).toThrow(expect.objectContaining({ code }))
    }
  })

  test('a URL is no path, and its password is not said', () => {
    const open = () => new WebhookService({ storage: 'postgres://user:password@db/app' })
    expect(open).toThrow(/postgres\(url\) of @k-msg/)
    expect(open).not.toThrow('password')
  })

  test('correctness 7: a backup is a whole store, taken while it is in use', async () => {
    const host = testHost()
    const store = await open({}, host)
    await commitAccepts(store, ...Array.from({ length: 50 }, () => accept(host)))
    const copy = path.join(folder, 'copy.db')
    const [, more] = await Promise.all([
      store.backup(copy),
      commitAccepts(store, accept(host, { id: 'meanwhile' })),
    ])
    expect(more.accepts).toEqual([{ kind: 'stored' }])
    // It holds what the file holds: bodies, and perhaps secrets.
    if (process.platform !== 'win32') expect(statSync(copy).mode & 0o777).toBe(0o600)
    const twice = await refusal(store.backup(copy))
    expect(twice).toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringMatching(/copy\.db.+never overwrites/),
    })
    const nowhere = await refusal(store.backup(path.join(folder, 'none', 'copy.db')))
    expect(nowhere).toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringMatching(/none.+folder that exists/),
    })
    const restored = await open({ path: copy }, host)
    expect((await restored.backlog()).waiting).toBeGreaterThanOrEqual(50)
    expect((await restored.audit()).problems).toEqual([])
    await Promise.all([restored.close(), store.close()])
  })
})

test('correctness 7: a long read holds up no commit, and the log begins anew after it', async () => {
  const host = testHost()
  const store = await open({}, host)
  const logBytes = () => statSync(`${file}-wal`).size
  const writeMegabytes = async (count: number) => {
    for (let i = 0; i < count; i += 1) {
      await commitAccepts(store, accept(host, { body: `"${'x'.repeat(1 << 20)}"` }))
    }
  }
  await writeMegabytes(2)
  const reader = loadDriver([import.meta.url]).open(file)
  reader.exec('begin')
  reader.prepare('select count(*) from event').get()
  await writeMegabytes(70)
  const heldBytes = logBytes()
  expect(heldBytes).toBeGreaterThan(64 * 2 ** 20)
  reader.exec('rollback')
  reader.close()
  // Whenever the thread that clears the log comes to it: most of this goes where the first went.
  await writeMegabytes(280)
  expect(logBytes() - heldBytes).toBeLessThan(0.22 * 280 * 2 ** 20)
  await store.close()
})

describe('when the disk fails', () => {
  test('what SQLite reports becomes a code of the contract', () => {
    const codes: [number, string | undefined][] = [
      [13, 'STORAGE_FULL'],
      [8, 'STORAGE_READ_ONLY'],
      [776, 'STORAGE_READ_ONLY'],
      [11, 'STORAGE_CORRUPT'],
      [26, 'STORAGE_CORRUPT'],
      [14, 'STORAGE_READ_ONLY'],
      [5, 'STORAGE_UNAVAILABLE'],
      [6, 'STORAGE_UNAVAILABLE'],
      // No fault of a row: it is tried again instead of looked for among the others.
      [7, 'STORAGE_UNAVAILABLE'],
      [10, 'STORAGE_IO'],
      [1034, 'STORAGE_IO'],
      [2067, undefined],
      [3091, undefined],
    ]
    for (const [errcode, code] of codes) {
      const error = storageError(Object.assign(new Error('said'), { errcode }), file)
      expect([errcode, (error as WebhookError).code]).toEqual([errcode, code])
    }
  })

  test('what the npm driver meets while it reads rows has a code, too', () => {
    const ofDriver = (message: string) =>
      storageError(Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR' }), file)
    const damage = [
      'database disk image is malformed',
      'malformed database schema (live)',
      'file is not a database',
    ]
    for (const message of damage) {
      expect(ofDriver(message)).toMatchObject({ code: 'STORAGE_CORRUPT' })
    }
    expect(ofDriver('disk I/O error')).toMatchObject({ code: 'STORAGE_IO' })
    expect(ofDriver('database or disk is full')).toMatchObject({ code: 'STORAGE_FULL' })
    expect(ofDriver('UNIQUE constraint failed: live.id')).not.toHaveProperty('code')
    expect(storageError(new Error('disk I/O error'), file)).not.toHaveProperty('code')
  })

  test.runIf(process.platform === 'linux')(
    'an I/O error where no room is left is a full disk',
    () => {
      const failed = Object.assign(new Error('disk I/O error'), { errcode: 1034 })
      // No room is ever left there.
      expect(storageError(failed, '/proc/webhooks.db')).toMatchObject({ code: 'STORAGE_FULL' })
    },
  )

  test('correctness 7: a full disk rejects with STORAGE_FULL and goes on when there is room', async (context) => {
    const small = path.join(folder, 'small')
    mkdirSync(small)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', small], { stdio: 'ignore' })
    } catch {
      context.skip('a small file system cannot be mounted here (it takes root)')
    }
    try {
      await fillAndRecover(small)
    } finally {
      execFileSync('umount', [small])
    }
  })
})

async function fillAndRecover(small: string): Promise<void> {
  const host = testHost()
  const store = await open({ path: path.join(small, 'webhooks.db') }, host)
  const ballast = path.join(small, 'ballast')
  writeFileSync(ballast, Buffer.alloc(1024 * 1024))
  const body = JSON.stringify('x'.repeat(50_000))
  const stored: string[] = []
  let failure: WebhookError | undefined
  for (let i = 0; i < 200 && !failure; i += 1) {
    const record = accept(host, { body })
    failure = await commitAccepts(store, record).then(
      () => undefined,
      (error: WebhookError) => error,
    )
    if (!failure) stored.push(record.event.id)
  }
  expect(failure?.code).toBe('STORAGE_FULL')
  expect(stored.length).toBeGreaterThan(5)
  rmSync(ballast)
  const after = accept(host, { id: 'after' })
  expect((await commitAccepts(store, after)).accepts).toEqual([{ kind: 'stored' }])
  for (const id of stored) expect(await store.findEvent('', id)).not.toBeNull()
  expect(await store.backlog()).toMatchObject({ waiting: stored.length + 1 })
  expect(host.fatal).toEqual([])
  expect((await store.audit()).problems).toEqual([])
  await store.close()
}

describe('crash', () => {
  test('correctness 7: a process killed while it commits loses nothing that was answered', async () => {
    let known = 0
    for (let round = 0; round < 4; round += 1) {
      const other = await otherProcess('--commit', String(round))
      const answered = new Promise<string>((resolve) => {
        let said = ''
        other.stdout?.on('data', (chunk: Buffer) => {
          said += chunk.toString()
          // Killed while later commits are under way.
          if (said.split('\n').length > 10 + 5 * round) other.kill('SIGKILL')
        })
        other.stdout?.on('close', () => resolve(said))
      })
      const gone = ended(other)
      const ids = (await answered).split('\n').filter((id) => id.endsWith('.'))
      await gone
      const store = await open()
      for (const id of ids) expect(await store.findEvent('', id.slice(0, -1))).not.toBeNull()
      const report = await store.audit()
      expect(report.problems).toEqual([])
      expect(report.counts.delivering).toBe(0)
      expect(report.counts.events).toBeGreaterThanOrEqual(known + ids.length)
      known = report.counts.events ?? 0
      await store.close()
    }
  })
})
