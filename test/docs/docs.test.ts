import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { moduleOf, type Snippet, snippetsOf } from './markdown.ts'
import { typeErrorsOf } from './typecheck.ts'

const root = path.join(import.meta.dirname, '../..')
const generated = path.join(import.meta.dirname, '.generated')
const setups = path.join(import.meta.dirname, 'setups')

const snippets = documents().flatMap((document) =>
  snippetsOf(document, readFileSync(path.join(root, document), 'utf8')),
)
rmSync(generated, { recursive: true, force: true })
mkdirSync(generated)
const files = new Map(snippets.map((snippet) => [snippet, generate(snippet)]))

describe('code in the documents', () => {
  it('is there', () => {
    expect(snippets.map((it) => it.document)).toEqual(
      expect.arrayContaining(['README.md', 'README.ko.md']),
    )
  })

  it('is right for the strict compiler', () => {
    expect(typeErrorsOf([...files.values()])).toEqual([])
  })

  it('is the same in both languages', () => {
    expect(codeOf('README.ko.md')).toEqual(codeOf('README.md'))
  })

  it('comes with no setup that nobody uses', () => {
    const used = new Set(snippets.flatMap((it) => it.setup ?? []))
    expect(setupNames().filter((name) => !used.has(name))).toEqual([])
  })
})

describe('code in the documents runs:', () => {
  // Each snippet gets fresh modules, so that nothing of the one before is open or registered.
  let leave: () => Promise<void>
  beforeEach(async () => {
    vi.resetModules()
    leave = (await import('./local.ts')).leave
  })
  afterEach(() => leave())

  for (const [snippet, file] of files) {
    const title = `${snippet.document}:${snippet.line}`
    if (snippet.typesOnly) continue
    it(title, async () => {
      const result = await import(file)
      if (!snippet.setup) return
      const { check } = await import(path.join(setups, `${snippet.setup}.ts`))
      await check?.(result)
    })
  }
})

function documents(): string[] {
  const docs = path.join(root, 'docs')
  const inDocs = existsSync(docs) ? readdirSync(docs).filter((it) => it.endsWith('.md')) : []
  return ['README.md', 'README.ko.md', ...inDocs.map((it) => `docs/${it}`)].filter((it) =>
    existsSync(path.join(root, it)),
  )
}

function generate(snippet: Snippet): string {
  const file = path.join(generated, `${snippet.document.replaceAll('/', '-')}-${snippet.line}.ts`)
  writeFileSync(file, moduleOf(snippet, snippet.setup && setupText(snippet.setup)))
  return file
}

function setupText(name: string): string {
  return readFileSync(path.join(setups, `${name}.ts`), 'utf8')
}

function setupNames(): string[] {
  return existsSync(setups) ? readdirSync(setups).map((file) => file.replace(/\.ts$/, '')) : []
}

/** The blocks of a document without their comments, which speak the reader's language. */
function codeOf(document: string): string[] {
  return snippets
    .filter((it) => it.document === document)
    .flatMap((it) => it.parts.map((part) => part.code.replace(/\s*\/\/.*$/gm, '')))
}
