/** A network of its own for a program: nothing in it is reachable from outside, or leads there. */
import { execFile, execFileSync } from 'node:child_process'

const unshare = ['--map-root-user', '--net', '--']

/** Why there can be none on this machine; null when there can. */
export function whyNoNamespace(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux'
  try {
    execFileSync('unshare', [...unshare, 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'pipe' })
    return null
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: Buffer }
    return `no network namespace can be made here: ${(stderr?.toString() || message).trim()}`
  }
}

/** @returns what the program wrote to standard output */
export function runInNamespace(setUp: string, args: readonly string[]): Promise<string> {
  const script = `set -e\nip link set lo up\n${setUp}\nexec "$@"`
  return new Promise((resolve, reject) => {
    execFile(
      'unshare',
      [...unshare, 'sh', '-c', script, 'sh', process.execPath, ...args],
      { timeout: 120_000, maxBuffer: 10_000_000 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(new Error(`${error.message}\n${stderr}`))
      },
    )
  })
}
