/** Requests as a sender makes them, signed with `node:crypto` alone: no code of ours is asked twice. */
import { createHmac, createPrivateKey, sign } from 'node:crypto'

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
export const nowMs = 1_767_225_600_000
export const nowSeconds = String(nowMs / 1_000)

/** From the published vectors: seed and public half of an ed25519 key. */
export const privateKey =
  'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=='
export const publicKey = 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4='

export interface Signed {
  headers: Record<string, string>
  body: string
}

interface Parts {
  id?: string
  timestamp?: string
  body?: string
  key?: string
}

export const eventBody = JSON.stringify({
  id: 'evt_1',
  type: 'message.delivered',
  timestamp: '2026-01-01T00:00:00.000Z',
  data: { text: '안녕하세요 \u{1F44B}', price: 1.5 },
  metadata: {},
  version: '1.0',
})

/** Signed by Standard Webhooks, v1. */
export function signed(parts: Parts = {}): Signed {
  const { id = 'evt_1', timestamp = nowSeconds, body = eventBody, key = secret } = parts
  return {
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${hmac(key, `${id}.${timestamp}.${body}`, 'base64')}`,
    },
    body,
  }
}

/** Signed by Standard Webhooks, v1a. */
export function signedAsymmetrically(parts: Parts = {}): Signed {
  const { id = 'evt_1', timestamp = nowSeconds, body = eventBody } = parts
  const request = signed({ id, timestamp, body })
  request.headers['webhook-signature'] = `v1a,${ed25519(`${id}.${timestamp}.${body}`)}`
  return request
}

/** Signed by the seed's scheme (`body`), or by that of 0.30 (`timestamped-body`). */
export function signedPlainly(scheme: 'body' | 'timestamped-body', parts: Parts = {}): Signed {
  const { timestamp = nowSeconds, body = eventBody, key = secret } = parts
  const bytes = scheme === 'body' ? body : `${timestamp}.${body}`
  return {
    headers: {
      'x-webhook-timestamp': timestamp,
      'x-webhook-signature': `sha256=${hmac(key, bytes, 'hex')}`,
    },
    body,
  }
}

export function hmac(key: string, text: string, encoding: 'base64' | 'hex'): string {
  const bytes = key.startsWith('whsec_') ? Buffer.from(key.slice(6), 'base64') : Buffer.from(key)
  return createHmac('sha256', bytes).update(text).digest(encoding)
}

function ed25519(text: string): string {
  const bytes = Buffer.from(privateKey.slice('whsk_'.length), 'base64')
  const key = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'OKP',
      crv: 'Ed25519',
      d: bytes.subarray(0, 32).toString('base64url'),
      x: bytes.subarray(32).toString('base64url'),
    },
  })
  return sign(null, Buffer.from(text), key).toString('base64')
}
