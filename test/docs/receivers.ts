/** Two requests for the receivers that documents show: one of ours, and one with a changed body. */
import { SecurityManager } from '@k-msg/webhook'

const secret = 'your-endpoint-secret'
const body = '{"id":"evt_123","type":"message.sent","data":{"price":1.0}}'

process.env.WEBHOOK_SECRET = secret

export const signed = post(body)
export const forged = post(body.replace('evt_123', 'evt_124'))

function post(sent: string): RequestInit {
  return {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-webhook-signature': new SecurityManager().generateSignature(body, secret),
    },
    body: sent,
  }
}
