/** What is the same in every request to one version of an endpoint, worked out and checked once. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { AddressRule } from '../security/address.ts'
import { checkEndpointUrl } from '../security/endpoint-url.ts'
import { checkHeaders } from '../security/headers.ts'
import type { Signer } from '../security/signer.ts'
import type { TlsIdentities, TlsIdentity } from './tls-identity.ts'

export interface PreparedEndpoint {
  readonly target: Target
  /** Request line and headers, each with its line break; those of the attempt follow. */
  readonly head: string
  /** From the first request on, and anew when one of its keys has expired. */
  signing: Signing | null
}

export interface Signing {
  readonly signer: Signer
  /** When the first of its keys expires; Infinity when none does. */
  readonly untilMs: number
  readonly fallbackSecret: string | null
}

/** What a connection is to. Two endpoints share connections only when nothing here differs. */
export interface Target {
  /** An IPv6 address without brackets. */
  readonly hostname: string
  readonly port: number
  readonly secure: boolean
  readonly identity: TlsIdentity
  /** All of it in one text. */
  readonly key: string
}

export interface PrepareTools {
  readonly addresses: AddressRule
  readonly identities: TlsIdentities
  readonly userAgent: string
  readonly signatureHeader: string
}

/**
 * Checks again what was checked when the endpoint was written: the rules may have become stricter
 * since, and a row can be put into the store by other hands.
 *
 * @throws WebhookError ENDPOINT_URL_INVALID, ADDRESS_BLOCKED, ENDPOINT_INVALID
 */
export function prepare(
  endpoint: Pick<EndpointRecord, 'url' | 'headers' | 'tls'>,
  { addresses, identities, userAgent, signatureHeader }: PrepareTools,
): PreparedEndpoint {
  const url = checkEndpointUrl(endpoint.url, addresses)
  checkHeaders(endpoint.headers, signatureHeader)
  const custom = Object.entries(endpoint.headers)
  const headers = [
    ['host', url.host],
    ['connection', 'keep-alive'],
    ['content-type', 'application/json'],
    ['accept-encoding', 'identity'],
  ]
  if (!custom.some(([name]) => name.toLowerCase() === 'user-agent')) {
    headers.push(['user-agent', userAgent])
  }
  const lines = [...headers, ...custom].map(([name, value]) => `${name}: ${value}\r\n`)
  return {
    target: targetOf(url, identities.of(endpoint.tls)),
    head: `POST ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join('')}`,
    signing: null,
  }
}

function targetOf({ protocol, hostname, port, origin }: URL, identity: TlsIdentity): Target {
  const secure = protocol === 'https:'
  return {
    hostname: hostname.startsWith('[') ? hostname.slice(1, -1) : hostname,
    port: port === '' ? (secure ? 443 : 80) : Number(port),
    secure,
    identity,
    key: `${origin} ${identity.key}`,
  }
}
