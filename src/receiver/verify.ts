/**
 * Verifies what a webhook sender sent. Uses only what every runtime of the web has: Node, Bun, Deno
 * and Workers run it as it is. Knows no framework; the adapters beside it do.
 */
import type { WebhookEventBody } from '../model/event.ts'
import { type RawRequest, readRaw } from './raw.ts'
import { type Rules, rulesOf, secretMissing, type VerifyOptions } from './rules.ts'
import { schemes } from './schemes.ts'
import { expected, type WebhookVerificationError } from './verification-error.ts'

/**
 * Believes a request, or says why not.
 *
 * @param request a fetch `Request` whose body is unread, or headers and the raw body
 * @returns the parsed body, typed as you say it is; with `batch: true` a list of events
 * @throws WebhookVerificationError saying which step failed and what to do
 * @example
 * const event = await verify(request, { secret: process.env.WEBHOOK_SECRET })
 */
export async function verify<Event = WebhookEventBody>(
  request: Request | RawRequest,
  options: VerifyOptions & { batch: true },
): Promise<Event[]>
export async function verify<Event = WebhookEventBody>(
  request: Request | RawRequest,
  options: VerifyOptions & { batch?: false | undefined },
): Promise<Event>
export async function verify<Event = WebhookEventBody>(
  request: Request | RawRequest,
  options: VerifyOptions & { batch?: boolean | undefined },
): Promise<Event | Event[]> {
  const rules = rulesOf(options)
  const { content } = await believe(request, rules)
  const isBatch = Array.isArray(content)
  if (options.batch) return (isBatch ? content : [content]) as Event[]
  if (!isBatch) return content as Event
  throw expected(
    'BATCH_UNEXPECTED',
    `one event, got a batch of ${content.length}; pass \`batch: true\` to get lists`,
  )
}

export interface Verified {
  /** What the body's JSON says. */
  readonly content: unknown
  /** `webhook-id`, when it is signed: constant over retries. */
  readonly id: string | null
}

export async function believe(request: Request | RawRequest, rules: Rules): Promise<Verified> {
  const raw = readRaw(request, rules.maxBodyBytes)
  if (!rules.secrets.length && !rules.publicKey) {
    throw secretMissing()
  }
  let problem: WebhookVerificationError | undefined
  for (const name of rules.schemes) {
    try {
      const id = await schemes[name](raw, rules)
      return { content: parse(await raw.body()), id }
    } catch (error) {
      // A scheme whose headers are not there says less than one that was tried.
      if (!problem || problem.code === 'HEADER_MISSING') problem = error as typeof problem
    }
  }
  throw problem
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    // Without the parser's own error, which quotes the body.
    throw expected('BODY_INVALID', 'JSON in UTF-8 under the signature')
  }
}
