import { type WebhookEvent, WebhookEventType, WebhookService } from '@k-msg/webhook'

export const webhookService = new WebhookService({ retryScheduleMs: 'standard' })
await webhookService.registerEndpoint({
  id: 'endpoint-1',
  url: 'https://your-app.com/webhooks',
  events: ['*'],
  secret: 'your-endpoint-secret',
})

export const event1: WebhookEvent = {
  id: 'evt_1',
  type: WebhookEventType.MESSAGE_SENT,
  timestamp: new Date(),
  data: { messageId: 'msg_1' },
}
