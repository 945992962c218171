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
const ourNames = /^x-webhook-(?:id|timestamp|event|delivery|attempt)$/

/** What reads show instead of a sensitive value, and what a write takes as "leave it as it is". */
export const maskedValue = '***'

/** Too many rather than too few: a masked name that was harmless hurts nobody. */
const sensitiveName = /auth|cookie|token|secret|key|passw|credential|signature/i

/** Whether a header's value may be a credential. Such values are write-only. */
export function isSensitiveHeader(name: string): boolean {
  return sensitiveName.test(name)
}

/** Whether every request has this header already, or HTTP itself needs it. */
export function isProtocolHeader(name: string): boolean {
  const lower = name.toLowerCase()
  return (
    reserved.has(lower) ||
    ourNames.test(lower) ||
    lower.startsWith('proxy-') ||
    lower.startsWith('webhook-')
  )
}

/** The headers as reads show them. */
export function maskHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, content]) => [
      name,
      isSensitiveHeader(name) ? maskedValue : content,
    ]),
  )
}

/**
 * Undoes `maskHeaders` in what somebody read, changed and wrote back: a sensitive header that is
 * still masked keeps the value it has.
 *
 * @throws WebhookError ENDPOINT_INVALID when there is no value to keep
 */
export function unmaskHeaders(
  given: Readonly<Record<string, string>>,
  known: Readonly<Record<string, string>>,
): Record<string, string> {
  const values = new Map(Object.entries(known).map(([name, own]) => [name.toLowerCase(), own]))
  return Object.fromEntries(
    Object.entries(given).map(([name, content]) => {
      if (content !== maskedValue || !isSensitiveHeader(name)) return [name, content]
      const own = values.get(name.toLowerCase())
      if (own !== undefined) return [name, own]
      throw invalid(
        name,
        `to be given its value: "${maskedValue}" is how reads show a sensitive one, and there is none to keep`,
      )
    }),
  )
}

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
