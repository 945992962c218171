// What goes wrong in engines like this one, and the rules against it. Each number has tests that begin
// with `correctness N:`; those of the database are on a real one.
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

const rules = {
  R1: 'who owns a delivery: one lease for a process, not one for each delivery',
  R2: 'fencing: what an old claim says decides nothing',
  R3: 'every commit can be repeated, and an unknown outcome is found out',
  R4: "a caller's transaction brings one row and takes no lock that others want",
  R5: 'unfinished deliveries in one table, ended ones by day',
}

const points = {
  1: 'poison: a row that the database refuses, for ever, or with 199 others',
  2: 'the answer to a commit is lost',
  3: 'outcomes counted twice, or by a process that does not own them any more',
  4: 'leases that end while their owner goes on',
  5: 'leases and ids inside a long transaction',
  6: 'endpoints that another process has changed',
  7: 'SQLite: two processes, a dead thread, a disk that is full, hangs or fails',
  8: 'claims that read what they do not take',
  9: 'the same id again: at once, in one batch, after midnight',
  10: 'two processes at one repair',
  11: 'retention that takes what waits, or holds up everybody',
  12: 'batches that are sent again as other batches',
  13: 'order per key over processes',
  14: 'limits over processes',
  15: 'clocks that jump',
  16: 'one event for thousands of endpoints',
}

const root = path.join(import.meta.dirname, '..')
const names = /['"`]correctness (R?\d+): /g
/** These folders run on PostgreSQL: the conformance suite and the journeys on both. */
const onPostgres = /^test\/(postgres|journey|storage\/conformance)\//

function numbersIn(files: readonly string[]): Set<string> {
  const found = new Set<string>()
  for (const file of files) {
    const text = readFileSync(path.join(root, file), 'utf8')
    for (const [, number] of text.matchAll(names)) found.add(number ?? '')
  }
  return found
}

const files = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .map((name) => `test/${name.replaceAll(path.sep, '/')}`)
  .filter((file) => file.endsWith('.ts') && file !== 'test/correctness.test.ts')
const wanted = [...Object.keys(rules), ...Object.keys(points)]

describe('what goes wrong', () => {
  it('has a test for each number', () => {
    const found = numbersIn(files)
    expect(wanted.filter((number) => !found.has(number))).toEqual([])
  })

  it('has one on PostgreSQL for each that is not about SQLite', () => {
    const found = numbersIn(files.filter((file) => onPostgres.test(file)))
    expect(wanted.filter((number) => number !== '7' && !found.has(number))).toEqual([])
  })

  it('has no number that is not in the list', () => {
    expect([...numbersIn(files)].filter((number) => !wanted.includes(number))).toEqual([])
  })
})
