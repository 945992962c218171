// Which SQLite is used, and that what it has committed is on disk.
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { openSession } from '../../src/storage/sqlite/session.ts'
import { loadFrom } from '../../src/storage/sqlite/worker-url.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

/** A runtime with this SQLite in it; null for one without. */
function builtIn(version: string | null): void {
  const get = process.getBuiltinModule
  class DatabaseSync {
    prepare() {
      return { get: () => ({ version }) }
    }
    close() {}
  }
  vi.spyOn(process, 'getBuiltinModule').mockImplementation((name: string) => {
    if (name !== 'node:sqlite') return get(name as 'node:fs')
    return version === null ? undefined : { DatabaseSync }
  })
}

describe('the driver', () => {
  it.each([
    ['3.51.3', 'node:sqlite'],
    ['3.60.0', 'node:sqlite'],
    ['3.100.0', 'node:sqlite'],
    ['4.0.0', 'node:sqlite'],
    ['3.51.2', '@photostructure/sqlite'],
    ['3.50.4', '@photostructure/sqlite'],
    ['3.9.9', '@photostructure/sqlite'],
    [null, '@photostructure/sqlite'],
  ])('of a runtime with SQLite %s is %s', (version, name) => {
    builtIn(version)
    expect(loadDriver(loadFrom()).name).toBe(name)
  })

  it('is missing where neither is there, and says what to do', () => {
    builtIn('3.51.2')
    expect(() => loadDriver(['/nowhere/app.js'])).toThrow(
      expect.objectContaining({
        code: 'STORAGE_UNAVAILABLE',
        message: expect.stringMatching(/3\.51\.3 or newer, got 3\.51\.2 .+npm install/),
      }),
    )
  })
})

it('a commit is synced before it is answered', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'kmsg-'))
  const location = path.join(folder, 'webhooks.db')
  const { connection } = openSession(loadDriver(loadFrom()).open(location), {
    location,
    nowMs: 0,
    resume: null,
  })
  // 2 is FULL: after a power cut, what NORMAL has answered last can be gone.
  expect(connection.get('pragma synchronous')).toEqual({ synchronous: 2 })
  expect(connection.get('pragma journal_mode')).toEqual({ journal_mode: 'wal' })
  connection.close()
  rmSync(folder, { recursive: true })
})
