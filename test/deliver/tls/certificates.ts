/**
 * A certificate authority for tests: X.509 certificates made of DER by hand, because nothing that can
 * be installed without a download makes them, and a committed one would run out.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIP } from 'node:net'

export interface Certified {
  /** The certificate, PEM. */
  readonly cert: string
  /** Its private key, PEM. */
  readonly key: string
}

export interface CertificateOptions {
  /** Names and IPv4 addresses it is for. */
  hosts?: readonly string[]
  notBefore?: Date
  notAfter?: Date
  /** Of the subject's key; `ec` (P-256) unless told. */
  keyType?: 'ec' | 'rsa'
}

const dayMs = 86_400_000
const ecdsaWithSha256 = sequence(oid(1, 2, 840, 10045, 4, 3, 2))

interface Issuer {
  readonly name: Buffer
  readonly key: KeyObject
}

export class Authority {
  /** PEM. */
  readonly cert: string
  readonly #issuer: Issuer

  constructor(name = 'Test authority') {
    const { publicKey, privateKey } = newKeyPair()
    this.#issuer = { name: distinguishedName(name), key: privateKey }
    const isAuthority = extension(oid(2, 5, 29, 19), sequence(boolean(true)), true)
    this.cert = issue(this.#issuer, this.#issuer.name, publicKey, isAuthority, {})
  }

  certify(name: string, options: CertificateOptions = {}): Certified {
    const { publicKey, privateKey } = newKeyPair(options.keyType)
    const names = alternativeNames(options.hosts ?? [name])
    const cert = issue(this.#issuer, distinguishedName(name), publicKey, names, options)
    return { cert, key: pemOf(privateKey) }
  }
}

/** Signed by itself. */
export function selfSigned(host: string): Certified {
  const { publicKey, privateKey } = newKeyPair()
  const name = distinguishedName(host)
  const names = alternativeNames([host])
  const cert = issue({ name, key: privateKey }, name, publicKey, names, {})
  return { cert, key: pemOf(privateKey) }
}

function issue(
  issuer: Issuer,
  subject: Buffer,
  publicKey: KeyObject,
  extensions: Buffer,
  { notBefore, notAfter }: CertificateOptions,
): string {
  const body = sequence(
    tagged(0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ecdsaWithSha256,
    issuer.name,
    sequence(
      time(notBefore ?? new Date(Date.now() - dayMs)),
      time(notAfter ?? new Date(Date.now() + dayMs)),
    ),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(3, sequence(extensions)),
  )
  const signature = sign('sha256', body, issuer.key)
  const der = sequence(body, ecdsaWithSha256, value(0x03, Buffer.from([0]), signature))
  return pem('CERTIFICATE', der)
}

function newKeyPair(type: 'ec' | 'rsa' = 'ec') {
  if (type === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 })
  return generateKeyPairSync('ec', { namedCurve: 'P-256' })
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function distinguishedName(commonName: string): Buffer {
  return sequence(value(0x31, sequence(oid(2, 5, 4, 3), value(0x0c, Buffer.from(commonName)))))
}

function alternativeNames(hosts: readonly string[]): Buffer {
  const names = hosts.map((host) =>
    isIP(host) === 4
      ? value(0x87, Buffer.from(host.split('.').map(Number)))
      : value(0x82, Buffer.from(host)),
  )
  return extension(oid(2, 5, 29, 17), sequence(...names), false)
}

function extension(id: Buffer, content: Buffer, critical: boolean): Buffer {
  return sequence(id, ...(critical ? [boolean(true)] : []), value(0x04, content))
}

// ── DER ───────────────────────────────────────────────────────────────────────────────────────────

function value(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents)
  return Buffer.concat([Buffer.from([tag]), length(content.length), content])
}

function length(bytes: number): Buffer {
  if (bytes < 128) return Buffer.from([bytes])
  return bytes < 256 ? Buffer.from([0x81, bytes]) : Buffer.from([0x82, bytes >> 8, bytes & 255])
}

function sequence(...contents: readonly Buffer[]): Buffer {
  return value(0x30, ...contents)
}

function tagged(number: number, content: Buffer): Buffer {
  return value(0xa0 + number, content)
}

function integer(bytes: Buffer): Buffer {
  return value(0x02, bytes)
}

function boolean(is: boolean): Buffer {
  return value(0x01, Buffer.from([is ? 255 : 0]))
}

function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, '')
  return value(0x17, Buffer.from(text.slice(2)))
}

function oid(first: number, second: number, ...rest: readonly number[]): Buffer {
  const bytes = [first * 40 + second]
  for (const part of rest) {
    const digits: number[] = [part & 127]
    for (let left = part >> 7; left > 0; left >>= 7) digits.unshift((left & 127) | 128)
    bytes.push(...digits)
  }
  return value(0x06, Buffer.from(bytes))
}
