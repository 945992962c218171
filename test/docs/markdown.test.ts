import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { moduleOf, snippetsOf } from './markdown.ts'
import { typeErrorsOf } from './typecheck.ts'

const block = (code: string, mark = '', language = 'ts') =>
  `${mark}\n\`\`\`${language}\n${code}\n\`\`\`\n`

describe('blocks of a document', () => {
  it('are found with their line', () => {
    const [found, ...others] = snippetsOf('a.md', `# Title\n${block('let x = 1\nlet y = 2')}`)
    expect(found).toEqual({
      document: 'a.md',
      line: 4,
      parts: [{ line: 4, code: 'let x = 1\nlet y = 2' }],
    })
    expect(others).toEqual([])
  })

  it('of other languages are left alone', () => {
    expect(snippetsOf('a.md', block('npm ci', '', 'sh') + block('{}', '', ''))).toEqual([])
  })

  it('join the one they continue', () => {
    const text = block('a', '<!-- with: setup -->') + block('b', '<!-- continues -->') + block('c')
    const found = snippetsOf('a.md', text)
    expect(found.map((it) => it.parts.map((part) => part.code))).toEqual([['a', 'b'], ['c']])
    expect(found.map((it) => it.setup)).toEqual(['setup', undefined])
  })

  it('say why they are not executed', () => {
    const [found] = snippetsOf('a.md', block('a', '<!-- with: x; types only: your server -->'))
    expect(found).toMatchObject({ setup: 'x', typesOnly: 'your server' })
  })

  it.each([
    ['an unknown mark', '<!-- run -->'],
    ['a setup without a name', '<!-- with: -->'],
    ['a missing reason', '<!-- types only -->'],
    ['nothing to continue', '<!-- continues -->'],
  ])('refuse %s', (_, mark) => {
    expect(() => snippetsOf('a.md', block('a', mark))).toThrow(/a\.md:\d/)
  })

  it('that never end are refused', () => {
    expect(() => snippetsOf('a.md', '```ts\nlet x')).toThrow('a.md:1')
  })
})

describe('the module of a snippet', () => {
  it('keeps the lines, takes what the setup gives and exports what it declares', () => {
    const text = block('import { Z } from "z"\nconst { a, b: [c] } = given\nfunction d() {}')
    const [found] = snippetsOf('a.md', `\n\n${text}`)
    const setup =
      'export const given = 1\nexport interface Shape {}\nexport class Z {}\n' +
      'export const a = 1\nexport function check() {}\nconst inner = 1'
    expect(moduleOf({ ...found!, setup: 'given' }, setup).split('\n')).toEqual([
      `import { given, type Shape } from '../setups/given.ts'`,
      '',
      '',
      '',
      'import { Z } from "z"',
      'const { a, b: [c] } = given',
      'function d() {}',
      'export { a, c, d }',
      '',
    ])
  })
})

describe('type-checking', () => {
  const folder = path.join(import.meta.dirname, '.generated/check')
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('finds what is wrong, at its line', () => {
    mkdirSync(folder, { recursive: true })
    const file = (name: string, text: string) => {
      writeFileSync(path.join(folder, name), text)
      return path.join(folder, name)
    }
    const good = file('good.ts', 'export const one: number = 1\n')
    const bad = file('bad.ts', '\n\nexport const one: number = ["1"][0]\n')
    expect(typeErrorsOf([good, bad])).toEqual([expect.stringMatching(/^bad\.ts:3 .*undefined/)])
  })
})
