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
  readonly #ca: string | undefined
  readonly #usual: TlsIdentity

  /** @param ca PEM of authorities that are believed beside the runtime's own, by every endpoint */
  constructor(ca: string | undefined) {
    this.#ca = ca
    this.#usual = {
      key: '',
      sessions: new Sessions(),
      options: ca === undefined ? handshake : contextOptions({ ca: withRoots(ca) }),
    }
  }

  /**
   * @param tls an endpoint's; its `ca` is believed instead of all others
   * @throws WebhookError ENDPOINT_INVALID when the PEM cannot be used
   */
  of(tls: EndpointTls | null): TlsIdentity {
    if (tls === null) return this.#usual
    const key = createHash('sha256').update(JSON.stringify(tls)).digest('base64url')
    return { key, sessions: new Sessions(), options: this.#optionsOf(tls) }
  }

  #optionsOf({ ca, cert, key }: EndpointTls): ConnectionOptions {
    const inherited = this.#ca === undefined ? undefined : withRoots(this.#ca)
    try {
      return contextOptions({ ca: ca ?? inherited, cert, key })
    } catch {
      // The cause may quote what it could not read.
      throw new WebhookError(
        'ENDPOINT_INVALID',
        'Expected `tls` of the endpoint to hold PEM that can be used, got something else.',
      )
    }
  }
}

/** A context made once: parsing some 150 root certificates for each connection takes milliseconds. */
function contextOptions(pem: {
  ca?: string | string[] | undefined
  cert?: string | undefined
  key?: string | undefined
}): ConnectionOptions {
  const given = Object.fromEntries(Object.entries(pem).filter(([, value]) => value !== undefined))
  return { ...given, ...handshake, secureContext: createSecureContext({ ...given, ...handshake }) }
}

function withRoots(ca: string): string[] {
  return [...rootCertificates, ca]
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
