/** Headers that users add to the requests of an endpoint: what they may be named and hold. */
import { describeValue, WebhookError } from '../model/errors.ts'

const maxTotalLength = 8192
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** Visible ASCII, Latin-1, space and tab. CR, LF and NUL would let a value become a header. */
const value = /^[\t\x20-\x7e\x80-\xff]*$/

/** They frame the message, or are set by the sender: two of them would contradict each other. */
const reserved = new Set([
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'accept-encoding',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'expect',
])
const reservedPrefixes = ['proxy-', 'webhook-', 'x-webhook-']

/**
 * Called when an endpoint is written and again before it is sent to.
 *
 * @param signatureHeader name of the header the SecurityManager signs with, when it is another one
 * @throws WebhookError ENDPOINT_INVALID naming the header; never its value, which may be a secret
 */
export function checkHeaders(headers: unknown, signatureHeader?: string): void {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected \`headers\` to be an object such as { 'X-Team': 'billing' }, got ${describeValue(headers)}.`,
    )
  }
  let length = 0
  const seen = new Set<string>()
  for (const [name, content] of Object.entries(headers)) {
    const lower = name.toLowerCase()
    checkName(name, lower, signatureHeader?.toLowerCase())
    if (seen.has(lower)) throw invalid(name, 'to be given once; names differ only in case')
    seen.add(lower)
    if (typeof content !== 'string') throw invalid(name, 'to have a text as its value')
    if (!value.test(content)) {
      throw invalid(name, 'to hold Latin-1 text without line breaks or control characters')
    }
    length += name.length + content.length
  }
  if (length > maxTotalLength) {
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected \`headers\` to be at most ${maxTotalLength} characters in all, got ${length}.`,
    )
  }
}

function checkName(name: string, lower: string, signatureHeader: string | undefined): void {
  if (!token.test(name)) throw invalid(name, 'to be named by letters, digits and hyphens')
  const taken =
    reserved.has(lower) ||
    lower === signatureHeader ||
    reservedPrefixes.some((prefix) => lower.startsWith(prefix))
  if (taken) throw invalid(name, 'not to be among `headers`: the sender sets it')
}

function invalid(name: string, expected: string): WebhookError {
  return new WebhookError(
    'ENDPOINT_INVALID',
    `Expected the header ${describeValue(name)} ${expected}.`,
  )
}
