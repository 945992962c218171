/**
 * As whom we speak TLS, and whom we believe: certificate authorities and a client certificate.
 * Sessions belong to an identity: one that is resumed carries over who was checked and who we were,
 * so that neither may be shared between endpoints that differ in them.
 */
import { createHash } from 'node:crypto'
import {
  type ConnectionOptions,
  createSecureContext,
  DEFAULT_CIPHERS,
  rootCertificates,
  type SecureContext,
} from 'node:tls'
import type { EndpointTls } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'

export interface TlsIdentity {
  /** The same for the same authorities and certificate; no secret can be read from it. */
  readonly key: string
  readonly options: ConnectionOptions
  readonly sessions: Sessions
}

const maxSessions = 500

const curves = 'X25519:P-256:P-384:P-521'

/**
 * What every handshake of ours keeps to. Keys are exchanged on curves only: in a finite field the
 * server chooses the prime, and one of 8192 bits is 150 ms of this thread for every connection (8 ms
 * with the standard one of TLS 1.3). Whoever speaks TLS 1.2 well enough to be verified has ECDHE.
 */
export const handshake = {
  minVersion: 'TLSv1.2',
  ciphers: `${DEFAULT_CIPHERS}:!kDHE`,
  ecdhCurve: knownCurves(),
} as const

/** What it takes to resume a session, per server; the latest ones. */
export class Sessions {
  readonly #bytes = new Map<string, Buffer>()

  get(server: string): Buffer | undefined {
    return this.#bytes.get(server)
  }

  set(server: string, session: Buffer): void {
    this.#bytes.delete(server)
    const [oldest] = this.#bytes.keys()
    if (this.#bytes.size >= maxSessions && oldest !== undefined) this.#bytes.delete(oldest)
    this.#bytes.set(server, session)
  }
}

export class TlsIdentities {
  readonly #added: string | undefined
  readonly #usual: TlsIdentity
  /** By key; each for as long as an endpoint or a connection has it, so that no key outlives them. */
  readonly #known = new Map<string, WeakRef<TlsIdentity>>()
  readonly #collected = new FinalizationRegistry<string>((key) => {
    if (this.#known.get(key)?.deref() === undefined) this.#known.delete(key)
  })

  /** @param ca PEM of authorities that are believed beside the runtime's own, by every endpoint */
  constructor(ca: string | undefined) {
    this.#added = ca
    const options = ca === undefined ? handshake : contextOptions({}, ca)
    this.#usual = { key: '', sessions: new Sessions(), options }
  }

  /**
   * @param tls an endpoint's; its `ca` is believed instead of all others
   * @returns the same one for the same text: a record changes more often than its certificate
   * @throws WebhookError ENDPOINT_INVALID when the PEM cannot be used
   */
  of(tls: EndpointTls | null): TlsIdentity {
    if (tls === null) return this.#usual
    const text = JSON.stringify([tls.ca, tls.cert, tls.key])
    const key = createHash('sha256').update(text).digest('base64url')
    const known = this.#known.get(key)?.deref()
    if (known !== undefined) return known
    const identity = { key, sessions: new Sessions(), options: this.#optionsOf(tls) }
    this.#known.set(key, new WeakRef(identity))
    this.#collected.register(identity, key)
    return identity
  }

  #optionsOf(tls: EndpointTls): ConnectionOptions {
    try {
      return contextOptions(tls, tls.ca === undefined ? this.#added : undefined)
    } catch {
      // The cause may quote what it could not read.
      throw new WebhookError(
        'ENDPOINT_INVALID',
        'Expected `tls` of the endpoint to hold PEM that can be used, got something else.',
      )
    }
  }
}

/**
 * A context made once, not for each connection.
 *
 * @param added PEM that is believed beside the runtime's own authorities
 */
function contextOptions(
  { ca: only, cert, key }: EndpointTls,
  added: string | undefined,
): ConnectionOptions {
  // Nothing else that a row may hold gets through to the context.
  const given = Object.entries({ ca: only, cert, key }).filter(([, value]) => value !== undefined)
  const pem = Object.fromEntries(given)
  const secureContext = createSecureContext({ ...pem, ...handshake })
  if (added === undefined || addAuthority(secureContext, added)) {
    return { ...handshake, secureContext }
  }
  const ca = [...rootCertificates, added]
  return { ...handshake, secureContext: createSecureContext({ ...pem, ...handshake, ca }) }
}

/**
 * The option `ca` replaces the runtime's authorities, and naming these in it parses all of them again:
 * 20 ms and 1 MB for every context. What `createSecureContext` itself calls for each `ca` adds to the
 * list the runtime has parsed already (0.4 ms, 30 kB). It is in Node 20 to 24 and in Bun, and not in
 * the documentation: where it is missing, the long way is taken.
 *
 * @returns false where it is missing
 */
function addAuthority(secureContext: SecureContext, ca: string): boolean {
  const { context } = secureContext as { context?: { addCACert?: (pem: string) => void } }
  if (typeof context?.addCACert !== 'function') return false
  context.addCACert(ca)
  return true
}

/** With the hybrid that withstands quantum computers where the runtime knows it (OpenSSL 3.5). */
function knownCurves(): string {
  const all = `X25519MLKEM768:${curves}`
  try {
    // Without authorities: parsing the runtime's own is no part of being imported.
    createSecureContext({ ca: [], ecdhCurve: all })
    return all
  } catch {
    return curves
  }
}
