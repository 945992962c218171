/** The options about the way to receivers: what they may be, checked where they are given. */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { describeValue, WebhookError } from '../model/errors.ts'
import { refuseUnknown } from '../model/given.ts'
import type { EgressProxy } from './proxy.ts'

export interface TlsOptions {
  /** PEM of certificate authorities to believe beside the runtime's own. */
  ca?: string | undefined
}

export interface ProxyOptions {
  /** `http://user:password@10.0.0.3:3128`; `https:` when the proxy itself speaks TLS. */
  url: string
  /**
   * What the proxy is asked to connect to. `'address'` (the default): one that was resolved and
   * checked here. `'name'`: nothing is resolved here, and the proxy has to refuse private networks.
   */
  connectTo?: 'address' | 'name' | undefined
}

export interface DnsOptions {
  /** Name servers as `address` or `address:port`. Default the system's. */
  servers?: readonly string[] | undefined
  /** Of one name, from 1 to 5000. Default 4000. */
  timeoutMs?: number | undefined
}

export interface NetworkOptions {
  tls?: TlsOptions | undefined
  proxy?: string | ProxyOptions | undefined
  dns?: DnsOptions | undefined
}

/** @throws WebhookError OPTION_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE */
export function checkNetworkOptions({ tls, proxy, dns }: NetworkOptions): void {
  checkTls(tls)
  parseProxy(proxy)
  checkDns(dns)
}

/**
 * What is no header could end the head, or begin another one.
 *
 * @throws WebhookError OPTION_INVALID
 */
export function checkUserAgent(userAgent: unknown): void {
  if (userAgent === undefined) return
  if (typeof userAgent === 'string' && /^[\x20-\x7e]{1,256}$/.test(userAgent)) return
  throw invalid('`userAgent` to be 1 to 256 printable ASCII characters', userAgent)
}

function checkTls(tls: unknown): void {
  if (tls === undefined) return
  checkFields('tls', tls, ['ca'])
  const { ca } = tls as { ca?: unknown }
  if (ca === undefined || isCertificate(ca)) return
  throw invalid('`tls.ca` to be the PEM text of one or more certificates', ca)
}

/** @returns null for none. The URL is never part of an error: it may hold a password */
export function parseProxy(option: NetworkOptions['proxy']): EgressProxy | null {
  if (option === undefined) return null
  if (typeof option !== 'string') checkFields('proxy', option, ['url', 'connectTo'])
  const { url, connectTo = 'address' }: ProxyOptions =
    typeof option === 'string' ? { url: option } : option
  if (connectTo !== 'address' && connectTo !== 'name') {
    throw invalid("`proxy.connectTo` to be 'address' or 'name'", connectTo)
  }
  const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : null
  const isProxy = parsed !== null && ['http:', 'https:'].includes(parsed.protocol)
  if (!isProxy || parsed.pathname !== '/' || parsed.search !== '' || parsed.hash !== '') {
    throw new WebhookError(
      'OPTION_INVALID',
      "Expected `proxy` to be a URL such as 'http://10.0.0.3:3128' (http or https, no path), got something else.",
    )
  }
  const secure = parsed.protocol === 'https:'
  return {
    secure,
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: Number(parsed.port || (secure ? 443 : 80)),
    authorization: authorizationOf(parsed),
    connectTo,
  }
}

function authorizationOf({ username, password }: URL): string | null {
  if (username === '' && password === '') return null
  try {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
    return `Basic ${Buffer.from(credentials).toString('base64')}`
  } catch {
    throw new WebhookError(
      'OPTION_INVALID',
      'Expected user name and password of `proxy` to be percent-encoded, got a % that begins no code.',
    )
  }
}

function checkDns(dns: unknown): void {
  if (dns === undefined) return
  checkFields('dns', dns, ['servers', 'timeoutMs'])
  const { servers, timeoutMs } = dns as { servers?: unknown; timeoutMs?: unknown }
  const isList = Array.isArray(servers) && servers.every(isServer)
  if (servers !== undefined && !isList) {
    throw invalid("`dns.servers` to list addresses such as '10.0.0.2' or '[fd00::2]:53'", servers)
  }
  const inRange =
    Number.isInteger(timeoutMs) && Number(timeoutMs) >= 1 && Number(timeoutMs) <= 5_000
  if (timeoutMs !== undefined && !inRange) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`dns.timeoutMs\` to be an integer from 1 to 5000, got ${describeValue(timeoutMs)}.`,
    )
  }
}

function isServer(server: unknown): boolean {
  if (typeof server !== 'string') return false
  if (isIP(server) !== 0) return true
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(server) ?? []
  return isIP(six ?? four ?? '') !== 0 && Number(port) > 0 && Number(port) < 65_536
}

function isCertificate(pem: unknown): boolean {
  try {
    return typeof pem === 'string' && new X509Certificate(pem) instanceof X509Certificate
  } catch {
    return false
  }
}

function checkFields(name: string, value: unknown, fields: readonly string[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(
      `\`${name}\` to be an object with ${fields.map((one) => `\`${one}\``).join(', ')}`,
      value,
    )
  }
  refuseUnknown(value, fields, `a field of \`${name}\``)
}

function invalid(expected: string, got: unknown): WebhookError {
  const shown = typeof got === 'string' ? 'another text' : describeValue(got)
  return new WebhookError('OPTION_INVALID', `Expected ${expected}, got ${shown}.`)
}
