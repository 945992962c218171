/** What a receiver can check with node:crypto and the key it holds, and nothing of ours. */
import { createHmac, createPublicKey, verify } from 'node:crypto'
import type { ReceivedRequest } from '@k-msg/webhook/testing'

type Signed = Pick<ReceivedRequest, 'headers' | 'body'>

/** Whether one of the signatures in `webhook-signature` is made with this secret or public key. */
export function verifies(request: Signed | undefined, key: string): boolean {
  const { headers = {}, body = '' } = request ?? {}
  const message = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
  const values = headers['webhook-signature']?.split(' ') ?? []
  if (!key.startsWith('whpk_')) {
    return values.includes(
      `v1,${createHmac('sha256', bytesOf(key)).update(message).digest('base64')}`,
    )
  }
  const x = Buffer.from(key.slice(5), 'base64').toString('base64url')
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
  return values
    .filter((one) => one.startsWith('v1a,'))
    .some((one) =>
      verify(null, Buffer.from(message), publicKey, Buffer.from(one.slice(4), 'base64')),
    )
}

/** Hexadecimal HMAC of the body under a secret. */
export function bodyMac(body: string, secret: string, algorithm = 'sha256'): string {
  return createHmac(algorithm, bytesOf(secret)).update(body).digest('hex')
}

function bytesOf(secret: string): Buffer {
  return secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret)
}
