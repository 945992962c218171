/**
 * The names of this machine's hosts file, which DNS does not know: Compose writes `extra_hosts`
 * there, Kubernetes `hostAliases`, people their test hosts. Read when it has changed, looked at every
 * few seconds. It is read synchronously on purpose: it is small, and reading it otherwise would take
 * a thread of the pool that DNS is meant to stay clear of.
 */
import type { LookupAddress } from 'node:dns'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import path from 'node:path'

const lookEveryMs = 5_000

export const systemHostsFile =
  process.platform === 'win32'
    ? path.join(process.env.SystemRoot ?? 'C:\\Windows', 'System32\\drivers\\etc\\hosts')
    : '/etc/hosts'

export class HostsFile {
  readonly #path: string
  readonly #monotonicMs: () => number
  #names: ReadonlyMap<string, readonly LookupAddress[]> = new Map()
  #version = ''
  #nextLookMs = Number.NEGATIVE_INFINITY

  constructor(monotonicMs: () => number, file = systemHostsFile) {
    this.#path = file
    this.#monotonicMs = monotonicMs
  }

  /** All addresses of the name, in the order of the file; undefined when it is not there. */
  find(name: string): readonly LookupAddress[] | undefined {
    const nowMs = this.#monotonicMs()
    if (nowMs >= this.#nextLookMs) {
      this.#nextLookMs = nowMs + lookEveryMs
      this.#look()
    }
    return this.#names.get(name.toLowerCase())
  }

  #look(): void {
    try {
      const { mtimeMs, size, ino } = statSync(this.#path)
      const version = `${mtimeMs} ${size} ${ino}`
      if (version === this.#version) return
      this.#names = parseHosts(readFileSync(this.#path, 'utf8'))
      this.#version = version
    } catch {
      // A machine without the file, or without the right to read it, has no such names.
      this.#names = new Map()
      this.#version = ''
    }
  }
}

export function parseHosts(text: string): Map<string, LookupAddress[]> {
  const names = new Map<string, LookupAddress[]>()
  for (const line of text.split('\n')) {
    const [address = '', ...aliases] = line.replace(/#.*/, '').trim().split(/\s+/)
    const family = isIP(address)
    if (family === 0) continue
    for (const alias of aliases) {
      const name = alias.toLowerCase()
      const known = names.get(name) ?? []
      names.set(name, known)
      if (!known.some((one) => one.address === address)) known.push({ address, family })
    }
  }
  return names
}
