// Owns what a newcomer waits for first: `npm ci` of this repository in an empty folder.
import { cpSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { emptyFolder, Finding, npm, root } from './command.mjs'

const maxSeconds = 60

export async function checkFreshClone() {
  const hosts = readFileSync(path.join(root, 'package-lock.json'), 'utf8').match(
    /https?:\/\/\S+\.tgz/g,
  )
  if (hosts) throw new Finding(`package-lock.json names where packages came from: ${hosts[0]}`)

  const folder = emptyFolder('clone')
  for (const file of ['package.json', 'package-lock.json', '.npmrc', 'aliases']) {
    cpSync(path.join(root, file), path.join(folder, file), { recursive: true })
  }
  const startMs = performance.now()
  // Strict: a lockfile renewed on a newer Node must not leave the oldest one behind.
  await npm(['ci', '--engine-strict'], { cwd: folder })
  const seconds = (performance.now() - startMs) / 1000
  if (seconds > maxSeconds) throw new Finding(`npm ci took ${seconds.toFixed(0)} s.`)
  return { note: `npm ci ${seconds.toFixed(1)} s of ${maxSeconds}` }
}
