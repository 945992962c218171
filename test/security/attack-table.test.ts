import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '../..')

function attackRows(): string[][] {
  const text = readFileSync(path.join(root, 'SECURITY.md'), 'utf8')
  const [, table = ''] = text.split('## Attacks, and what happens')
  return table
    .split('\n')
    .filter(
      (line) => line.startsWith('| ') && !line.startsWith('| attack') && !line.startsWith('| ---'),
    )
    .map((line) => line.split('|').map((cell) => cell.trim()))
}

it('every attack in SECURITY.md names a test that exists', () => {
  const rows = attackRows()
  expect(rows.length).toBeGreaterThan(15)
  const missing = rows.flatMap(([, attack = '', , tests = '']) => {
    const named = [...tests.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file)
    if (named.length === 0) return [`${attack}: no test`]
    return named.filter((file) => !existsSync(path.join(root, file)))
  })
  expect(missing).toEqual([])
})

it('what a row says of a case is in its test', () => {
  for (const [, , , tests = ''] of attackRows()) {
    for (const [, file = '', cases = ''] of tests.matchAll(/`([^`]+)` \(([^)]+)\)/g)) {
      const text = readFileSync(path.join(root, file), 'utf8')
      for (const [id] of cases.matchAll(/[A-Z]\d+/g)) expect(text, `${file} ${id}`).toContain(id)
    }
  }
})
