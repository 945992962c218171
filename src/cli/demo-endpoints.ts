/**
 * The four endpoints of the demonstration and the inbox that plays their receivers: one healthy,
 * one that fails twice per event, one with a filter, one that gets batches.
 */
import type { WebhookEndpointInput } from '../index.ts'
import {
  createInbox,
  type Inbox,
  type ReceivedRequest,
  type SignatureVerdict,
} from '../testing/index.ts'
import { wantedProvider } from './demo-events.ts'
import { UsageError } from './failure.ts'

export interface DemoEndpoint extends Omit<WebhookEndpointInput, 'url'> {
  readonly id: string
  readonly description: string
}

const batch = { size: 10, timeoutMs: 1_000 }

export const demoEndpoints: readonly DemoEndpoint[] = [
  { id: 'healthy', events: ['*'], description: 'every event; answers 200' },
  {
    id: 'flaky',
    events: ['*'],
    description: 'every event; answers 503 to the first two attempts of each, then 200',
  },
  {
    id: 'filtered',
    events: ['*'],
    filters: { providerId: [wantedProvider] },
    description: `only events whose metadata.providerId is "${wantedProvider}"`,
  },
  {
    id: 'batched',
    events: ['*'],
    batch,
    description: `up to ${batch.size} events in one request, at the latest after ${batch.timeoutMs / 1_000} s`,
  },
]

const failuresOfFlaky = 2
/** Where the inbox listens unless told otherwise: always the same, so that what an earlier run left finds it. */
const usualPort = 4_010

export interface DemoInbox {
  readonly inbox: Inbox
  /** What the inbox thought of the signature of that attempt; asked once. */
  verdict(deliveryId: string, attempt: number): SignatureVerdict | null
}

/** @param port a free one when omitted and the usual one is taken */
export async function openDemoInbox(secret: string, port: number | undefined): Promise<DemoInbox> {
  const verdicts = new Map<string, SignatureVerdict>()
  const answer = (request: ReceivedRequest): { status: number } => {
    const { headers, signature, path } = request
    const attempt = Number(headers['x-webhook-attempt'])
    verdicts.set(`${headers['x-webhook-delivery']} ${attempt}`, signature)
    if (signature !== 'valid') return { status: 401 }
    return { status: path === '/flaky' && attempt <= failuresOfFlaky ? 503 : 200 }
  }
  return {
    inbox: await listen({ secret, answer, keep: 0 }, port),
    verdict: (deliveryId, attempt) => {
      const key = `${deliveryId} ${attempt}`
      const verdict = verdicts.get(key) ?? null
      verdicts.delete(key)
      return verdict
    },
  }
}

async function listen(
  options: Parameters<typeof createInbox>[0],
  port: number | undefined,
): Promise<Inbox> {
  try {
    return await createInbox({ ...options, port: port ?? usualPort })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (port === undefined) return await createInbox(options)
    throw new UsageError(
      code === 'EADDRINUSE'
        ? `Expected port ${port} to be free, but another program listens there; choose another with --port, or leave it out.`
        : `Expected to listen on port ${port}: ${message}; choose another with --port, or leave it out.`,
    )
  }
}
