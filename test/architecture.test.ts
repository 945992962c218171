import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { violationsOf } from './architecture/imports.ts'
import { table } from './architecture/rules.ts'

const src = path.join(import.meta.dirname, '../src')

describe('the direction of imports', () => {
  it('is kept by every source', () => {
    const sources = readSources()
    expect(sources.size).toBeGreaterThan(0)
    expect(violationsOf(sources)).toEqual([])
  })

  it('has no circle in its own table', () => {
    expect(circleIn(table)).toBeUndefined()
  })
})

describe('the guard of the imports', () => {
  it.each([
    ['model/event.ts', `import { settle } from '../policy/settle.ts'`, 'must not import policy'],
    ['deliver/send.ts', `import '../storage/storage.ts'`, 'must not import storage'],
    ['deliver/send.ts', `export * from '../observe/events.ts'`, 'must not import observe'],
    ['schedule/lane.ts', `const m = await import('../observe/log.ts')`, 'must not import observe'],
    ['schedule/lane.ts', `import { x } from '../deliver/send.ts'`, 'only types of deliver'],
    ['schedule/lane.ts', `import { x, type Y } from '../deliver/send.ts'`, 'only types of deliver'],
    ['storage/sqlite/store.ts', `import { x } from '../../policy/settle.ts'`, 'import policy'],
    ['storage/storage.ts', `export { x } from './sqlite/store.ts'`, 'import storage/sqlite'],
    ['receiver/hono.ts', `import type { Store } from '../storage/storage.ts'`, 'import storage'],
    ['cli/main.ts', `import { x } from '../engine/engine.ts'`, 'must not import engine'],
    ['cli/main.ts', `import x from 'lodash/fp'`, 'must not import the package lodash'],
    ['engine/engine.ts', `const s = require('@photostructure/sqlite')`, '@photostructure/sqlite'],
    ['engine/engine.ts', `process.getBuiltinModule('node:sqlite')`, 'database drivers'],
    ['policy/retry.ts', `import { randomInt } from 'node:crypto'`, 'policy is pure'],
    ['engine/engine.ts', `import fs from 'fs'`, 'has to be "node:fs"'],
    ['engine/engine.ts', `import { x } from './loop.js'`, 'has to end in .ts'],
    ['engine/engine.ts', `import x from '../../package.json'`, 'has to end in .ts'],
    ['engine/engine.ts', `import { x } from '../../test/x.ts'`, 'leads out of src/'],
    ['engine/engine.ts', `let x: import('../cli/main.ts').X`, 'must not import cli'],
    ['engine/utils.ts', '', '"utils" does not say what is inside'],
    ['model/types/event.ts', '', '"types" does not say what is inside'],
    ['surprise/event.ts', '', '"surprise" has no row'],
  ])('refuses in %s: %s', (file, text, problem) => {
    const found = violationsOf(new Map([[file, text]]))
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(problem)
  })

  it.each([
    ['schedule/lane.ts', `import type { Send } from '../deliver/send.ts'`],
    ['schedule/lane.ts', `import { type A, type B } from '../deliver/send.ts'`],
    ['schedule/lane.ts', `export type { A } from '../deliver/send.ts'`],
    ['storage/sqlite/store.ts', `import type { Store } from '../storage.ts'`],
    ['storage/sqlite/driver.ts', `require('@photostructure/sqlite')`],
    ['engine/engine.ts', `import { open } from '../accept/open.ts' // not '../cli/main.ts'`],
    ['moving/move.ts', `import { Store } from '../storage/storage.ts'`],
    ['observe/trace.ts', `import { trace } from '@opentelemetry/api/build.js'`],
  ])('allows in %s: %s', (file, text) => {
    expect(violationsOf(new Map([[file, text]]))).toEqual([])
  })

  it('finds a circle in a table', () => {
    const circle = circleIn({ a: { parts: ['b'] }, b: { parts: ['c'] }, c: { parts: ['a'] } })
    expect(circle).toEqual(['a', 'b', 'c', 'a'])
  })
})

function readSources(): Map<string, string> {
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .map((file) => file.split(path.sep).join('/'))
  return new Map(files.map((file) => [file, readFileSync(path.join(src, file), 'utf8')]))
}

function circleIn(rows: Record<string, { parts: readonly string[] }>): string[] | undefined {
  const walk = (part: string, trail: string[]): string[] | undefined => {
    if (trail.includes(part)) return [...trail.slice(trail.indexOf(part)), part]
    for (const next of rows[part]?.parts ?? []) {
      if (next.startsWith('type ')) continue
      const circle = walk(next, [...trail, part])
      if (circle) return circle
    }
    return undefined
  }
  for (const part of Object.keys(rows)) {
    const circle = walk(part, [])
    if (circle) return circle
  }
  return undefined
}
