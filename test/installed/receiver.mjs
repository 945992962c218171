// A receiver on whatever runtime serves the `fetch` of this module: Bun, Deno, Workers, and Node
// through `receiver-on-node.mjs`. Web-standard only; `/self-check` runs the published vectors inside.
import {
  createReceiver,
  seenInMemory,
  verify,
  WebhookVerificationError,
} from '@k-msg/webhook/receiver'

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const publicKey = 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4='
const handled = []

export const receiver = createReceiver({ secret, publicKey, seen: seenInMemory() }).on(
  'message.*',
  (event) => {
    handled.push(event.id)
  },
)

/** Answers what is not a webhook. */
export async function ask(pathname) {
  if (pathname === '/handled') return handled
  return pathname === '/self-check' ? selfCheck() : null
}

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url)
    const answer = await ask(pathname)
    return answer === null ? receiver.handle(request) : Response.json(answer)
  },
}

const vector = {
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: '1614265330',
  body: '{"test": 2432232314}',
  v1: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  v1a: 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
}
const seed = {
  secret: 'your-endpoint-secret',
  body: '{"id":"evt_123","type":"message.sent"}',
  timestamp: '1767225600',
  'body scheme': 'fcdf3bc54834283e48f38cbe2b9d9038ece4a9be4462049730a645a5babea1dd',
  'timestamped scheme': '84ce1b59b9c430126b8c48305c6141439216c4a1200c79e3f7d002fc9bbb0835',
}

async function selfCheck() {
  const { v1, v1a } = vector
  const outcomes = {
    'v1 vector': [await standard(v1, { secret }), 'ok'],
    'v1a vector': [await standard(v1a, { publicKey }), 'ok'],
    'both, either key': [await standard(`${v1} ${v1a}`, { publicKey }), 'ok'],
    'v1 with the wrong secret': [
      await standard(v1, { secret: 'another one' }),
      'SIGNATURE_INVALID',
    ],
    'v1 without a secret': [await standard(v1, { publicKey }), 'SIGNATURE_INVALID'],
    'v1a without a public key': [await standard(v1a, { secret }), 'SIGNATURE_INVALID'],
    'v1a of a changed body': [
      await standard(v1a, { publicKey }, { body: '{}' }),
      'SIGNATURE_INVALID',
    ],
    'v1 of a changed id': [await standard(v1, { secret }, { id: 'msg_2' }), 'SIGNATURE_INVALID'],
    'too old': [await standard(v1, { secret }, {}, 301), 'TIMESTAMP_TOO_OLD'],
    'too new': [await standard(v1, { secret }, {}, -301), 'TIMESTAMP_TOO_NEW'],
    seed: [await plain('body scheme', 'body'), 'ok'],
    '0.30': [await plain('timestamped scheme', 'timestamped-body'), 'ok'],
    'one for the other': [await plain('body scheme', 'timestamped-body'), 'SIGNATURE_INVALID'],
  }
  const failed = Object.entries(outcomes).flatMap(([name, [got, wanted]]) =>
    got === wanted ? [] : [`${name}: ${got}`],
  )
  return { passed: Object.keys(outcomes).length - failed.length, failed }
}

function standard(signature, keys, changes = {}, skewSeconds = 0) {
  const { id, timestamp, body } = { ...vector, ...changes }
  const headers = {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signature,
  }
  const nowMs = () => (Number(timestamp) + skewSeconds) * 1_000
  // As a fetch Request, whose headers and body each runtime makes its own way.
  const request = new Request('https://a.example/', { method: 'POST', headers, body })
  return outcomeOf(verify(request, { ...keys, nowMs }))
}

function plain(signature, scheme) {
  const headers = {
    'x-webhook-timestamp': seed.timestamp,
    'x-webhook-signature': `sha256=${seed[signature]}`,
  }
  const nowMs = () => Number(seed.timestamp) * 1_000
  const options = { secret: seed.secret, schemes: [scheme], nowMs }
  return outcomeOf(verify({ headers, body: seed.body }, options))
}

async function outcomeOf(verifying) {
  try {
    await verifying
    return 'ok'
  } catch (error) {
    return error instanceof WebhookVerificationError ? error.code : String(error)
  }
}
