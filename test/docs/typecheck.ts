// Owns type-checking of users' programs: under the repository's own settings, and against the
// declarations that the package ships, which lack what is `@internal`.
import path from 'node:path'
import ts from 'typescript'

const root = path.join(import.meta.dirname, '../..')

/** @returns one line per problem in these files, with their line numbers */
export function typeErrorsOf(files: readonly string[]): string[] {
  const configFile = path.join(root, 'tsconfig.json')
  const config = ts.readConfigFile(configFile, ts.sys.readFile).config
  const shipped = { ...config.compilerOptions, paths: {} }
  const settings = { ...config, compilerOptions: shipped, files }
  const { options } = ts.parseJsonConfigFileContent(settings, ts.sys, root)
  const program = ts.createProgram(files, options)
  return files.flatMap((file) => {
    const source = program.getSourceFile(file)
    const found = [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
    ]
    return found.map((it) => describe(file, it))
  })
}

function describe(file: string, { start = 0, messageText, file: source }: ts.Diagnostic): string {
  const line = source ? source.getLineAndCharacterOfPosition(start).line + 1 : 0
  return `${path.basename(file)}:${line} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
}
