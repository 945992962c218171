// Owns what a TypeScript block in our documents means. Every block is type-checked and executed; an
// HTML comment on the line before its fence, invisible to readers, says what it needs beyond that:
//
//   <!-- with: name -->           names it does not declare come from test/docs/setups/name.ts
//   <!-- continues -->            it is the next part of the block before, in the same module
//   <!-- types only: reason -->   it is type-checked and not executed
//
// Parts are joined with a semicolon: <!-- with: name; types only: it needs a real server -->
import ts from 'typescript'

/** One module: a block and those that continue it. */
export interface Snippet {
  document: string
  /** Where its first block starts, counted from 1. */
  line: number
  parts: { line: number; code: string }[]
  setup?: string
  typesOnly?: string
}

interface Marks {
  setup?: string
  typesOnly?: string
  continues?: true
}

const fence = /^(\s*)```(\w*)\s*$/
const comment = /^\s*<!--\s*(.+?)\s*-->\s*$/

export function snippetsOf(document: string, text: string): Snippet[] {
  const lines = text.split('\n')
  const snippets: Snippet[] = []
  for (let index = 0; index < lines.length; index++) {
    const opened = fence.exec(lines[index] ?? '')
    if (!opened) continue
    const start = index + 1
    const end = lines.findIndex((line, at) => at >= start && line.trim() === '```')
    if (end < 0) throw new Error(`${document}:${index + 1} opens a block that never ends.`)
    if (opened[2] === 'ts' || opened[2] === 'typescript') {
      const indent = opened[1]?.length ?? 0
      const code = lines.slice(start, end).map((line) => line.slice(indent))
      const marks = marksOf(lines[index - 1] ?? '', `${document}:${index}`)
      add(snippets, document, { line: start + 1, code: code.join('\n') }, marks)
    }
    index = end
  }
  return snippets
}

function add(
  snippets: Snippet[],
  document: string,
  part: Snippet['parts'][number],
  { continues, ...marks }: Marks,
) {
  if (!continues) {
    snippets.push({ document, line: part.line, parts: [part], ...marks })
    return
  }
  const where = `${document}:${part.line}`
  const previous = snippets.at(-1)
  if (!previous) throw new Error(`${where} continues a block, but is the first one.`)
  if (marks.setup || marks.typesOnly) {
    throw new Error(`${where} continues a block: what it needs is said before that block's start.`)
  }
  previous.parts.push(part)
}

function marksOf(line: string, where: string): Marks {
  const text = comment.exec(line)?.[1]
  if (!text) return {}
  const marks: Marks = {}
  for (const part of text.split(';').map((piece) => piece.trim())) {
    const [, key, value = ''] = /^(with|types only|continues)(?::\s*(.+))?$/.exec(part) ?? []
    if (key === 'with' && /^[\w-]+$/.test(value)) marks.setup = value
    else if (key === 'types only' && value) marks.typesOnly = value
    else if (key === 'continues' && !value) marks.continues = true
    else {
      throw new Error(
        `${where} Expected \`with: name\`, \`continues\` or \`types only: reason\`, got \`${part}\`.`,
      )
    }
  }
  return marks
}

/**
 * The module of a snippet. Code keeps the line it has in the document, so that errors point there.
 *
 * @param setupText source of its setup; every export but `check` can be used by the snippet
 */
export function moduleOf(snippet: Snippet, setupText?: string): string {
  const code = snippet.parts.map((part) => part.code).join('\n')
  const own = namesIn(code)
  const lines: string[] = []
  if (snippet.setup && setupText !== undefined) {
    const given = namesIn(setupText).filter(
      (it) => it.exported && it.name !== 'check' && !own.some(({ name }) => name === it.name),
    )
    const list = given.map((it) => (it.type ? `type ${it.name}` : it.name)).join(', ')
    lines.push(`import { ${list} } from '../setups/${snippet.setup}.ts'`)
  }
  for (const part of snippet.parts) {
    while (lines.length < part.line - 1) lines.push('')
    lines.push(...part.code.split('\n'))
  }
  const values = own.filter((it) => !it.exported && !it.type).map((it) => it.name)
  lines.push(`export { ${values.join(', ')} }`, '')
  return lines.join('\n')
}

interface Name {
  name: string
  exported: boolean
  type: boolean
}

/** What a module declares at its top level. Imports count: they hide the setup's names too. */
function namesIn(code: string): Name[] {
  const source = ts.createSourceFile('block.ts', code, ts.ScriptTarget.Latest)
  return source.statements.flatMap((statement) => {
    const exported =
      ts.canHaveModifiers(statement) &&
      (ts.getModifiers(statement) ?? []).some((it) => it.kind === ts.SyntaxKind.ExportKeyword)
    return declaredBy(statement).map((it) => ({ ...it, exported }))
  })
}

function declaredBy(statement: ts.Statement): Omit<Name, 'exported'>[] {
  if (ts.isVariableStatement(statement)) {
    return statement.declarationList.declarations
      .flatMap((declaration) => boundBy(declaration.name))
      .map((name) => ({ name, type: false }))
  }
  if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) {
    return statement.name ? [{ name: statement.name.text, type: false }] : []
  }
  if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) {
    return [{ name: statement.name.text, type: true }]
  }
  if (ts.isImportDeclaration(statement)) {
    // A type cannot be told from a value here, and nobody asks for a re-export: hide, do not export.
    const { name, namedBindings } = statement.importClause ?? {}
    const named =
      namedBindings && ts.isNamedImports(namedBindings)
        ? namedBindings.elements.map((it) => it.name)
        : [namedBindings?.name]
    return [name, ...named].flatMap((it) => (it ? [{ name: it.text, type: true }] : []))
  }
  return []
}

function boundBy(name: ts.BindingName): string[] {
  if (ts.isIdentifier(name)) return [name.text]
  return name.elements.flatMap((it) => (ts.isBindingElement(it) ? boundBy(it.name) : []))
}
