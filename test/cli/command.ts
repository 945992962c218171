// Owns running the built command as a user does: a process of its own, its streams, its exit code.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { onTestFinished } from 'vitest'

const main = path.join(import.meta.dirname, '../../dist/cli/main.js')

export interface Finished {
  code: number | null
  stdout: string
  stderr: string
}

export interface Running {
  readonly process: ChildProcess
  readonly finished: Promise<Finished>
}

interface RunOptions {
  /** Written to standard input, which is then closed. */
  input?: string
  cwd?: string
  env?: Record<string, string>
}

export function start(args: readonly string[], options: RunOptions = {}): Running {
  const child = spawn(process.execPath, [main, ...args], {
    cwd: options.cwd,
    env: { ...process.env, LANG: 'C', LC_ALL: '', FORCE_COLOR: undefined, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  // The command may have ended before it read all of its input.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
  return { process: child, finished }
}

export function run(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return start(args, options).finished
}

export async function emptyFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kmsg-cli-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export function ndjson(events: readonly unknown[]): string {
  return events.map((event) => `${JSON.stringify(event)}\n`).join('')
}

export function sampleEvents(count: number): Record<string, unknown>[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `evt_${index}`,
    type: 'message.sent',
    timestamp: '2026-01-31T09:00:00Z',
    data: { text: '주문이 접수되었습니다.', index },
  }))
}
