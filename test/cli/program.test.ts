import { expect, it } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { run } from './command.ts'

it('tells its version', async () => {
  const { stdout, code } = await run(['--version'])
  expect(stdout).toBe(`${manifest.version}\n`)
  expect(code).toBe(0)
})

it.each([
  [
    ['--help'],
    [
      'dev',
      'send',
      'doctor',
      'find',
      'key',
      'Exit codes',
      'NO_COLOR',
      'KMSG_WEBHOOK_ENCRYPTION_KEYS',
    ],
  ],
  [
    ['dev', '--help'],
    ['--port', '--data', '--speed', '--lang', 'standard input', 'Ctrl-C'],
  ],
  [
    ['send', '--help'],
    ['--to', '--secret', '--data', '--allow', '--schedule', '--concurrency', 'Examples:'],
  ],
  [
    ['doctor', '--help'],
    ['--data', '--schema', '--json', 'read-only'],
  ],
  [
    ['find', '--help'],
    ['--data', '--schema', '--json', 'read-only', 'every tenant', 'explainEvent'],
  ],
  [
    ['migrate', '--help'],
    ['--from', '--to', '--schema', 'One transaction', 'Ctrl-C'],
  ],
  [
    ['key', '--help'],
    ['--id', 'KMSG_WEBHOOK_ENCRYPTION_KEYS', 'backups'],
  ],
])('explains itself: %j', async (args, words) => {
  const { stdout, stderr, code } = await run(args)
  for (const word of words) expect(stdout).toContain(word)
  expect(stderr).toBe('')
  expect(code).toBe(0)
})

it.each([[['launch']], [['dev', '--speed', 'fast']], [['dev', '--port', '70000']], [[]]])(
  'calls %j wrong usage',
  async (args) => {
    const { stderr, code } = await run(args)
    expect(stderr).not.toBe('')
    expect(code).toBe(2)
  },
)

it('shows a stack only when asked', async () => {
  const args = ['send', '-', '--to', 'http://10.0.0.1/']
  expect((await run(args)).stderr).not.toMatch(/\n {4}at /)
  expect((await run([...args, '--debug'])).stderr).toMatch(/\n {4}at /)
})
