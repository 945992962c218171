/**
 * Ours and theirs: what our sender signs verifies with the published libraries, what they sign
 * verifies with our receiver, and each refuses what the other refuses. Ten thousand bodies, from
 * empty to a megabyte; the seed is printed with a failure.
 */
import { verify, WebhookVerificationError } from '@k-msg/webhook/receiver'
import fc from 'fast-check'
import { Webhook as StandardWebhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'
import { expect, it } from 'vitest'
import { createSecret } from '../../src/security/secrets.ts'
import { standardSignature } from '../../src/security/sign.ts'

const bodies = 10_000
const megabyte = 1_048_576

/** What their classes have in common. */
interface Theirs {
  sign(id: string, timestamp: Date, payload: string): string
  verify(payload: string, headers: Record<string, string>): unknown
}

const libraries: [string, (secret: string) => Theirs][] = [
  ['standardwebhooks', (secret) => new StandardWebhook(secret)],
  // The last line of svix with a verifier of its own; later ones bring standardwebhooks.
  ['svix', (secret) => new SvixWebhook(secret)],
]

it(`${bodies} bodies signed by any of us are believed by all of us, and changed ones by nobody`, async () => {
  const timestamp = seconds()
  const at = new Date(Number(timestamp) * 1_000)
  for (const { body, secret, id } of samples()) {
    const signature = standardSignature(id, timestamp, Buffer.from(body), [secret])
    const headers = headersOf(id, timestamp, signature)
    const changed = `${body} `
    expect(await ourVerdict(secret, body, headers)).toBe('believed')
    expect(await ourVerdict(secret, changed, headers)).toBe('refused')
    for (const [, open] of libraries) {
      const theirs = open(secret)
      expect(theirVerdict(theirs, body, headers)).toBe('believed')
      expect(theirVerdict(theirs, changed, headers)).toBe('refused')
      const signedByThem = headersOf(id, timestamp, theirs.sign(id, at, body))
      expect(await ourVerdict(secret, body, signedByThem)).toBe('believed')
    }
  }
}, 60_000)

it.each(libraries)('both keys of a rotation are believed by %s', (_, open) => {
  const [old, fresh] = [secretOf(1), secretOf(2)]
  const timestamp = seconds()
  const signature = standardSignature('evt_1', timestamp, '{}', [fresh, old])
  for (const secret of [old, fresh]) {
    const headers = headersOf('evt_1', timestamp, signature)
    expect(theirVerdict(open(secret), '{}', headers)).toBe('believed')
  }
})

interface Sample {
  id: string
  secret: string
  body: string
}

/** Small ones of every kind, and a few as large as an event can be and larger. */
function samples(): Sample[] {
  const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/)
  const secret = fc.constantFrom(...[1, 2, 3, 4, 5].map(secretOf))
  const text = fc.oneof(
    fc.json(),
    fc.string({ unit: 'binary', maxLength: 40 }).map((value) => JSON.stringify({ value })),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.constantFrom(
      '',
      ' ',
      '\0',
      '\u{1F468}\u200D\u{1F469}\u200D\u{1F467}',
      '{"a":1}\n',
      '가나다',
    ),
  )
  const small = fc.sample(fc.record({ id, secret, body: text }), bodies - 2)
  const large = ['x', '가'].map((unit, index) => ({
    id: `large_${index}`,
    secret: secretOf(index),
    body: JSON.stringify(unit.repeat(megabyte / Buffer.byteLength(unit) - 1)),
  }))
  return [...small, ...large]
}

function secretOf(seed: number): string {
  return createSecret((size) =>
    Uint8Array.from({ length: size }, (_, at) => (seed * 37 + at) & 255),
  )
}

function headersOf(id: string, timestamp: string, signature: string): Record<string, string> {
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signature,
  }
}

function seconds(): string {
  return String(Math.floor(Date.now() / 1_000))
}

/** Their `verify` also parses; a body that is no JSON has passed the signature by then. */
function theirVerdict(theirs: Theirs, body: string, headers: Record<string, string>) {
  try {
    theirs.verify(body, headers)
    return 'believed'
  } catch (error) {
    return error instanceof SyntaxError ? 'believed' : 'refused'
  }
}

async function ourVerdict(secret: string, body: string, headers: Record<string, string>) {
  try {
    const maxBodyBytes = 2 * megabyte
    await verify({ headers, body }, { secret, batch: true, maxBodyBytes })
    return 'believed'
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error
    return error.code === 'BODY_INVALID' ? 'believed' : 'refused'
  }
}
