/** Files that only their owner may read or write. Windows has no such modes; what is there stays. */
import { chmodSync, closeSync, existsSync, lstatSync, openSync } from 'node:fs'
import type { StorageHost } from '../storage.ts'

const ownersBits = 0o600

/**
 * Creates a file that only its owner may read; SQLite gives its log and shared memory the same mode.
 * Never opens one that exists: closing it again would drop this process's locks on it.
 */
export function createPrivately(file: string): void {
  if (existsSync(file)) return
  try {
    closeSync(openSync(file, 'wx', ownersBits))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

/**
 * Takes away what others may do with a file that was there before, and with those beside it. For an
 * open store only: a file that turned out to be another application's is left as it is.
 *
 * @param chmod handed in by tests
 */
export function makePrivate(
  location: string,
  { log }: Pick<StorageHost, 'log'>,
  chmod: typeof chmodSync = chmodSync,
): void {
  if (process.platform === 'win32') return
  const changed: string[] = []
  for (const suffix of ['', '-wal', '-shm', '-lock', '-lock-journal']) {
    const file = `${location}${suffix}`
    // A link would change something elsewhere.
    const stats = lstatSync(file, { throwIfNoEntry: false })
    if (stats === undefined || !stats.isFile() || (stats.mode & 0o077) === 0) continue
    const mode = octal(stats.mode)
    try {
      chmod(file, stats.mode & ownersBits)
      changed.push(`${file} (${mode})`)
    } catch (error) {
      log('warn', 'others may read the data, and only the owner of the file can change that', {
        location: file,
        mode,
        error: error instanceof Error ? error.message : String(error),
      })
    }
  }
  if (changed.length === 0) return
  log('warn', 'others could read the data: its files are their owner’s alone now', {
    location,
    files: changed.join(', '),
  })
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0')
}
