/**
 * A receiver with handlers per event type: verifies, deduplicates, runs the handlers, and answers
 * 2xx only after they succeeded. The core is `(Request) => Promise<Response>`; adapters are thin.
 */
import type { KnownWebhookEventType, WebhookEventBody } from '../model/event.ts'
import {
  busy,
  failed,
  handled,
  type ReceiverAnswer,
  refusal,
  toResponse,
  unhandled,
} from './answers.ts'
import type { RawRequest } from './raw.ts'
import { rulesOf, secretMissing, type VerifyOptions } from './rules.ts'
import type { SeenClaim, SeenEvents } from './seen-events.ts'
import { expected, type WebhookVerificationError } from './verification-error.ts'
import { believe, type Verified } from './verify.ts'

export interface ReceiverOptions extends VerifyOptions {
  /** Remembers which events were handled; without it a repeated event is handled again. */
  seen?: SeenEvents | undefined
  /**
   * What becomes of an event that no handler wants: `'accept'` (the default) answers 200, `'refuse'`
   * answers 400, after which a sender gives the event up. A sender's test (`webhook.test`) gets 200.
   */
  unhandled?: 'accept' | 'refuse' | undefined
  /**
   * Told what a handler, the store of seen events or our own configuration did wrong, with the event
   * when there is one; the sender gets a 500 and tries again. Default: a line on `console.error`.
   */
  onError?: ((error: unknown, event?: WebhookEventBody) => void) | undefined
  /** Told why a request was answered with 400, 401 or 413. Default: nobody, for anyone can send those. */
  onRefused?: ((error: WebhookVerificationError) => void) | undefined
}

/** What adapters need of a receiver. */
export interface RequestReceiver {
  readonly maxBodyBytes: number
  /** For fetch-style servers: Hono, Next.js, Bun, Deno, Workers. Never rejects. */
  handle(request: Request): Promise<Response>
  /** For everything else. Never rejects. */
  receive(request: RawRequest): Promise<ReceiverAnswer>
}

type DataOf<DataByType, Type> = Type extends keyof DataByType ? DataByType[Type] : unknown

/** `DataByType` says what the `data` of each event type is: `{ 'order.paid': { total: number } }`. */
export interface WebhookReceiver<DataByType extends object = object> extends RequestReceiver {
  /**
   * Exact types, `message.*`, or `*`. All that fit are run, one after another, in the order they were
   * added; one that throws or rejects has the event sent again.
   */
  on<Type extends KnownWebhookEventType | (keyof DataByType & string) | '*' | (string & {})>(
    type: Type,
    handler: (event: WebhookEventBody<DataOf<DataByType, Type>>) => unknown,
  ): WebhookReceiver<DataByType>
}

/**
 * @throws WebhookVerificationError SECRET_MISSING when no option names a secret, SECRET_INVALID,
 *   ALGORITHM_UNSUPPORTED, OPTION_INVALID; one that is named and not set shows at the first request,
 *   because a build may load this module without its environment
 * @example
 * const receiver = createReceiver({ secret: process.env.WEBHOOK_SECRET, seen: seenInMemory() })
 *   .on('message.delivered', (event) => save(event.data))
 */
export function createReceiver<DataByType extends object = object>(
  options: ReceiverOptions,
): WebhookReceiver<DataByType> {
  if (!('secret' in options || 'secrets' in options || 'publicKey' in options)) {
    throw secretMissing()
  }
  const rules = rulesOf(options)
  const { maxBodyBytes } = rules
  const handlers: Handlers = []
  const handleOnce = onceHandler(handlers, options)

  const receive = async (request: Request | RawRequest): Promise<ReceiverAnswer> => {
    try {
      return await handleAll(await believe(request, rules), handleOnce)
    } catch (error) {
      const refused = refusal(error)
      tell(refused ? options.onRefused : (options.onError ?? printError), error)
      return refused ?? failed
    }
  }

  const receiver: WebhookReceiver<DataByType> = {
    maxBodyBytes,
    on(type, handler) {
      handlers.push([type, handler])
      return receiver
    },
    receive,
    handle: async (request) => toResponse(await receive(request)),
  }
  return receiver
}

type Handlers = [type: string, handler: (event: WebhookEventBody<never>) => unknown][]
type HandleOnce = (event: WebhookEventBody, key: string | null) => Promise<ReceiverAnswer | null>

/** One bad event of a batch keeps none of the others waiting; the batch is repeated for it. */
async function handleAll(
  { content, id }: Verified,
  handleOnce: HandleOnce,
): Promise<ReceiverAnswer> {
  const isBatch = Array.isArray(content)
  const list = (isBatch ? content : [content]) as WebhookEventBody[]
  if (list.some((event) => typeof event?.type !== 'string')) {
    throw expected('EVENT_INVALID', 'events to be objects with a `type`')
  }
  let worst: ReceiverAnswer | null = null
  for (const [index, event] of list.entries()) {
    // The id in the headers is the event's own, or the batch's. Senders other than ours may have an
    // `id` in the body that is no event's, and none in the members of a batch.
    const own = typeof event.id === 'string' ? event.id : null
    const key = isBatch ? (own ?? (id && `${id}/${index}`)) : (id ?? own)
    const answer = await handleOnce(event, key)
    if (severity(answer) > severity(worst)) worst = answer
  }
  return worst ?? handled(list.length)
}

/** @returns what answers null when an event is handled, now or before */
function onceHandler(
  handlers: Handlers,
  { seen, unhandled: wish, onError = printError }: ReceiverOptions,
): HandleOnce {
  return async (event, key) => {
    const wanted = handlers.filter(([type]) => fits(type, event.type))
    if (!wanted.length) return wish === 'refuse' && event.type !== 'webhook.test' ? unhandled : null
    const report = (problem: unknown) => tell(onError, problem, event)
    let claim: SeenClaim | undefined
    try {
      const begun = key === null ? undefined : await seen?.begin(key)
      if (begun === 'done') return null
      // Not a 4xx: that would end the delivery, and the one that handles it may still fail.
      if (begun === 'busy') return busy
      claim = begun
      for (const [, handler] of wanted) await handler(event as WebhookEventBody<never>)
    } catch (error) {
      report(error)
      // One that cannot be given back now runs out by itself.
      await claim?.failed().catch(report)
      return failed
    }
    // It is handled. Having it sent again because that could not be noted would handle it twice.
    await claim?.done().catch(report)
    return null
  }
}

/** Trying again helps after 503 and 500 only, and a failure has to be heard of. */
function severity(answer: ReceiverAnswer | null): number {
  return [400, 503, 500].indexOf(answer?.status ?? 200) + 1
}

function fits(type: string, eventType: string): boolean {
  if (type === '*' || type === eventType) return true
  return type.endsWith('.*') && eventType.startsWith(type.slice(0, -1))
}

/** Whoever is told of an error has no say in the answer, nor in when it is given. */
function tell(
  // biome-ignore lint/suspicious/noExplicitAny: the caller knows what it caught
  listener: ((error: any, event?: WebhookEventBody) => unknown) | undefined,
  error: unknown,
  event?: WebhookEventBody,
): void {
  const told = async () => listener?.(error, event)
  // What it throws, now or later, ends here: a rejection that nobody takes ends the process.
  told().catch(() => {})
}

/** A failure that nobody hears of is worse than a line on the console. */
function printError(error: unknown, event?: WebhookEventBody): void {
  const what = event ? `${event.type} ${event.id}` : 'a request'
  // biome-ignore lint/suspicious/noConsole: the one place to write to that every runtime has
  console.error(`Webhook receiver: ${what} not handled:`, error)
}
