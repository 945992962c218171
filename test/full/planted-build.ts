/** To show that a test would see a bug: the same build with the bug planted in it. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

export class PlantedBuild implements Disposable {
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'kmsg-planted-'))

  constructor(file: string, text: string, replacement: string) {
    const root = path.join(import.meta.dirname, '../..')
    cpSync(path.join(root, 'dist'), path.join(this.#folder, 'dist'), { recursive: true })
    cpSync(path.join(root, 'package.json'), path.join(this.#folder, 'package.json'))
    symlinkSync(path.join(root, 'node_modules'), path.join(this.#folder, 'node_modules'))
    const planted = path.join(this.#folder, 'dist', file)
    const before = readFileSync(planted, 'utf8')
    if (!before.includes(text)) throw new Error(`Expected "${text}" in dist/${file}.`)
    writeFileSync(planted, before.replaceAll(text, replacement))
  }

  get url(): string {
    return pathToFileURL(path.join(this.#folder, 'dist/index.js')).href
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
