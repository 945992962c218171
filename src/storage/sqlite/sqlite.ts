/**
 * The default storage: one SQLite file, owned by one process. Knows where the file is and who may
 * read it; what is in it belongs to the thread (worker.ts).
 */
import { existsSync, mkdirSync, realpathSync, statSync } from 'node:fs'
import path from 'node:path'
import { describeValue, WebhookError } from '../../model/errors.ts'
import { checkOptions } from '../../model/given.ts'
import type { Storage, StorageHost, Store } from '../storage.ts'
import { loadDriver } from './driver.ts'
import { fileSystemError, storageError } from './errors.ts'
import { lockFile } from './lock.ts'
import { requireOneName } from './names-of-file.ts'
import { createPrivately, makePrivate } from './private-file.ts'
import { openStore } from './store.ts'
import { loadFrom } from './worker-url.ts'

export interface SqliteOptions {
  /** Default `./.k-msg/webhooks.db`, relative to the working directory of this moment. */
  path?: string | undefined
  /** How long to wait for another process to let go of the file, for rolling restarts. Default 0. */
  waitForLockMs?: number | undefined
}

const knownOptions: readonly string[] = ['path', 'waitForLockMs']

/**
 * Events and deliveries in one SQLite file: durable (every commit is synced), one process at a time.
 * Opens nothing until the service starts.
 *
 * @throws WebhookError OPTION_UNKNOWN | OPTION_INVALID | OPTION_OUT_OF_RANGE
 */
export function sqlite(options: SqliteOptions = {}): Storage {
  checkSqlite(options)
  const location = path.resolve(options.path ?? '.k-msg/webhooks.db')
  const waitForLockMs = options.waitForLockMs ?? 0
  return { kind: 'sqlite', open: (host) => openFile(location, waitForLockMs, host) }
}

/**
 * The same store without a file, FOR TESTS: everything in it is lost when the service closes or the
 * process ends, accepted events included.
 */
export function memory(): Storage {
  return { kind: 'memory', open: (host) => openStore(':memory:', host, () => {}) }
}

async function openFile(wanted: string, waitForLockMs: number, host: StorageHost): Promise<Store> {
  try {
    const location = prepareFolder(wanted)
    const driver = loadDriver(loadFrom())
    createPrivately(`${location}-lock`)
    createPrivately(location)
    requireOneName(location)
    const lock = await lockFile(driver, location, waitForLockMs)
    try {
      const store = await openStore(location, host, () => lock.release())
      makePrivate(location, host)
      host.log('info', 'storage is open', { location, storage: store.description })
      return store
    } catch (error) {
      lock.release()
      throw error
    }
  } catch (error) {
    throw storageError(
      fileSystemError(error, `to open or create ${wanted}`, 'name another file in `storage`'),
      wanted,
    )
  }
}

/** @returns the real path, so that two names of one file are one lock */
function prepareFolder(wanted: string): string {
  const folder = path.dirname(wanted)
  makeFolder(folder)
  if (!existsSync(wanted)) return path.join(realpathSync(folder), path.basename(wanted))
  if (statSync(wanted).isDirectory()) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the path of a file in \`storage\`, got the directory ${wanted}; name a file in it, such as ${path.join(wanted, 'webhooks.db')}.`,
    )
  }
  return realpathSync(wanted)
}

/** One level at a time: on Node 20, `recursive` never returns for a path such as /proc/none/data. */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return
  makeFolder(path.dirname(folder))
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function checkSqlite(options: SqliteOptions): void {
  checkOptions(options, knownOptions, 'sqlite()')
  const { path: file, waitForLockMs } = options
  if (file !== undefined && (typeof file !== 'string' || file === '' || file === ':memory:')) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`path\` of sqlite() to be the path of a file, got ${describeValue(file)}; for a store without a file use memory().`,
    )
  }
  if (file?.includes('\0')) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the path of a file, got one with a NUL character in it, ${describeValue(file)}, which no file system has.`,
    )
  }
  // The URL may hold a password: it must not become the name of a folder, nor be in a log.
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(file ?? '')?.[1]
  if (scheme !== undefined) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the path of a file, got a URL that begins with ${scheme}://; for PostgreSQL give postgres(url) of @k-msg/webhook/postgres as \`storage\`.`,
    )
  }
  if (waitForLockMs !== undefined && !(Number.isFinite(waitForLockMs) && waitForLockMs >= 0)) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`waitForLockMs\` of sqlite() to be 0 or more milliseconds, got ${describeValue(waitForLockMs)}.`,
    )
  }
}
