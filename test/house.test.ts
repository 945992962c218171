import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '..')
const notOurs = ['node_modules', 'dist', '.git', '.generated']

/** A folder of one person's or machine's disk; `/tmp/` and `/var/` are on every machine. */
const machinePath = /(?:^|[\s"'`(=:,])\/(?:home|root|work|Users|workspaces?|mnt|data)\/\w/

interface Leak {
  name: string
  found(text: string): boolean
}

const leaks: readonly Leak[] = [
  { name: 'a path of a machine', found: (text) => machinePath.test(text) },
  { name: 'the folder of this clone', found: (text) => root.length > 4 && text.includes(root) },
  { name: 'the home of this user', found: (text) => text.includes(`${homedir()}/`) },
  { name: 'the package registry', found: (text) => text.includes(registryHost()) },
  { name: 'a source of the lockfile', found: (text) => /"resolved": "https?:/.test(text) },
]

describe('what is committed', () => {
  it('names no machine and no package registry', () => {
    const found = ourFiles().flatMap((file) => {
      const text = readFileSync(path.join(root, file), 'utf8')
      return leaks.filter((leak) => leak.found(text)).map((leak) => `${file}: ${leak.name}`)
    })
    expect(found).toEqual([])
  })
})

describe('the guard of what is committed', () => {
  it.each([
    ['a path of a machine', `open('${['', 'home', 'kim', 'x.db'].join('/')}')`],
    ['the folder of this clone', `see ${root}${path.sep}src`],
    ['the home of this user', `cache: ${homedir()}/.npm`],
    ['the package registry', `fetch("https://${registryHost()}/undici")`],
    ['a source of the lockfile', `"resolved": "${'https'}://packages.test/undici.tgz"`],
  ])('finds %s', (name, text) => {
    expect(leaks.filter((leak) => leak.found(text)).map((leak) => leak.name)).toContain(name)
  })

  it('finds nothing in an ordinary text', () => {
    const text = 'POST https://your-app.com/webhooks, ./.k-msg/webhooks.db, /tmp/x, v1/events'
    expect(leaks.filter((leak) => leak.found(text))).toEqual([])
  })

  it('reads the files it is there for', () => {
    expect(ourFiles()).toContain('package-lock.json')
    expect(ourFiles()).toContain('test/house.test.ts')
  })
})

/** What is committed or could be; where git is missing, a fresh tree holds nothing else. */
function ourFiles(): string[] {
  try {
    const args = ['ls-files', '--cached', '--others', '--exclude-standard']
    const listed = execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: 'pipe' })
    return listed.split('\n').filter((file) => file && existsSync(path.join(root, file)))
  } catch {
    return filesIn('.')
  }
}

function filesIn(folder: string): string[] {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (notOurs.includes(entry.name) || entry.isSymbolicLink()) return []
    const file = path.join(folder, entry.name)
    return entry.isDirectory() ? filesIn(file) : [file]
  })
}

let host: string | undefined
function registryHost(): string {
  host ??= new URL(execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' })).host
  return host
}
