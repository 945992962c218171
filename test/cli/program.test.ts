import { expect, it } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { displayWidth } from '../../src/cli/text-width.ts'
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

it.each([[[]], [['dev']], [['send']], [['doctor']], [['find']], [['migrate']], [['key']]])(
  'explains itself in Korean, in lines that fit: %j',
  async (command) => {
    const { stdout, code } = await run([...command, '--help', '--lang', 'ko'])
    expect(code).toBe(0)
    const [usage = '', ...lines] = stdout.split('\n')
    expect(usage).toMatch(/^사용법: kmsg-webhook/)
    expect(stdout).toMatch(/^옵션:$/m)
    expect(stdout).not.toMatch(/default:|Options:|display help/)
    // Every option and command in Korean, and no sentence left over in English.
    for (const line of lines)
      if (/^ {2}\S+ .*[a-z]{3} [a-z]{3}/.test(line)) expect(line).toMatch(/[가-힣]|kmsg-webhook/)
    expect(
      Math.max(...(stdout.split('종료 코드')[0]?.split('\n').map(displayWidth) ?? [])),
    ).toBeLessThan(110)
  },
)

it('has its language from LANG, or --lang wherever it stands', async () => {
  const korean = { LANG: 'ko_KR.UTF-8' }
  expect((await run(['--help'], { env: korean })).stdout).toMatch(/^사용법/)
  expect((await run(['--lang', 'ko', 'key', '--help'])).stdout).toMatch(/^사용법/)
  expect((await run(['key', '--help', '--lang=en'], { env: korean })).stdout).toMatch(/^Usage/)
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
