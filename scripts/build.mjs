// Owns dist/: one .js and one .d.ts per source file, in the folders of src/, so that a URL relative
// to a module means the same file in src/ and in dist/ (the SQLite worker is found that way). The
// worker alone is in one piece: a thread reads its code anew each time it is started.
// Never leaves a half-written dist/: a build happens beside it and is swapped in when it is done.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..')
const dist = path.join(root, 'dist')
const cache = path.join(root, 'node_modules/.cache/k-msg')
const stamp = '.build-hash'

// Not reachable by import from any entry: it is started by URL.
const worker = 'storage/sqlite/worker'

/** Builds when dist/ is missing or was made from other sources. Returns whether it built. */
export async function buildIfStale() {
  if (builtFrom() === hashOfSources()) return false
  await build()
  return true
}

export async function build() {
  const hash = hashOfSources()
  const fresh = path.join(cache, `build-${process.pid}`)
  await mkdir(cache, { recursive: true })
  await transpile(fresh)
  await writeFile(path.join(fresh, `${worker}.js`), await workerInOnePiece())
  await writeFile(path.join(fresh, stamp), hash)
  await replaceDist(fresh)
}

async function replaceDist(fresh) {
  const old = path.join(cache, `replaced-${process.pid}`)
  const ignoring = (code) => (error) => {
    if (error.code !== code) throw error
  }
  await rename(dist, old).catch(ignoring('ENOENT'))
  // Taken again in between: another build of the same sources has finished, and is as good.
  await rename(fresh, dist).catch(ignoring('ENOTEMPTY'))
  await rm(old, { recursive: true, force: true })
  await rm(fresh, { recursive: true, force: true })
}

async function transpile(outDir) {
  const { build: tsdown } = await import('tsdown')
  await tsdown({
    cwd: root,
    config: false,
    entry: Object.fromEntries((await entries()).map((name) => [name, `src/${name}.ts`])),
    outDir,
    format: 'esm',
    target: 'node20.19',
    platform: 'node',
    unbundle: true,
    fixedExtension: false,
    // Files stay the twins of their sources: nothing is dropped from one or moved into another.
    treeshake: false,
    inputOptions: { optimization: { inlineConst: false }, checks: { pluginTimings: false } },
    tsconfig: 'tsconfig.build.json',
    dts: true,
    plugins: [embeddedWorker],
    logLevel: 'warn',
  })
}

/**
 * What package.json says is public: nothing to keep in step by hand. One whose source is not there
 * yet is left out, so that the rest can be worked on; publint reports it.
 */
async function entries() {
  const { exports, bin } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'))
  const files = [...Object.values(exports).map((target) => target.default), ...Object.values(bin)]
  const names = files.flatMap((file) => /^(?:\.\/)?dist\/(.+)\.js$/.exec(file ?? '')?.[1] ?? [])
  return names.filter((name) => existsSync(path.join(root, `src/${name}.ts`)))
}

/**
 * An app that is bundled into one file has no worker.js beside it. For that case the worker's code
 * travels as text: src/storage/sqlite/worker-source.ts exports an empty string, its built twin the
 * worker with all its imports in one piece.
 */
const embeddedWorker = {
  name: 'embedded-worker',
  async load(id) {
    if (!id.endsWith('storage/sqlite/worker-source.ts')) return null
    return `export const workerSource: string = ${JSON.stringify(await workerInOnePiece({ minify: true }))}\n`
  },
}

async function workerInOnePiece({ minify = false } = {}) {
  const esbuild = await import('esbuild')
  const { outputFiles, metafile } = await esbuild.build({
    absWorkingDir: root,
    entryPoints: [`src/${worker}.ts`],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    minify,
    keepNames: minify,
    packages: 'external',
    metafile: true,
    write: false,
  })
  // A thread started from text has no folder, so nothing but Node's own modules can be imported.
  const outside = Object.values(metafile.outputs)
    .flatMap((output) => output.imports.map((found) => found.path))
    .filter((specifier) => !specifier.startsWith('node:'))
  if (outside.length > 0) {
    throw new Error(
      `Expected the SQLite worker to import only its own modules and node:, got ${outside.join(', ')}; load packages with createRequire(workerData.loadFrom).`,
    )
  }
  return outputFiles[0].text
}

function hashOfSources() {
  const hash = createHash('sha256')
  const sources = readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.test.ts'))
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
  const settings = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs']
  for (const file of [...sources.sort(), ...settings]) {
    hash
      .update(file)
      .update('\0')
      .update(readFileSync(path.join(root, file)))
      .update('\0')
  }
  return hash.digest('hex')
}

function builtFrom() {
  const file = path.join(dist, stamp)
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build()
