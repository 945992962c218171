import { type WebhookEvent, WebhookEventType } from '@k-msg/webhook'
import { expect } from 'vitest'
import { received } from '../local.ts'

export const event1: WebhookEvent = eventOf('evt_1')
export const event2: WebhookEvent = eventOf('evt_2')
export const event3: WebhookEvent = eventOf('evt_3')

function eventOf(id: string): WebhookEvent {
  return {
    id,
    type: WebhookEventType.MESSAGE_SENT,
    timestamp: new Date(),
    data: { messageId: `msg_of_${id}` },
    metadata: { providerId: 'iwinv', channelId: 'channel-1' },
  }
}

export function check({
  receipt,
  lastDay,
  failedDeliveries,
  report,
}: Record<string, unknown>): void {
  expect(receipt).toMatchObject({ eventId: 'evt_123', duplicate: false })
  expect(lastDay).toMatchObject({ totalDeliveries: 4 })
  expect(failedDeliveries).toEqual([])
  expect(report).toMatchObject({ id: 'evt_123', deliveries: [{ endpointId: 'endpoint-1' }] })
  const bodies = received.map((request) => JSON.parse(request.body).id)
  expect(bodies.sort()).toEqual(['evt_1', 'evt_123', 'evt_2', 'evt_3'])
}
