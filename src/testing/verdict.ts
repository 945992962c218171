/** Whether the signatures of a received request fit a secret, in every scheme the sender knows. */
import { createPublicKey, timingSafeEqual, verify } from 'node:crypto'
import { bodySignature, HmacKey, standardSignature } from '../security/sign.ts'
import { publicKeyOf } from '../security/signing-key.ts'

/** `unsigned`: neither signature was sent. `unknown`: the inbox was given no secret for the path. */
export type SignatureVerdict = 'valid' | 'invalid' | 'unsigned' | 'unknown'

type Headers = Readonly<Record<string, string | undefined>>

/** SubjectPublicKeyInfo of RFC 8410, up to the key. */
const spkiHead = Buffer.from('302a300506032b6570032100', 'hex')
const publicPrefix = 'whpk_'

/** @param secret of the endpoint, or its public key (`whpk_…`) */
export function judge(
  headers: Headers,
  body: Uint8Array,
  secret: string | undefined,
): SignatureVerdict {
  const standard = headers['webhook-signature']
  const single = headers['x-webhook-signature']
  if (standard === undefined && single === undefined) return 'unsigned'
  if (secret === undefined) return 'unknown'
  const publicKey = secret.startsWith(publicPrefix) ? secret : publicKeyOf(secret)
  if (publicKey !== null) {
    // The single header is an HMAC: it belongs to an older secret that this key cannot check.
    return standard !== undefined && hasEd25519(standard, headers, body, publicKey)
      ? 'valid'
      : 'invalid'
  }
  const fits =
    (standard === undefined || hasHmac(standard, headers, body, secret)) &&
    (single === undefined || singleFits(single, headers, body, secret))
  return fits ? 'valid' : 'invalid'
}

function hasHmac(list: string, headers: Headers, body: Uint8Array, secret: string): boolean {
  const { id, timestamp } = signedHeaders(headers)
  const expected = standardSignature(id, timestamp, body, [secret])
  return list.split(' ').some((one) => equal(one, expected))
}

function hasEd25519(list: string, headers: Headers, body: Uint8Array, publicKey: string): boolean {
  const { id, timestamp } = signedHeaders(headers)
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body])
  const bytes = Buffer.from(publicKey.slice(publicPrefix.length), 'base64')
  const key = createPublicKey({
    key: Buffer.concat([spkiHead, bytes]),
    format: 'der',
    type: 'spki',
  })
  return list
    .split(' ')
    .filter((one) => one.startsWith('v1a,'))
    .some((one) => verify(null, signed, key, Buffer.from(one.slice(4), 'base64')))
}

/** The body alone, or as version 0.30 signs: `timestamp.body`, the secret taken as text. */
function singleFits(value: string, headers: Headers, body: Uint8Array, secret: string): boolean {
  const algorithm = value.startsWith('sha512=') ? 'sha512' : 'sha256'
  if (equal(value, `${algorithm}=${bodySignature(algorithm, body, secret)}`)) return true
  const timestamp = headers['x-webhook-timestamp'] ?? ''
  const key = new HmacKey(algorithm, Buffer.from(secret))
  return equal(value, `${algorithm}=${key.mac(`${timestamp}.`, body, 'hex')}`)
}

function signedHeaders(headers: Headers): { id: string; timestamp: string } {
  return { id: headers['webhook-id'] ?? '', timestamp: headers['webhook-timestamp'] ?? '' }
}

function equal(a: string, b: string): boolean {
  const x = Buffer.from(a)
  const y = Buffer.from(b)
  return x.length === y.length && timingSafeEqual(x, y)
}
