/**
 * As whom we speak TLS, and whom we believe: certificate authorities and a client certificate.
 * Sessions belong to an identity: one that is resumed carries over who was checked and who we were,
 * so that neither may be shared between endpoints that differ in them.
 */
import { createHash } from 'node:crypto'
import { type ConnectionOptions, createSecureContext, rootCertificates } from 'node:tls'
import type { EndpointTls } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'

export interface TlsIdentity {
  /** The same for the same authorities and certificate; no secret can be read from it. */
  readonly key: string
  readonly options: ConnectionOptions
  readonly sessions: Sessions
}

const maxSessions = 500
const minVersion = 'TLSv1.2'

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
      options: ca === undefined ? { minVersion } : contextOptions({ ca: withRoots(ca) }),
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
  return { ...given, minVersion, secureContext: createSecureContext({ ...given, minVersion }) }
}

function withRoots(ca: string): string[] {
  return [...rootCertificates, ca]
}
