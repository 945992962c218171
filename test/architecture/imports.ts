// Owns reading imports out of sources and judging them by the table.
import { builtinModules } from 'node:module'
import path from 'node:path'
import ts from 'typescript'
import { emptyNames, table } from './rules.ts'

export interface Import {
  specifier: string
  /** Vanishes when compiled. */
  typeOnly: boolean
}

/**
 * @param sources file paths relative to src/, with `/`, and their text
 * @returns one sentence per import or folder outside the table
 */
export function violationsOf(sources: ReadonlyMap<string, string>): string[] {
  const found: string[] = []
  for (const [file, text] of sources) {
    found.push(...emptyNamesIn(file))
    const part = partOf(file)
    if (!table[part]) {
      found.push(`${file}: "${part}" has no row in test/architecture/rules.ts`)
      continue
    }
    for (const imported of importsOf(file, text)) {
      const problem = imported.specifier.startsWith('.')
        ? judgePart(part, file, imported)
        : judgePackage(part, imported)
      if (problem) found.push(`${file}: ${problem}`)
    }
  }
  return found
}

function judgePart(part: string, file: string, { specifier, typeOnly }: Import) {
  if (!specifier.endsWith('.ts')) return `"${specifier}" has to end in .ts`
  const target = path.posix.join(path.posix.dirname(file), specifier)
  if (target.startsWith('..')) return `"${specifier}" leads out of src/`
  const other = partOf(target)
  if (other === part) return undefined
  const { parts } = table[part] as (typeof table)[string]
  if (parts.includes(other)) return undefined
  if (parts.includes(`type ${other}`)) {
    return typeOnly ? undefined : `${part} may import only types of ${other}, got "${specifier}"`
  }
  return `${part} must not import ${other}, got "${specifier}"`
}

function judgePackage(part: string, { specifier }: Import) {
  const { packages = [], node } = table[part] as (typeof table)[string]
  if (specifier.startsWith('node:')) {
    if (node === 'none') return `${part} is pure and imports nothing of Node, got "${specifier}"`
    if (specifier === 'node:sqlite' && part !== 'storage/sqlite') {
      return `database drivers live in their storage folder, got "${specifier}"`
    }
    return undefined
  }
  if (builtinModules.includes(specifier)) return `"${specifier}" has to be "node:${specifier}"`
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
  return packages.includes(name) ? undefined : `${part} must not import the package ${name}`
}

function emptyNamesIn(file: string) {
  return file
    .split('/')
    .map((segment) => segment.replace(/\.ts$/, ''))
    .filter((segment) => emptyNames.includes(segment))
    .map((segment) => `${file}: "${segment}" does not say what is inside`)
}

function partOf(file: string): string {
  const [folder = '', inner, ...deeper] = file.split('/')
  if (inner === undefined) return folder.replace(/\.ts$/, '')
  return folder === 'storage' && deeper.length > 0 ? `storage/${inner}` : folder
}

/** Static, re-exporting and dynamic imports, and `require` and `import.meta.resolve` of a literal. */
export function importsOf(file: string, text: string): Import[] {
  const found: Import[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      found.push({ specifier: node.moduleSpecifier.text, typeOnly: importsTypes(node) })
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      found.push({ specifier: node.moduleSpecifier.text, typeOnly: exportsTypes(node) })
    } else if (ts.isCallExpression(node)) {
      const [argument] = node.arguments
      if (argument && ts.isStringLiteralLike(argument) && loads(node.expression)) {
        found.push({ specifier: argument.text, typeOnly: false })
      }
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      const { literal } = node.argument
      if (ts.isStringLiteral(literal)) found.push({ specifier: literal.text, typeOnly: true })
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest))
  return found
}

function loads(callee: ts.Expression): boolean {
  if (callee.kind === ts.SyntaxKind.ImportKeyword) return true
  const name = ts.isIdentifier(callee)
    ? callee.text
    : ts.isPropertyAccessExpression(callee)
      ? callee.name.text
      : ''
  return ['require', 'getBuiltinModule'].includes(name)
}

function importsTypes({ importClause }: ts.ImportDeclaration): boolean {
  if (!importClause) return false
  if (importClause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true
  const { name, namedBindings } = importClause
  if (name || !namedBindings || !ts.isNamedImports(namedBindings)) return false
  return namedBindings.elements.length > 0 && namedBindings.elements.every((it) => it.isTypeOnly)
}

function exportsTypes({ isTypeOnly, exportClause }: ts.ExportDeclaration): boolean {
  if (isTypeOnly) return true
  if (!exportClause || !ts.isNamedExports(exportClause)) return false
  return exportClause.elements.every((it) => it.isTypeOnly)
}
