import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createInbox, type Inbox, type InboxOptions } from '@k-msg/webhook/testing'
import { describe, expect, it, onTestFinished } from 'vitest'
import { emptyFolder, type Finished, ndjson, run, sampleEvents, start } from './command.ts'

const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3'

async function inboxFor(options: InboxOptions = {}): Promise<Inbox> {
  const inbox = await createInbox({ secret, ...options })
  onTestFinished(() => inbox.close())
  return inbox
}

async function fileOf(text: string): Promise<string> {
  const file = path.join(await emptyFolder(), 'events.ndjson')
  await writeFile(file, text)
  return file
}

function send(file: string, to: string, ...more: string[]): Promise<Finished> {
  return run(sendArguments(file, to, ...more), { cwd: path.dirname(file) })
}

function sendArguments(file: string, to: string, ...more: string[]): string[] {
  return ['send', file, '--to', to, '--allow', '127.0.0.0/8', '--secret', secret, ...more]
}

function idsOf(inbox: Inbox): string[] {
  return inbox.events.map(({ id }) => id)
}

describe('kmsg-webhook send', () => {
  it('delivers a file, signed, and says what came of it', async () => {
    const inbox = await inboxFor()
    const file = await fileOf(ndjson(sampleEvents(300)))
    const { code, stdout, stderr } = await send(file, `${inbox.url}/hook`)
    expect(stdout).toMatch(/^accepted +300$/m)
    expect(stdout).toMatch(/^delivered +300$/m)
    expect(stdout).toMatch(/^rate +[\d,.]+\/s/m)
    expect(stdout).toMatch(/^latency +p50 .+, p99 /m)
    expect(stderr).toMatch(/^data +\.k-msg\/send-[0-9a-f]{8}\.db$/m)
    expect(stderr).toContain('300 accepted · 300 delivered · 0 waiting')
    expect(code).toBe(0)
    expect(new Set(idsOf(inbox)).size).toBe(300)
    expect(inbox.received.every(({ signature }) => signature === 'valid')).toBe(true)
  })

  it('retries by the schedule given, and fails when something fails', async () => {
    const inbox = await inboxFor({
      answer: ({ events, headers }) => {
        if (events[0]?.id === 'evt_0') return { status: 400 }
        return { status: headers['x-webhook-attempt'] === '1' ? 503 : 200 }
      },
    })
    const file = await fileOf(ndjson(sampleEvents(10)))
    const first = await send(file, inbox.url, '--schedule', '1,1')
    expect(first.code).toBe(1)
    expect(first.stdout).toMatch(/^delivered +9$/m)
    expect(first.stdout).toMatch(/^failed +1 \(HTTP 400 × 1\)$/m)
    expect(first.stdout).toMatch(/^retries +9$/m)

    const again = await send(file, inbox.url)
    expect(again.code).toBe(1)
    expect(again.stdout).toMatch(/^duplicates +10$/m)
    expect(again.stdout).toMatch(/^failed earlier +1$/m)

    inbox.setAnswer(() => ({ status: 200 }))
    const retried = await send(file, inbox.url, '--retry-failed')
    expect(retried.stdout).toMatch(/^delivered +1$/m)
    expect(retried.code).toBe(0)
    expect(idsOf(inbox).filter((id) => id === 'evt_0')).toHaveLength(2)
  })

  it('stops cleanly with Ctrl-C, and the same command goes on', async () => {
    const count = 5_000
    let release = (): void => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    let answered = 0
    const inbox = await inboxFor({
      answer: () => {
        answered += 1
        return answered > 300 ? { after: gate } : {}
      },
    })
    const file = await fileOf(ndjson(sampleEvents(count)))
    const command = sendArguments(file, inbox.url)
    const first = start(command, { cwd: path.dirname(file) })
    await inbox.waitForCount(301)
    first.process.kill('SIGINT')
    release()
    const stopped = await first.finished
    expect(stopped.stdout).toContain('the same command goes on')
    expect(stopped.code).toBe(130)
    expect(inbox.received.length).toBeLessThan(count)

    const second = await run(command, { cwd: path.dirname(file) })
    expect(second.code).toBe(0)
    expect(new Set(idsOf(inbox)).size).toBe(count)
    expect(inbox.received).toHaveLength(count)
  })

  it('stops reading when the receiver wants nothing more', async () => {
    const inbox = await inboxFor({ answer: () => ({ status: 410 }) })
    const file = await fileOf(ndjson(sampleEvents(20_000)))
    const { code, stdout, stderr } = await send(file, inbox.url)
    expect(code).toBe(1)
    expect(stderr).toContain('The target is disabled: the receiver answered 410 Gone.')
    expect(stdout).toMatch(/^cancelled +[\d,]+$/m)
    expect(inbox.received.length).toBeLessThan(100)

    const again = await send(file, inbox.url)
    expect(again.code).toBe(1)
    expect(again.stderr).toMatch(/error: Expected an active target, but it is disabled/)
  })

  it('gives a line without an id the same one at every run', async () => {
    const inbox = await inboxFor()
    const file = await fileOf('{"type":"a.b","data":1}\n{"type":"a.b","data":1}')
    expect((await send(file, inbox.url)).stdout).toMatch(/^delivered +2$/m)
    expect((await send(file, inbox.url)).stdout).toMatch(/^duplicates +2$/m)
    expect(inbox.received).toHaveLength(2)
  })

  it('reads standard input, reports bad lines by number, and sends the rest', async () => {
    const inbox = await inboxFor()
    const { code, stdout, stderr } = await run(sendArguments('-', inbox.url), {
      cwd: await emptyFolder(),
      input:
        '{"type":"a.b","data":1}\n\n[1]\n{"type":"a.b","data":2,"foo":1}\n{"type":"a.b","data":3,"tenantId":"acme"}\n',
    })
    expect(stderr).toContain('line 3: Expected one event (a JSON object), got an array of 1.')
    expect(stderr).toMatch(/line 4: Expected a field of an event, got `foo`/)
    // Accepted, it would wait for ever: no endpoint of this command is of a tenant.
    expect(stderr).toMatch(/line 5: Expected an event without `tenantId`/)
    expect(stdout).not.toMatch(/^waiting/m)
    expect(stdout).toMatch(/^bad lines +3$/m)
    expect(stdout).toMatch(/^delivered +1$/m)
    expect(code).toBe(1)
  })

  it('shows a created secret once', async () => {
    const inbox = await inboxFor()
    const file = await fileOf('{"type":"a.b","data":1}')
    const args = ['send', file, '--to', inbox.url, '--allow-private']
    const first = await run(args, { cwd: path.dirname(file) })
    const [, shown = ''] = /^secret +(whsec_\S+)$/m.exec(first.stderr) ?? []
    expect(shown).not.toBe('')
    const second = await run(args, { cwd: path.dirname(file) })
    expect(second.stderr).not.toContain('whsec_')

    inbox.setSecret('/', shown)
    await writeFile(file, '{"type":"a.b","data":2}')
    await run(args, { cwd: path.dirname(file) })
    expect(inbox.received.at(-1)?.signature).toBe('valid')
  })
})

describe('kmsg-webhook send refuses', () => {
  const events = '{"type":"a.b","data":1}'

  it.each([
    ['a private address', ['--to', 'http://127.0.0.1:1/'], /--allow 127\.0\.0\.0\/8 .*ADDRESS_BLO/],
    ['no address', [], /required option '--to <url>' not specified/],
    ['another protocol', ['--to', 'ftp://a.example'], /\[ENDPOINT_URL_INVALID\]/],
    ['a weak secret', ['--to', 'https://a.example', '--secret', 'short'], /\[SECRET_INVALID\]/],
    [
      'a bad schedule',
      ['--to', 'https://a.example', '--schedule', '1,x'],
      /Expected standard, fast/,
    ],
    ['an unknown option', ['--to', 'https://a.example', '--retries', '3'], /unknown option/],
  ])('%s', async (_name, args, sentence) => {
    const file = await fileOf(events)
    const finished = await run(['send', file, ...args], { cwd: path.dirname(file) })
    expect(finished.stderr).toMatch(sentence)
    expect(finished.stderr).not.toMatch(/\n {4}at /)
    expect(finished.stdout).toBe('')
    expect(finished.code).toBe(2)
  })

  it('a file that is not there', async () => {
    const finished = await send(path.join(await emptyFolder(), 'none.ndjson'), 'https://a.example')
    expect(finished.stderr).toMatch(/^error: Expected to read the events of .*none\.ndjson/)
    expect(finished.code).toBe(2)
  })

  it('a data file of another target', async () => {
    const inbox = await inboxFor()
    const file = await fileOf(events)
    await send(file, `${inbox.url}/a`, '--data', 'x.db')
    const finished = await send(file, `${inbox.url}/b`, '--data', 'x.db')
    expect(finished.stderr).toMatch(/belongs to the endpoint "target" at .*\/a;/)
    expect(finished.code).toBe(2)
    expect(inbox.received.map(({ path: to }) => to)).toEqual(['/a'])
  })
})
