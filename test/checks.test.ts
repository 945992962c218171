import { describe, expect, it } from 'vitest'
import { checkContents } from '../scripts/checks/package.mjs'

const good = [
  'CHANGELOG.md',
  'LICENSE',
  'README.ko.md',
  'README.md',
  'dist/cli/main.js',
  'dist/index.d.ts',
  'dist/index.js',
  'package.json',
]

describe('the guard of what is published', () => {
  it('accepts the package as it should be', () => {
    expect(() => checkContents(good)).not.toThrow()
  })

  it.each(['src/index.ts', 'dist/a.test.js', 'dist/.build-hash', '.env', 'dist/webhooks.db'])(
    'refuses %s inside',
    (file) => {
      expect(() => checkContents([...good, file])).toThrow(file)
    },
  )

  it.each(['LICENSE', 'README.ko.md', 'dist/index.js'])('misses %s', (file) => {
    expect(() => checkContents(good.filter((it) => it !== file))).toThrow(file)
  })
})
