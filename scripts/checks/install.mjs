// Owns the package as a user gets it: installed from its tarball into an empty folder, without
// install scripts, run as it is and from one bundled file.
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { build } from 'esbuild'
import manifest from '../../package.json' with { type: 'json' }
import { bin, emptyFolder, Finding, npm, root, run } from './command.mjs'
import { pack } from './package.mjs'

const maxMegabytes = 40
const programs = path.join(root, 'test/installed')

let installation

/** Installs the package once; later callers get the same folder. */
export function install() {
  installation ??= installNow()
  return installation
}

async function installNow() {
  const folder = emptyFolder('app')
  const { file } = await pack()
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }')
  await npm(['install', file, '--omit=dev', '--ignore-scripts', '--engine-strict'], { cwd: folder })
  cpSync(programs, folder, { recursive: true })
  return folder
}

export async function checkInstall() {
  const folder = await install()
  const megabytes = sizeOf(path.join(folder, 'node_modules')) / 1e6
  if (megabytes > maxMegabytes) {
    throw new Finding(`The production install is ${megabytes.toFixed(1)} MB, over ${maxMegabytes}.`)
  }
  await runProgram(process.execPath, folder, 'quick-start.mjs')
  await runProgram(process.execPath, folder, 'crash.mjs')
  await runProgram(process.execPath, folder, 'network.mjs')
  await runProgram(process.execPath, folder, 'require.cjs')
  await checkTypes(folder)
  const help = await run(path.join(folder, 'node_modules/.bin/kmsg-webhook'), ['--help'])
  if (!help.includes('kmsg-webhook')) throw new Finding(`kmsg-webhook --help printed:\n${help}`)
  return { note: `production install ${megabytes.toFixed(1)} MB of ${maxMegabytes}` }
}

/** Compiles a user's program against the installed declarations, which are checked themselves. */
async function checkTypes(folder) {
  const exports = Object.keys(manifest.exports).filter((subpath) => subpath !== './package.json')
  const names = exports.map((subpath) => path.posix.join(manifest.name, subpath))
  const imports = names.map((name, index) => `export * as part${index} from '${name}'`)
  writeFileSync(path.join(folder, 'types.ts'), `${imports.join('\n')}\n`)
  const options = ['--noEmit', '--strict', '--skipLibCheck', 'false', '--target', 'es2022']
  const modules = ['--module', 'nodenext', '--lib', 'es2023,esnext.disposable']
  const types = ['--types', 'node', '--typeRoots', path.join(root, 'node_modules/@types')]
  await run(bin('tsc'), ['types.ts', ...options, ...modules, ...types], { cwd: folder })
  // As apps compile that were begun before TypeScript knew `exports`: many of NestJS are.
  const before = ['--module', 'commonjs', '--moduleResolution', 'node10', '--esModuleInterop']
  const anyway = ['--ignoreDeprecations', '6.0', ...modules.slice(2)]
  await run(bin('tsc'), ['types.ts', ...options, ...before, ...anyway, ...types], { cwd: folder })
}

/**
 * One bundled file has no worker.js beside it and no package around it. Only the SQLite driver is
 * installed, because a native module cannot be bundled.
 */
export async function checkBundles() {
  const installed = await install()
  const sizes = []
  for (const format of ['esm', 'cjs']) {
    const folder = emptyFolder(`bundle-${format}`)
    const outfile = path.join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
    await build({
      absWorkingDir: installed,
      entryPoints: ['quick-start.mjs'],
      outfile,
      bundle: true,
      platform: 'node',
      format,
      logLevel: 'error',
    })
    copyDriver(installed, folder)
    await runProgram(process.execPath, folder, path.basename(outfile))
    sizes.push(`${format} ${Math.round(statSync(outfile).size / 1024)} kB`)
  }
  return { note: sizes.join(', ') }
}

/** Runs a program of the folder in a working directory of its own, where its data file will be. */
export function runProgram(runtime, folder, file) {
  const cwd = mkdtempSync(path.join(folder, 'run-'))
  return run(runtime, [path.join(folder, file)], { cwd, timeoutMs: 60_000 })
}

function copyDriver(from, to) {
  const modules = path.join(to, 'node_modules')
  mkdirSync(modules)
  cpSync(path.join(from, 'node_modules'), modules, { recursive: true })
  for (const name of ['@k-msg', 'commander', '.bin', '.package-lock.json']) {
    rmSync(path.join(modules, name), { recursive: true, force: true })
  }
}

function sizeOf(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0)
}
