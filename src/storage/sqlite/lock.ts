/**
 * One process per file, and one store per process. The lock is a transaction held open on a side
 * database: the system drops it with the process, however it ends, so there is never a stale one to
 * clean up. It belongs to the main thread, so that a thread can die and come back under it.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Database, Driver } from './driver.ts'
import { sqliteCode } from './errors.ts'

const busy = 5
const pollMs = 50

/**
 * Files open in this process, by any copy of this package: two copies of SQLite in one process do
 * not see each other's locks, and closing one drops the other's.
 */
const openHere = filesOpenHere()

function filesOpenHere(): Set<string> {
  const shared = globalThis as Record<symbol, unknown>
  const name = Symbol.for('@k-msg/webhook: open SQLite files')
  shared[name] ??= new Set<string>()
  return shared[name] as Set<string>
}

export interface Lock {
  release(): void
}

/**
 * @param waitMs how long to try again while another process holds it
 * @throws WebhookError STORAGE_LOCKED
 */
export async function lockFile(driver: Driver, location: string, waitMs: number): Promise<Lock> {
  const untilMs = performance.now() + waitMs
  for (;;) {
    const lock = tryLock(driver, location)
    if (lock) return lock
    const leftMs = untilMs - performance.now()
    if (leftMs <= 0) throw lockedError(location, waitMs)
    await new Promise((resolve) => setTimeout(resolve, Math.min(pollMs, leftMs)))
  }
}

function tryLock(driver: Driver, location: string): Lock | null {
  if (openHere.has(location)) return null
  const side = holdTransaction(driver, `${location}-lock`)
  if (side === null) return null
  openHere.add(location)
  return {
    release() {
      openHere.delete(location)
      side.close()
    },
  }
}

function holdTransaction(driver: Driver, location: string): Database | null {
  const side = driver.open(location)
  try {
    side.exec('pragma busy_timeout = 0')
    // Nothing is ever written, so there is nothing to roll back and no journal to leave behind.
    side.exec('pragma journal_mode = off')
    side.exec('begin exclusive')
    return side
  } catch (error) {
    side.close()
    if (sqliteCode(error) === busy) return null
    throw error
  }
}

function lockedError(location: string, waitMs: number): WebhookError {
  const waited = waitMs > 0 ? ` for ${waitMs} ms` : ''
  return new WebhookError(
    'STORAGE_LOCKED',
    `Expected to be the only process on ${location}, but another one (or another service in this one) has held it${waited}; stop that one, give this one its own file with \`sqlite({ path })\`, or wait for it with \`sqlite({ waitForLockMs })\`.`,
  )
}
