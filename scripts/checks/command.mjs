// Owns how the checks run other programs: no shell, no stdin, output kept, a limit on time.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..')
export const cache = path.join(root, 'node_modules/.cache/k-msg')
export const bin = (name) => path.join(root, 'node_modules/.bin', name)

/** What a check found, said in a sentence or in the output of a program: no stack adds to it. */
export class Finding extends Error {}

/**
 * Runs a program to its end.
 *
 * @returns its standard output
 * @throws Finding with the whole output when it fails, so that the summary shows why
 */
export async function run(program, args, options = {}) {
  const { code, stdout, output } = await attempt(program, args, options)
  if (code !== 0) throw new Finding(`${path.basename(program)} ended with ${code}\n${output}`)
  return stdout
}

/** Runs a program to its end and reports how it ended; never throws for a failing program. */
export function attempt(program, args, { cwd = root, env = {}, timeoutMs = 600_000 } = {}) {
  return new Promise((resolve) => {
    // A group of its own: when the time is up, what the program started must end with it. A Ctrl-C
    // therefore does not reach it by itself.
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    running.add(child)
    let stdout = ''
    let output = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
      output += chunk
    })
    child.stderr.on('data', (chunk) => {
      output += chunk
    })
    const timer = setTimeout(() => {
      output += `\nstopped after ${timeoutMs / 1000} s\n`
      endGroup(child)
    }, timeoutMs)
    child.on('error', (error) => {
      output += error.message
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      running.delete(child)
      resolve({ code: code ?? signal, stdout, output })
    })
  })
}

const running = new Set()
process.on('exit', () => running.forEach(endGroup))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

function endGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has ended by itself, or was never started.
  }
}

/** npm without its notices; it takes its registry from the machine it runs on. */
export function npm(args, options) {
  return run('npm', [...args, '--no-audit', '--no-fund', '--no-update-notifier'], options)
}

const emptyFolders = []
process.on('exit', () => {
  for (const folder of emptyFolders) rmSync(folder, { recursive: true, force: true })
})

/** An empty folder outside the repository, so that nothing resolves by accident; removed at exit. */
export function emptyFolder(name) {
  const folder = mkdtempSync(path.join(tmpdir(), `k-msg-${name}-`))
  emptyFolders.push(folder)
  return folder
}
