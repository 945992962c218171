import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { describe, expect, test } from 'vitest'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { loadFrom } from '../../src/storage/sqlite/worker-url.ts'
import { gate, journey, type Stage } from './stage.ts'

const isRoot = process.getuid?.() === 0

const why = whyNoSmallDisk()

describe('a disk that is full', () => {
  if (why !== null) test.skip(`refuses what cannot be stored (skipped: ${why})`)

  if (why === null) {
    journey(
      'refuses what cannot be stored, keeps what was, and goes on when there is room',
      async (stage) => {
        const disk = path.join(stage.folder, 'disk')
        mkdirSync(disk)
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk])
        try {
          await fillAndFree(stage, disk)
        } finally {
          execFileSync('umount', ['-l', disk])
        }
      },
      60_000,
    )
  }

  async function fillAndFree(stage: Stage, disk: string): Promise<void> {
    const ballast = path.join(disk, 'ballast')
    // More than half: what the log holds can be the same again in the file once this is gone.
    writeFileSync(ballast, Buffer.alloc(9 * 1_048_576))
    const hold = gate()
    stage.inbox.setAnswer(() => ({ after: hold.opened }))
    // Time passes by itself here: trying again is what is tested.
    await using service = await stage.open({
      storage: path.join(disk, 'webhooks.db'),
      clock: undefined,
      retryScheduleMs: [10, 10, 10],
    })
    await service.registerEndpoint(stage.endpoint('shop'))
    const recovered = new Promise<void>((resolve) => {
      service.on('storage.recovered', () => resolve())
    })
    const troubles: string[] = []
    service.on('storage.trouble', (fact) => troubles.push(fact.code))

    const accepted: string[] = []
    const refused: string[] = []
    const publish = async (data: unknown) => {
      const event = stage.event({ data })
      await service.dispatchEvent(event).then(
        () => accepted.push(event.id),
        (error: { code: string }) => refused.push(error.code),
      )
    }
    // Fill it to the last byte: first with large events, then with small ones.
    for (const size of [200_000, 10_000, 100]) {
      const before = refused.length
      while (refused.length === before) await publish('x'.repeat(size))
    }
    expect(new Set(refused)).toEqual(new Set(['STORAGE_FULL']))
    expect(accepted.length).toBeGreaterThan(10)
    expect(troubles).toContain('STORAGE_FULL')
    expect(await service.health()).toMatchObject({
      status: 'degraded',
      trouble: { code: 'STORAGE_FULL' },
    })

    // Answers come in while nothing can be written: they must not be lost either.
    hold.open()
    await stage.inbox.waitForCount(10)
    rmSync(ballast)
    await recovered
    await publish('there is room again')
    expect(refused.filter((code) => code !== 'STORAGE_FULL')).toEqual([])
    await service.drain()
    expect(await service.health()).toMatchObject({ status: 'ok', trouble: null })
    const delivered = new Set(stage.at('shop').map((one) => one.headers['webhook-id']))
    expect([...delivered].sort()).toEqual([...accepted].sort())
    // The outcome of a request is kept until it can be written: nobody is asked twice.
    expect(stage.at('shop')).toHaveLength(accepted.length)
    expect((await service.audit()).problems).toEqual([])
  }
})

const silent = { debug() {}, info() {}, warn() {}, error() {} }

/** Overwrites the first page of a table, as a disk that forgets does. */
function damageRows(dataFile: string, table: string): void {
  const database = loadDriver(loadFrom()).open(dataFile)
  const { rootpage } = database
    .prepare('select rootpage from sqlite_schema where name = ?')
    .get(table) as { rootpage: number }
  database.close()
  const file = openSync(dataFile, 'r+')
  writeSync(file, Buffer.alloc(4_096, 0xff), 0, 4_096, (rootpage - 1) * 4_096)
  closeSync(file)
}

describe('a data file that cannot be used', () => {
  const refused = async (storage: string) => {
    const service = new WebhookService({ storage, logger: false })
    const error: { code: string; message: string } = await service.ready().then(
      () => ({ code: 'none', message: '' }),
      (one) => one,
    )
    await expect(service.dispatchEvent(good)).rejects.toMatchObject({ code: error.code })
    await service.close()
    expect(error.message).toMatch(/^Expected /)
    return error.code
  }
  const good = { id: 'a', type: 'message.sent', timestamp: new Date(), data: null }

  journey('that is no database is refused and left as it is', async (stage) => {
    writeFileSync(stage.dataFile, 'This is a letter to my mother, not a database. '.repeat(100))
    expect(await refused(stage.dataFile)).toBe('STORAGE_CORRUPT')
    rmSync(stage.dataFile)
  })

  journey('that is damaged inside is told by errors, log and health', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const event = stage.event()
    await service.dispatchEvent(event)
    await service.drain()
    await service.close()
    damageRows(stage.dataFile, 'done')

    const errors: string[] = []
    const error = (_: unknown, message: string) => errors.push(message)
    const again = await stage.open({ deliver: false, logger: { ...silent, error } })
    expect(await again.health()).toMatchObject({ status: 'ok' })
    for (const ask of [again.getEvent(event.id), again.listDeliveries()]) {
      await expect(ask).rejects.toMatchObject({ code: 'STORAGE_CORRUPT' })
    }
    // Elsewhere in the file all is well, and yet somebody has to come.
    await again.dispatchEvent(stage.event())
    expect(await again.health()).toMatchObject({
      status: 'degraded',
      trouble: { code: 'STORAGE_CORRUPT' },
    })
    expect(errors).toEqual(['the data file is damaged'])
    await again.close()
    rmSync(stage.dataFile)
  })

  journey('of another application is refused and left as it is', async (stage) => {
    const { open } = loadDriver(loadFrom())
    const other = open(stage.dataFile)
    other.exec('create table recipes (name text)')
    other.exec("insert into recipes values ('bibimbap')")
    other.close()
    expect(await refused(stage.dataFile)).toBe('STORAGE_FOREIGN')
    const after = open(stage.dataFile)
    expect(after.prepare('select name from recipes').get()).toMatchObject({ name: 'bibimbap' })
    after.close()
  })

  journey('of a newer version is refused', async (stage) => {
    await (await stage.open()).close()
    const { open } = loadDriver(loadFrom())
    const file = open(stage.dataFile)
    const now = file.prepare('pragma user_version').get() as { user_version: number }
    file.exec('pragma user_version = 999')
    expect(await refused(stage.dataFile)).toBe('STORAGE_SCHEMA_NEWER')
    file.exec(`pragma user_version = ${now.user_version}`)
    file.close()
  })

  journey('in a folder that is a file is refused', async (stage) => {
    writeFileSync(path.join(stage.folder, 'letter'), 'x')
    const inFile = path.join(stage.folder, 'letter', 'webhooks.db')
    expect(await refused(inFile)).toBe('OPTION_INVALID')
  })

  if (!isRoot || why === null) {
    journey('in a folder that is read-only is refused', async (stage) => {
      const folder = path.join(stage.folder, 'sealed')
      mkdirSync(folder)
      // Root may write everywhere but on a disk that is read-only.
      if (isRoot) execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder])
      else chmodSync(folder, 0o500)
      try {
        expect(await refused(path.join(folder, 'webhooks.db'))).toBe('STORAGE_READ_ONLY')
      } finally {
        if (isRoot) execFileSync('umount', [folder])
        else chmodSync(folder, 0o700)
      }
    })
  }
})

function whyNoSmallDisk(): string | null {
  if (process.platform !== 'linux' || !isRoot) return 'needs root on Linux'
  const probe = path.join('/tmp', `kmsg-probe-${process.pid}`)
  try {
    mkdirSync(probe)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', probe], { stdio: 'ignore' })
    execFileSync('umount', [probe])
    return null
  } catch {
    return 'cannot mount here'
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
}
