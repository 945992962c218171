/**
 * Which URLs an endpoint may have. Checked when it is written and again before every connection's
 * first use, so that a URL forced into the store is no way around it. What a name resolves to is
 * not decided here but in the connector: deliver/connect.ts.
 */
import { isIP } from 'node:net'
import { describeValue, WebhookError } from '../model/errors.ts'
import { AddressRule } from './address.ts'

const maxUrlLength = 2048
const anExample = 'it looks like https://example.com/webhooks'

/** WHATWG parsing silently drops tab, CR and LF and turns `\` into `/`: refused before parsing. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const neverInUrl = /[\u0000-\u0020\u007f-\u009f\\]/

/** Well-known services above 1023 that answer to plain HTTP or to its first line. */
const refusedPorts = new Set([2375, 2376, 2379, 3306, 5432, 6379, 6443, 9200, 10250, 11211, 27017])

const privateSuffixes = new Set([
  'localhost',
  'local',
  'internal',
  'localdomain',
  'arpa',
  'onion',
  'test',
  'invalid',
  'svc',
])

export interface UrlRules {
  /** CIDR blocks that are reachable although they are not public. */
  readonly allowedNetworks: readonly string[]
}

/**
 * @param rules with an `allowedNetworks` the rules about names (no single labels, no `localhost`, …)
 *   give way to the check of the address, so that names of Compose and cluster services work; the
 *   rule about ports gives way to addresses inside of them only
 * @returns the URL parsed once, its host without a trailing dot; `href` is what to keep
 * @throws WebhookError ENDPOINT_URL_INVALID, ADDRESS_BLOCKED
 */
export function checkEndpointUrl(url: unknown, rules: UrlRules | AddressRule): URL {
  const rule = rules instanceof AddressRule ? rules : new AddressRule(rules.allowedNetworks)
  const parsed = parse(url)
  // `example.com.` is `example.com`; a certificate and a name rule know only the latter.
  if (parsed.hostname.endsWith('.')) parsed.hostname = parsed.hostname.slice(0, -1)
  const host = parsed.hostname.replace(/^\[|\]$/g, '')
  // A name is known by its look only; where it leads is found out later, by whoever connects. So
  // the ports of an opened network are open to its addresses and to no name.
  if (isIP(host) === 0) {
    checkName(host, rule)
    checkPort(parsed)
  } else if (!checkLiteral(host, rule)) checkPort(parsed)
  return parsed
}

function parse(url: unknown): URL {
  if (typeof url !== 'string') throw invalid('to be an absolute http or https URL', url, anExample)
  if (url.length > maxUrlLength) {
    throw invalid(`to be at most ${maxUrlLength} characters long`, `${url.length} characters`)
  }
  if (neverInUrl.test(url)) {
    throw invalid('to contain no space, backslash or control character', url, 'percent-encode it')
  }
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed === null || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) {
    throw invalid('to be an absolute http or https URL', url, anExample)
  }
  // Not echoed: what stands before the @ is probably a password.
  if (parsed.username !== '' || parsed.password !== '') {
    throw invalid('to carry no user name or password', url, 'put them into `headers` instead')
  }
  if (url.includes('#'))
    throw invalid('to have no fragment (#…)', url, 'leave it out, it is never sent')
  return parsed
}

/** @returns true when it is reachable only because its network was opened */
function checkLiteral(address: string, rule: AddressRule): boolean {
  if (rule.allows(address)) return rule.opens(address)
  throw blocked(`the address ${address}`)
}

function checkName(host: string, rule: AddressRule): void {
  const labels = host.split('.')
  const wellFormed = labels.every(
    (label) =>
      label.length > 0 && label.length <= 63 && !label.startsWith('-') && !label.endsWith('-'),
  )
  if (!wellFormed || host.length > 253) {
    throw invalid('to have a host name of labels of 1 to 63 characters, at most 253 in all', host)
  }
  const isPrivate = labels.length === 1 || privateSuffixes.has(labels.at(-1) ?? '')
  if (isPrivate && !rule.opensNetworks) throw blocked(`the host name "${host}"`)
}

function checkPort(parsed: URL): void {
  // The parser drops a scheme's own port, so '' is 80 or 443.
  const port = parsed.port === '' ? 443 : Number(parsed.port)
  if (port === 80 || port === 443 || (port >= 1024 && !refusedPorts.has(port))) return
  throw invalid(
    'to use port 80, 443 or one from 1024 on that is no well-known service',
    `port ${port}`,
    'let the receiver listen on another port',
  )
}

function invalid(expected: string, got: unknown, advice?: string): WebhookError {
  const shown = typeof got === 'string' ? describeUrl(got) : describeValue(got)
  return new WebhookError(
    'ENDPOINT_URL_INVALID',
    `Expected \`url\` ${expected}, got ${shown}${advice ? `; ${advice}` : ''}.`,
  )
}

/**
 * Tokens travel in the query, passwords before the @, and an error ends up in a log. Where a password
 * begins in what is no URL is anybody's guess, so that nothing of a text with an @ is repeated.
 */
function describeUrl(url: string): string {
  if (/@|%40/.test(url)) return "a URL with '@'"
  return describeValue(url.replace(/[?#].*$/s, '?…'))
}

function blocked(what: string): WebhookError {
  return new WebhookError(
    'ADDRESS_BLOCKED',
    `Expected \`url\` to lead to the public internet, got ${what}; to deliver inside a private network, list its CIDR block in the option \`allowedNetworks\`, for example ['127.0.0.0/8'].`,
  )
}
