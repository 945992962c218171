import { SecurityManager } from '@k-msg/webhook'
import { expect } from 'vitest'

process.env.WEBHOOK_SECRET = 'your-endpoint-secret'
export const rawBody = '{"id":"evt_123","type":"message.sent"}'
export const request = {
  headers: {
    'x-webhook-signature': new SecurityManager().generateSignature(rawBody, 'your-endpoint-secret'),
    'x-webhook-timestamp': String(Math.floor(Date.now() / 1000)),
  },
}

export function check({ signatureFits, isRecent }: Record<string, unknown>): void {
  expect({ signatureFits, isRecent }).toEqual({ signatureFits: true, isRecent: true })
}
