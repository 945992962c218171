// Seed README: 빠른 시작, 1–3. Added: the import of its placeholders.
// biome-ignore-all assist/source/organizeImports: the seed's own order
import {
  WebhookService,
  WebhookRegistry,
  WebhookDispatcher,
  SecurityManager,
  RetryManager,
  WebhookEventType,
} from '@k-msg/webhook-system'
import { event1, event2, event3 } from './placeholders.ts'

// 웹훅 시스템 초기화
const registry = new WebhookRegistry()
const securityManager = new SecurityManager()
const retryManager = new RetryManager()
const dispatcher = new WebhookDispatcher(registry, securityManager, retryManager)

const webhookService = new WebhookService({
  maxRetries: 3,
  retryDelayMs: 1000,
  timeoutMs: 30000,
  enableSecurity: true,
  secretKey: 'your-webhook-secret',
  enabledEvents: [
    WebhookEventType.MESSAGE_SENT,
    WebhookEventType.MESSAGE_DELIVERED,
    WebhookEventType.TEMPLATE_APPROVED,
  ],
  batchSize: 10,
  batchTimeoutMs: 5000,
})

const endpoint = {
  id: 'endpoint-1',
  url: 'https://your-app.com/webhooks',
  name: 'My App Webhook',
  description: 'Receives message events',
  active: true,
  events: [
    WebhookEventType.MESSAGE_SENT,
    WebhookEventType.MESSAGE_DELIVERED,
    WebhookEventType.MESSAGE_FAILED,
  ],
  secret: 'your-endpoint-secret',
  retryConfig: {
    maxRetries: 5,
    retryDelayMs: 2000,
    backoffMultiplier: 2,
  },
  filters: {
    providerId: ['iwinv', 'aligo'],
    channelId: ['channel-1'],
  },
  createdAt: new Date(),
  updatedAt: new Date(),
  status: 'active' as const,
}

await webhookService.registerEndpoint(endpoint)

// 단일 이벤트 발송
const event = {
  id: 'evt_123',
  type: WebhookEventType.MESSAGE_SENT,
  timestamp: new Date(),
  data: {
    messageId: 'msg_456',
    templateId: 'tmpl_789',
    phoneNumber: '01012345678',
    status: 'sent',
  },
  metadata: {
    providerId: 'iwinv',
    channelId: 'channel-1',
    templateId: 'tmpl_789',
    messageId: 'msg_456',
    correlationId: 'req_abc',
  },
  version: '1.0',
}

await webhookService.dispatchEvent(event)

// 배치 이벤트 발송
const events = [event1, event2, event3]
await webhookService.dispatchEvents(events)

export { dispatcher, registry, retryManager, securityManager, webhookService }
