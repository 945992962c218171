/**
 * Proves, before anything is sent, that the HTTP client asks our connector for its connections. A
 * runtime or a bundler can put another client under undici's name (Bun answers `import 'undici'`
 * itself); one that opens its own sockets would send unguarded, and nothing would look wrong.
 */
import { WebhookError } from '../model/errors.ts'
import { Client, type ClientOptions } from './undici.ts'

/**
 * The limited broadcast address: no system opens a TCP connection to it, so that even a client that
 * ignores the connector sends no packet.
 */
const nowhere = 'http://255.255.255.255:9'

/** The part of a client that is needed to see whom it asks. */
export interface CheckedClient {
  dispatch(
    request: { method: 'POST'; path: string; body: string },
    handler: Record<string, unknown>,
  ): unknown
  destroy(error: Error | null, callback: () => void): void
}

export type CreateClient = (origin: string, options: ClientOptions) => CheckedClient

export const createClient: CreateClient = (origin, options) =>
  new Client(origin, options) as unknown as CheckedClient

/** @throws WebhookError GUARD_BYPASSED */
export async function checkConnectorIsCalled(
  create: CreateClient = createClient,
  limitMs = 1_000,
): Promise<void> {
  if (await connectorIsCalled(create, limitMs)) return
  throw new WebhookError(
    'GUARD_BYPASSED',
    'Expected the HTTP client to open its connections through the address guard, got one that opens its own: another module answers for `undici`. Nothing is sent without the guard. Let `undici/index.js` lead to the npm package undici 7, unaliased.',
  )
}

function connectorIsCalled(create: CreateClient, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    let client: CheckedClient | null = null
    const end = (called: boolean): void => {
      clearTimeout(timer)
      resolve(called)
      // Not inside a callback of the client: it may still be about to use itself.
      setImmediate(() => client?.destroy(null, () => {}))
    }
    const timer = setTimeout(() => end(false), limitMs)
    const failed = (): void => end(false)
    try {
      client = create(nowhere, {
        connect: (_, callback) => {
          end(true)
          callback(new Error('refused: a check'), null)
        },
      })
      client.dispatch(
        { method: 'POST', path: '/', body: '' },
        // Ended without having asked us: by an answer, or by an error of a socket of its own.
        {
          onConnect() {},
          onHeaders: () => true,
          onData: () => true,
          onComplete: failed,
          onError: failed,
        },
      )
    } catch {
      end(false)
    }
  })
}
