import { type WebhookEvent, WebhookEventType } from '@k-msg/webhook'
import type { Inbox } from '@k-msg/webhook/testing'
import { expect } from 'vitest'

export const event1: WebhookEvent = {
  id: 'evt_1',
  type: WebhookEventType.MESSAGE_SENT,
  timestamp: new Date(),
  data: { messageId: 'msg_1' },
}

export function check({ inbox }: { inbox: Inbox }): void {
  expect(inbox.received.map((request) => request.signature)).toEqual(['valid', 'valid', 'valid'])
}
