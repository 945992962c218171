// Names what a result was measured on. A figure without it means nothing.

import { execFileSync } from 'node:child_process'
import { readFileSync, statfsSync } from 'node:fs'
import os from 'node:os'
import { fileURLToPath } from 'node:url'

const TMPFS_MAGIC = 0x01021994

export function describeMachine() {
  const cpus = os.cpus()
  return {
    date: new Date().toISOString(),
    cpu: `${cpus.length} × ${cpus[0]?.model.trim() || 'unknown CPU'}`,
    memoryGb: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    undici: versionOf('undici'),
    revision: revision(),
  }
}

/** A commit is free on tmpfs, so results from there would flatter every durable contender. */
export function isInMemory(directory) {
  return statfsSync(directory).type === TMPFS_MAGIC
}

function versionOf(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}

function revision() {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const git = (...args) =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const dirty = git('status', '--porcelain', '--', 'src') ? ' with uncommitted changes' : ''
    return git('rev-parse', '--short', 'HEAD').trim() + dirty
  } catch {
    return 'no commit'
  }
}
