// Whoever reads a sentence of the command has flags and variables, and no `new WebhookService()`.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createEncryptionKey, WebhookService } from '@k-msg/webhook'
import { createInbox } from '@k-msg/webhook/testing'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { emptyFolder, ndjson, run, sampleEvents } from './command.ts'

const variable = 'KMSG_WEBHOOK_ENCRYPTION_KEYS'
/** An option, or a call of the library. */
const ofLibrary = /`|\b(?:sqlite|postgres|memory)\(/
/** A command in backticks is something to type. */
const withoutCommands = (text: string) => text.replace(/`(?:npx )?kmsg-webhook [^`]+`/g, '')

const toLocal = ['--to', 'http://127.0.0.1:9/']
const send = ['send', '-', ...toLocal, '--allow-private']
const nowhere = 'postgres://app@127.0.0.1:9/app'

it.each<[string[], RegExp]>([
  [['send', '-', ...toLocal], /add --allow 127\.0\.0\.0\/8 or --allow-private/],
  [['send', '-', '--to', 'http://10.0.0.1/'], /add --allow <CIDR> or --allow-private/],
  [['send', '-', ...toLocal, '--allow', '10.0.0.0/99'], /Expected --allow to list CIDR/],
  [[...send, '--secret', 'short'], /Expected --secret .*KMSG_WEBHOOK_SECRET.* at least 16 bytes/],
  [[...send, '--secret', 'whsec_@'], /Expected --secret .* base64/],
  [[...send, '--secret', 'whpk_AAAA'], /Expected --secret .* private key/],
  [['send', '-', '--to', 'nonsense'], /Expected --to to be an absolute http/],
  [['send', '-', '--to', 'https://u:p@example.com/'], /Expected --to .*'@'; leave them out/],
  [['send', '-', '--to', 'https://example.com:22/'], /Expected --to to use port/],
  [[...send, '--data', ''], /Expected --data to be the path of a file, got ""/],
  [[...send, '--data', 'postgres://a:s3cret@b/c'], /this command keeps its data in a file/],
  [['dev', '--port', '0', '--data', ':memory:'], /Expected --data to be the path of a file/],
  [['doctor', '--data', 'none.db'], /name the file of the service with --data/],
  [['doctor', '--data', 'postgres:x'], /Expected --data to be a URL like postgres:/],
  [['doctor', '--data', nowhere, '--schema', 'A b'], /Expected --schema to be/],
  [['migrate', '--from', 'sqlite:none.db', '--to', nowhere], /file of the service with --from/],
  [['migrate', '--from', 'none.db', '--to', nowhere], /Expected --from sqlite:FILE/],
  [['migrate', '--from', 'sqlite:none.db', '--to', 'x'], /Expected --to postgres:/],
])('%j is refused in words of the command', async (args, sentence) => {
  const { stderr, code } = await run(args, { cwd: await emptyFolder() })
  expect(stderr).toMatch(/^error: /)
  expect(stderr).toMatch(sentence)
  expect(withoutCommands(stderr)).not.toMatch(ofLibrary)
  expect(stderr).not.toContain('s3cret')
  expect(code).toBe(2)
})

describe('of files that are there', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'kmsg-cli-'))
    await mkdir(path.join(folder, 'directory'))
    await writeFile(path.join(folder, 'text.db'), 'no database'.repeat(1_000))
    foreignDatabase(path.join(folder, 'foreign.db'))
    await serviceOn(path.join(folder, 'encrypted.db'), [createEncryptionKey('k1')])
  })
  afterAll(() => rm(folder, { recursive: true }))

  it.each<[string, RegExp]>([
    [
      'directory',
      /file in --data, got the directory .*; name a file in it, such as .*webhooks\.db/,
    ],
    ['text.db', /restore a backup or name another file with --data/],
    ['foreign.db', /name another file with --data/],
    // Without a word of secrets that lie in the clear: those of this file do not.
    ['encrypted.db', /^error: .*add it to KMSG_WEBHOOK_ENCRYPTION_KEYS\./],
  ])('send refuses %s', async (file, sentence) => {
    const args = [...send, '--data', path.join(folder, file)]
    const { stderr, code } = await run(args, { env: { [variable]: '' } })
    expect(stderr).toMatch(sentence)
    expect(withoutCommands(stderr)).not.toMatch(ofLibrary)
    expect(code).toBeGreaterThan(0)
  })

  it('one that another process has, by each command', async () => {
    const held = path.join(folder, 'held.db')
    const service = new WebhookService({ storage: held, logger: false })
    onTestFinished(() => service.close())
    await service.ready()
    for (const [args, flag] of [
      [[...send, '--data', held], '--data'],
      [['dev', '--port', '0', '--data', held], '--data'],
      [['migrate', '--from', `sqlite:${held}`, '--to', nowhere], '--from'],
    ] as const) {
      const { stderr } = await run(args)
      expect(stderr).toMatch(new RegExp(`stop that one, or name another file with ${flag}\\.`))
      expect(withoutCommands(stderr)).not.toMatch(ofLibrary)
    }
  })
})

it('notices and bad lines name no option either', async () => {
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const [event] = sampleEvents(1)
  const large = { ...event, data: 'x'.repeat(300_000) }
  const { stderr } = await run(['send', '-', '--to', inbox.url, '--allow-private'], {
    input: ndjson([large]),
    cwd: await emptyFolder(),
    env: { [variable]: '' },
  })
  expect(stderr).toMatch(/^note: .*unencrypted.* Set KMSG_WEBHOOK_ENCRYPTION_KEYS;/m)
  expect(stderr).toMatch(/^line 1: Expected a body of at most 262144 bytes, got/m)
  expect(withoutCommands(stderr)).not.toMatch(ofLibrary)
})

async function serviceOn(storage: string, encryptionKeys: string[]): Promise<void> {
  const service = new WebhookService({ storage, encryptionKeys, logger: false })
  await service.registerEndpoint({ id: 'a', url: 'https://example.com/', events: ['*'] })
  await service.close()
}

function foreignDatabase(file: string): void {
  const { DatabaseSync } = createRequire(import.meta.url)('@photostructure/sqlite') as {
    DatabaseSync: new (file: string) => { exec(sql: string): void; close(): void }
  }
  const database = new DatabaseSync(file)
  database.exec('create table x (a)')
  database.close()
}
