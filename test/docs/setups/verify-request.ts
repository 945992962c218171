import { expect } from 'vitest'
import { signed } from '../receivers.ts'

export const request: Request = new Request('https://your-app.com/webhooks', signed)
export const { headers, body: rawBody } = signed
export const oldSecret: string | undefined = undefined
export const newSecret: string | undefined = process.env.WEBHOOK_SECRET

export function check({ event, events }: Record<string, unknown>): void {
  expect(event).toMatchObject({ id: 'evt_123', type: 'message.delivered' })
  expect(events).toEqual([event])
}
