/**
 * The signatures a sender may have made. Each checks its own headers and throws what is wrong first.
 * No MAC is ever computed here to be compared with another: `crypto.subtle.verify` does both, outside
 * JavaScript and in constant time.
 */
import { base64Bytes, ed25519Key, hmacKey, subtle } from './keys.ts'
import { concat, type ReadHeader, type ReadRequest, utf8 } from './raw.ts'
import type { Rules, Scheme } from './rules.ts'
import { expected, type WebhookVerificationError } from './verification-error.ts'

type Bytes = Uint8Array<ArrayBuffer>
/** What has to be signed; asked for only once something may be a signature of it. */
type Signed = () => Promise<Bytes>

/** A rotation needs two, and a second version two more; who sends many wants us to compute. */
const maxSignatures = 16
const standardHeader = 'webhook-signature'

/** @returns the signed id of the request; null where the scheme signs none */
type Check = (request: ReadRequest, rules: Rules) => Promise<string | null>

export const schemes: Record<Scheme, Check> = {
  async standard({ header, body }, rules) {
    const id = required(header, 'webhook-id')
    // A dot could move into the timestamp; a comma means that the header came twice.
    if (!/^[!-+\-/-~]{1,256}$/.test(id)) {
      throw invalid('webhook-id', 'up to 256 visible characters without dot and comma')
    }
    const timestamp = checkTimestamp(header, 'webhook-timestamp', rules)
    const entries = required(header, standardHeader).split(' ')
    // Two headers arrive joined with a comma and a space.
    if (entries.length > maxSignatures || entries.some((one) => one.endsWith(','))) {
      throw invalid(standardHeader, `up to ${maxSignatures} signatures with spaces between`)
    }
    const signed = prefixed(`${id}.${timestamp}.`, body)
    for (const entry of entries) {
      // Unknown versions are skipped: a sender may add one. So is what cannot be a signature.
      const [version, encoded = '', surplus] = entry.split(',')
      const mac = base64Bytes(encoded)
      if (!mac || surplus !== undefined) continue
      if (version === 'v1' && (await anyHmac(rules.secrets, 256, mac, signed))) return id
      if (version === 'v1a' && (await ed25519(rules.publicKey, mac, signed))) return id
    }
    throw notSigned(standardHeader)
  },

  body: (request, rules) => plain(request, rules, false),
  'timestamped-body': (request, rules) => plain(request, rules, true),
}

async function plain({ header, body }: ReadRequest, rules: Rules, timestamped: boolean) {
  const timestamp = checkTimestamp(header, 'x-webhook-timestamp', rules)
  const signed = prefixed(timestamped ? `${timestamp}.` : '', body)
  const { header: name, prefix, bits } = rules.signature
  const given = required(header, name)
  const mac = given.startsWith(prefix) ? hexBytes(given.slice(prefix.length)) : null
  if (!mac) throw invalid(name, `"${prefix}" and hexadecimal digits`)
  if (await anyHmac(rules.secrets, bits, mac, signed)) return null
  // Senders of these schemes that know no `whsec_` take the secret as it is written.
  const encoded = rules.secrets.filter((one) => one.startsWith('whsec_'))
  if (await anyHmac(encoded, bits, mac, signed, true)) return null
  throw notSigned(name)
}

async function anyHmac(
  secrets: readonly string[],
  bits: number,
  mac: Bytes,
  signed: Signed,
  asText = false,
): Promise<boolean> {
  // How long a signature has to be is no secret.
  if (mac.length !== bits / 8) return false
  const bytes = await signed()
  for (const secret of secrets) {
    const key = await hmacKey(secret, `SHA-${bits}`, asText)
    if (await subtle.verify('HMAC', key, mac, bytes)) return true
  }
  return false
}

async function ed25519(
  publicKey: string | undefined,
  mac: Bytes,
  signed: Signed,
): Promise<boolean> {
  if (!publicKey || mac.length !== 64) return false
  return subtle.verify('Ed25519', await ed25519Key(publicKey), mac, await signed())
}

/** @returns the header's text, which is part of what is signed */
function checkTimestamp(header: ReadHeader, name: string, rules: Rules): string {
  const text = required(header, name)
  // Strict: `1e3`, `0x10`, `12abc`, ` 12` and milliseconds are numbers to a lenient parser.
  if (!/^(0|[1-9]\d{0,11})$/.test(text)) {
    const got = JSON.stringify(text.slice(0, 40))
    throw expected('TIMESTAMP_INVALID', `\`${name}\` to be Unix seconds in decimal, got ${got}`)
  }
  const skewSeconds = Math.floor(rules.nowMs() / 1_000) - Number(text)
  const within = rules.toleranceSeconds
  const off = Math.abs(skewSeconds)
  if (off <= within) return text
  const [code, why] =
    skewSeconds > 0
      ? (['TIMESTAMP_TOO_OLD', 'old: held up, replayed, or our clock is ahead'] as const)
      : (['TIMESTAMP_TOO_NEW', "ahead: our clock is behind, or the sender's ahead"] as const)
  throw expected(code, `a request signed within ${within} s, got one ${off} s ${why}`, {
    skewSeconds,
  })
}

function required(header: ReadHeader, name: string): string {
  const value = header(name)
  if (value) return value
  throw expected(
    'HEADER_MISSING',
    `\`${name}\`, got none: no webhook, headers lost, or another of \`schemes\``,
  )
}

function notSigned(name: string): WebhookVerificationError {
  return expected(
    'SIGNATURE_INVALID',
    `\`${name}\` to sign these bytes with our \`secret\` (v1) or \`publicKey\` (v1a), got another key, or a body changed or serialised again`,
  )
}

function invalid(name: string, what: string): WebhookVerificationError {
  return expected('HEADER_INVALID', `\`${name}\` to be ${what}`)
}

function prefixed(prefix: string, read: ReadRequest['body']): Signed {
  return async () => {
    const head = utf8(prefix)
    const body = await read()
    return concat([head, body], head.length + body.length)
  }
}

function hexBytes(text: string): Bytes | null {
  if (!/^([\da-f]{2})+$/i.test(text)) return null
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}
