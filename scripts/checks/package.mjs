// Owns what is published: the tarball, its contents, its manifest and its types.
import path from 'node:path'
import { bin, emptyFolder, Finding, npm, run } from './command.mjs'

let tarball

/** Packs the built package once; later callers get the same file. */
export function pack() {
  tarball ??= packNow()
  return tarball
}

async function packNow() {
  const folder = emptyFolder('pack')
  const [packed] = JSON.parse(
    await npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder]),
  )
  return {
    file: path.join(folder, packed.filename),
    paths: packed.files.map((file) => file.path),
    kilobytes: Math.round(packed.unpackedSize / 1024),
  }
}

export async function checkPackage() {
  const { file, paths, kilobytes } = await pack()
  checkContents(paths)
  await run(bin('publint'), ['run', file, '--strict'])
  await run(bin('attw'), [file, '--profile', 'esm-only', '--no-emoji'])
  return { note: `${paths.length} files, ${kilobytes} kB unpacked` }
}

/** @throws Finding when the tarball holds what no user needs, or lacks what each user reads. */
export function checkContents(paths) {
  const allowed = /^(package\.json|LICENSE|CHANGELOG\.md|README(\.ko)?\.md|dist\/.+\.(js|d\.ts))$/
  const surplus = paths.filter((file) => !allowed.test(file) || file.includes('.test.'))
  const needed = ['LICENSE', 'CHANGELOG.md', 'README.md', 'README.ko.md', 'dist/index.js']
  const missing = needed.filter((file) => !paths.includes(file))
  if (surplus.length > 0) throw new Finding(`Unexpected in the package: ${surplus.join(', ')}`)
  if (missing.length > 0) throw new Finding(`Missing from the package: ${missing.join(', ')}`)
}
