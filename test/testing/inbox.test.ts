// What the inbox says of a signature, of requests the real service sends in each scheme.
import { expect, test } from 'vitest'
import {
  memory,
  type WebhookConfig,
  type WebhookEndpointInput,
  WebhookService,
} from '../../src/index.ts'
import { createInbox } from '../../src/testing/index.ts'

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

interface Case {
  readonly config?: WebhookConfig
  readonly endpoint?: Partial<WebhookEndpointInput>
  /** What the inbox is given; the public key where it is null. */
  readonly known: string | null
}

async function verdictOf({ config, endpoint, known }: Case): Promise<string | undefined> {
  await using inbox = await createInbox()
  await using service = new WebhookService({
    storage: memory(),
    allowedNetworks: ['127.0.0.0/8'],
    logger: false,
    ...config,
  })
  const { publicKey } = await service.registerEndpoint({
    id: 'one',
    url: `${inbox.url}/hook`,
    events: ['*'],
    ...endpoint,
  })
  inbox.setSecret('/hook', known ?? publicKey ?? '')
  const data = { text: '안녕' }
  await service.dispatchEvent({ id: 'e1', type: 'message.sent', timestamp: new Date(), data })
  await service.drain()
  return inbox.received[0]?.signature
}

const other = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'
const timestamped = { signature: { schemes: ['standard', 'timestamped-body'] } } as const
const sha512 = { signature: { algorithm: 'sha512' } } as const

test.each<[string, string, Case]>([
  ['both default schemes', 'valid', { endpoint: { secret }, known: secret }],
  ['another secret', 'invalid', { endpoint: { secret }, known: other }],
  ['timestamp and body', 'valid', { config: timestamped, endpoint: { secret }, known: secret }],
  [
    'the same, another secret',
    'invalid',
    { config: timestamped, endpoint: { secret }, known: other },
  ],
  ['SHA-512', 'valid', { config: sha512, endpoint: { secret }, known: secret }],
  ['Ed25519', 'valid', { endpoint: { secretType: 'ed25519' }, known: null }],
  [
    'another public key',
    'invalid',
    {
      endpoint: { secretType: 'ed25519' },
      known: 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=',
    },
  ],
  [
    'a secret where a public key is needed',
    'invalid',
    { endpoint: { secretType: 'ed25519' }, known: secret },
  ],
  ['no signature', 'unsigned', { config: { enableSecurity: false }, known: secret }],
])('the inbox judges %s: %s', async (_name, verdict, story) => {
  expect(await verdictOf(story)).toBe(verdict)
})
