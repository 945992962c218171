import path from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { movingTables } from '../../src/storage/moving.ts'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { exportFile } from '../../src/storage/sqlite/export.ts'
import { sqlite } from '../../src/storage/sqlite/sqlite.ts'
import { emptyFolder } from '../cli/command.ts'
import { accept, commitAccepts, testHost } from './fixtures.ts'

const events = movingTables.find(({ name }) => name === 'event')

/** The npm driver frees a statement that nobody holds, and a read that goes on crashes the process. */
it('reads a table to its end while garbage is collected, and can stop half way', async () => {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const file = path.join(await emptyFolder(), 'export.db')
  const host = testHost()
  const store = await sqlite({ path: file }).open(host)
  const body = 'x'.repeat(10_000)
  await commitAccepts(store, ...Array.from({ length: 2_500 }, () => accept(host, { to: [], body })))
  await store.close()

  const source = await exportFile(file)
  if (events === undefined) throw new Error('Expected a table of events.')
  const sizes: number[] = []
  for (const slice of source.slices(events)) {
    sizes.push(slice.length)
    collectGarbage()
    await new Promise(setImmediate)
    collectGarbage()
  }
  expect(sizes.reduce((sum, size) => sum + size)).toBe(2_500)
  // 4 MiB at a time.
  expect(Math.max(...sizes)).toBeLessThan(430)
  for (const slice of source.slices(events)) {
    expect(slice.length).toBeGreaterThan(0)
    break
  }
  source.close()
  collectGarbage()
  // The lock is let go.
  await (await sqlite({ path: file }).open(host)).close()
})

/** SQLite built into Node writes them; the npm driver would read them up to the NUL. */
it('reads texts with NUL, and empty ones, as they are', async () => {
  const file = path.join(await emptyFolder(), 'nul.db')
  const host = testHost()
  const store = await sqlite({ path: file }).open(host)
  await commitAccepts(store, accept(host, { to: [] }))
  await store.close()
  const database = loadDriver([import.meta.url]).open(file)
  database.exec(`update event set type = 'a' || char(0) || '\u{1F44B}\uFDD0', tenant_id = ''`)
  database.close()

  const source = await exportFile(file)
  if (events === undefined) throw new Error('Expected a table of events.')
  const [row] = [...source.slices(events)].flat()
  source.close()
  expect(row?.slice(1, 4)).toEqual(['', expect.any(String), 'a\0\u{1F44B}\uFDD0'])
})
