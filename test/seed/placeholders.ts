// The names the seed README uses and never declares.
import { type WebhookEvent, WebhookEventType } from '@k-msg/webhook-system'

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
    version: '1.0',
  }
}
