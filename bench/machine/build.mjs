// Builds the package that is measured: a stale build would be measured without a word.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** @returns null, or why there is nothing to measure */
export function buildPackage() {
  if (!existsSync(`${ROOT}/package.json`)) return 'there is no package above bench/'
  return (existsSync(`${ROOT}/node_modules`) ? null : npm('ci')) ?? npm('run', 'build')
}

function npm(...args) {
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd: ROOT, encoding: 'utf8' })
  if (status === 0) return null
  const lastLine = `${stdout}${stderr}`.trim().split('\n').at(-1)
  return `\`npm ${args.join(' ')}\` failed (${lastLine})`
}
