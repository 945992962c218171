/** What docs/receiving.md shows in other languages, run there: it believes and refuses what we do. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { eventBody, type Signed, secret, signed } from './signed.ts'

const guides = ['docs/receiving.md', 'docs/receiving.ko.md'].map((file) =>
  readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8'),
)

function blockOf(guide: string | undefined, language: string): string {
  const code = new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'ms').exec(guide ?? '')?.[1]
  if (code === undefined) throw new Error(`There is no block of ${language}.`)
  return code
}

/** Each reads lines of `secret id timestamp signatures body`, in base64, and prints true or false. */
const languages = [
  {
    language: 'python',
    command: 'python3',
    file: 'receiver.py',
    program: (code: string) => `${code}
import sys
for line in sys.stdin:
    key, event_id, timestamp, signatures, body = (base64.b64decode(one) for one in line.split())
    headers = {
        "webhook-id": event_id.decode(),
        "webhook-timestamp": timestamp.decode(),
        "webhook-signature": signatures.decode(),
    }
    try:
        print(str(verify(key.decode(), headers, body)["id"] == "evt_1").lower())
    except ValueError:
        print("false")
`,
  },
  {
    language: 'java',
    command: 'java',
    file: 'Receiver.java',
    // The first class of a file is the one that runs; imports stand before it.
    program: (code: string) =>
      code.replace(
        /^final class/m,
        `class Receiver {
  static String text(String encoded) { return new String(Base64.getDecoder().decode(encoded), UTF_8); }
  public static void main(String[] args) throws Exception {
    for (String line : new String(System.in.readAllBytes(), UTF_8).split("\\n")) {
      String[] one = line.split(" ");
      byte[] body = Base64.getDecoder().decode(one[4]);
      System.out.println(
          Webhooks.verify(text(one[0]), text(one[1]), text(one[2]), text(one[3]), body));
    }
  }
}
final class`,
      ),
  },
]

const plainSecret = 'a-secret-as-text-비밀'
const seconds = (off: number) => String(Math.floor(Date.now() / 1_000) + off)
const now = (parts: Parameters<typeof signed>[0] = {}) =>
  signed({ timestamp: seconds(0), ...parts })

function withSignatures(request: Signed, change: (signature: string) => string): Signed {
  const headers = { ...request.headers }
  headers['webhook-signature'] = change(headers['webhook-signature'] ?? '')
  return { ...request, headers }
}

const cases: readonly (readonly [string, boolean, string, () => Signed])[] = [
  ['one of ours', true, secret, () => now()],
  ['a secret that is plain text', true, plainSecret, () => now({ key: plainSecret })],
  [
    'during a rotation',
    true,
    secret,
    () => withSignatures(now(), (own) => `v1,AAAA v1a,BB ${own}`),
  ],
  ['signed four minutes ago', true, secret, () => now({ timestamp: seconds(-240) })],
  ['another secret', false, secret, () => now({ key: plainSecret })],
  ['a changed body', false, secret, () => ({ ...now(), body: eventBody.replace('1.5', '1.6') })],
  ['signed six minutes ago', false, secret, () => now({ timestamp: seconds(-360) })],
  ['signed in six minutes', false, secret, () => now({ timestamp: seconds(360) })],
  ['a time that is no integer', false, secret, () => now({ timestamp: '1e9' })],
  ['no signature', false, secret, () => withSignatures(now(), () => 'v1,')],
  ['a signature cut short', false, secret, () => withSignatures(now(), (own) => own.slice(0, -4))],
]

const line = (key: string, { headers, body }: Signed): string =>
  [key, headers['webhook-id'], headers['webhook-timestamp'], headers['webhook-signature'], body]
    .map((one = '') => Buffer.from(one).toString('base64'))
    .join(' ')

describe.each(languages)('what is shown in $language', ({ language, command, file, program }) => {
  const code = blockOf(guides[0], language)

  it('is the same in both guides', () => {
    expect(blockOf(guides[1], language)).toBe(code)
  })

  const isHere = spawnSync(command, ['--version']).status === 0

  it.skipIf(!isHere)('believes and refuses what it should', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-languages-'))
    try {
      writeFileSync(path.join(folder, file), program(code))
      const input = cases.map(([, , key, request]) => line(key, request())).join('\n')
      const printed = execFileSync(command, [file], { cwd: folder, input, encoding: 'utf8' })
      const verdicts = printed.trim().split('\n')
      expect(cases.map(([name], index) => [name, verdicts[index]])).toEqual(
        cases.map(([name, believed]) => [name, String(believed)]),
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
