/**
 * What somebody can do who has seen signed requests and holds no key: nothing may be believed that
 * was not signed just so. Each attack runs against all schemes it can be tried on.
 */
import { verify, WebhookVerificationError } from '@k-msg/webhook/receiver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  eventBody,
  nowMs,
  nowSeconds,
  publicKey,
  type Signed,
  secret,
  signed,
  signedAsymmetrically,
  signedPlainly,
} from './signed.ts'

const schemes = ['standard', 'body', 'timestamped-body'] as const
const options = { secret, publicKey, schemes, nowMs: () => nowMs }

const kinds = [
  ['v1', signed, ['webhook-id', 'webhook-timestamp', 'webhook-signature']],
  ['v1a', signedAsymmetrically, ['webhook-id', 'webhook-timestamp', 'webhook-signature']],
  ['body', (parts) => signedPlainly('body', parts), ['x-webhook-signature']],
  [
    'timestamped body',
    (parts) => signedPlainly('timestamped-body', parts),
    ['x-webhook-timestamp', 'x-webhook-signature'],
  ],
] satisfies [string, (parts?: Parameters<typeof signed>[0]) => Signed, string[]][]

describe.each(kinds)('%s', (_, make, covered) => {
  it('believes what was signed', async () => {
    expect(await believed(make())).toBe(true)
  })

  it('I3: rejects every flipped bit of a body', async () => {
    const { headers, body } = make({ body: '{"id":"evt_1","type":"message.sent"}' })
    const bytes = Buffer.from(body)
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(await believed({ headers, body: flipped })).toBe(false)
    }
  })

  it('I3: rejects every flipped bit of a header that is signed or signs', async () => {
    const { headers, body } = make()
    for (const name of covered) {
      const value = Buffer.from(headers[name] ?? '', 'latin1')
      for (let bit = 0; bit < value.length * 8; bit += 1) {
        const flipped = Buffer.from(value)
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        const text = flipped.toString('latin1')
        // Hexadecimal digits mean the same in either case.
        if (text.toLowerCase() === value.toString('latin1') && name.startsWith('x-')) continue
        const forged = { headers: { ...headers, [name]: text }, body }
        expect(await believed(forged), `${name}: ${text}`).toBe(false)
      }
    }
  })

  it('I4: rejects a signature that was cut, lengthened, doubled or emptied', async () => {
    const name = covered.at(-1) as string
    const { headers, body } = make()
    const value = headers[name] as string
    const [version, mac] = value.split(/[,=](.*)/s) as [string, string]
    const mark = value[version.length]
    const forgeries = [
      '',
      version,
      `${version}${mark}`,
      mac,
      `${mark}${mac}`,
      value + value,
      `${value}A`,
      `${value}=`,
      `${value}\0`,
      `${value},`,
      `${value} ,`.trim(),
      `${version}${mark}${mac}${mac}`,
      `${version}${mark}${'A'.repeat(mac.length)}`,
      `${version}${mark}${'0'.repeat(mac.length)}`,
      ...Array.from({ length: value.length }, (_one, length) => value.slice(0, length)),
    ]
    for (const forged of forgeries) {
      expect(await believed({ headers: { ...headers, [name]: forged }, body }), forged).toBe(false)
    }
  })

  it('I4: rejects a signature under the name of another version', async () => {
    const name = covered.at(-1) as string
    const { headers, body } = make()
    const value = headers[name] as string
    const version = value.slice(0, value.search(/[,=]/))
    for (const other of ['v1', 'v1a', 'v0', 'v2', 'V1', 'v01', 'sha1', 'sha512', 'none', '']) {
      if (other === version) continue
      const forged = value.replace(version, other)
      expect(await believed({ headers: { ...headers, [name]: forged }, body }), forged).toBe(false)
    }
  })

  it('I3: rejects the parts of two messages put together', async () => {
    const one = make()
    const two = make({
      id: 'evt_2',
      timestamp: String(Number(nowSeconds) - 1),
      body: eventBody.replace('evt_1', 'evt_2'),
    })
    expect(await believed(two)).toBe(true)
    expect(await believed({ headers: one.headers, body: two.body })).toBe(false)
    for (const name of covered) {
      const headers = { ...one.headers, [name]: two.headers[name] as string }
      expect(await believed({ headers, body: one.body }), name).toBe(false)
    }
  })

  it('rejects what was moved over the border of a part', async () => {
    const request = make({ body: '1.{"a":1}' })
    for (const [from, to] of [
      ['webhook-id', 'webhook-timestamp'],
      ['webhook-timestamp', 'body'],
      ['x-webhook-timestamp', 'body'],
    ] as const) {
      const value = request.headers[from]
      if (value === undefined) continue
      const headers = { ...request.headers, [from]: value.slice(0, -1) }
      const moved = value.slice(-1)
      const forged =
        to === 'body'
          ? { headers, body: moved + request.body }
          : { headers: { ...headers, [to]: moved + request.headers[to] }, body: request.body }
      expect(await believed(forged)).toBe(false)
    }
  })

  it.each([-301, 301, -86_400, 86_400, 10 ** 9])('I5: rejects it %i s off', async (skew) => {
    const request = make({ timestamp: String(Number(nowSeconds) + skew) })
    expect(await believed(request)).toBe(false)
  })

  it('rejects it signed with another key', async () => {
    const others = { ...options, secret: 'another-secret-of-ours', publicKey: otherPublicKey }
    expect(await believed(make(), others)).toBe(false)
  })
})

it('rejects any change of any part, however it looks', async () => {
  const base = signed()
  const change = fc.oneof(
    fc.record({ name: fc.constantFrom('webhook-id', 'webhook-timestamp'), value: fc.string() }),
    fc.record({
      name: fc.constant('webhook-signature'),
      value: fc.oneof(
        fc.string(),
        fc.base64String().map((mac) => `v1,${mac}`),
        fc.uint8Array({ minLength: 32, maxLength: 32 }).map((mac) => `v1,${base64(mac)}`),
        fc.uint8Array({ minLength: 64, maxLength: 64 }).map((mac) => `v1a,${base64(mac)}`),
      ),
    }),
    fc.record({ name: fc.constant('body'), value: fc.json() }),
  )
  await fc.assert(
    fc.asyncProperty(change, async ({ name, value }) => {
      fc.pre(value !== base.headers[name] && value !== base.body)
      const forged =
        name === 'body'
          ? { headers: base.headers, body: value }
          : { headers: { ...base.headers, [name]: value }, body: base.body }
      expect(await believed(forged)).toBe(false)
    }),
    { numRuns: 2_000 },
  )
})

const otherPublicKey = `whpk_${Buffer.alloc(32, 9).toString('base64')}`

/** Whether the signature was taken; what the body says is another question. */
async function believed(
  request: { headers: Record<string, string>; body: string | Uint8Array },
  given: Parameters<typeof verify>[1] = options,
): Promise<boolean> {
  try {
    await verify(request, given as typeof options)
    return true
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error
    return error.code === 'BODY_INVALID'
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
