// Seed README: 고급 기능, 배치 처리. Added: the import of its placeholders.
import { WebhookService } from '@k-msg/webhook-system'
import { event1, event2 } from './placeholders.ts'

const webhookService = new WebhookService({
  batchSize: 50,
  batchTimeoutMs: 10000, // 10초마다 또는 50개씩 배치 처리
  // ... 기타 설정
})

// 배치가 자동으로 처리됨
await webhookService.dispatchEvent(event1)
await webhookService.dispatchEvent(event2)

// ... 더 많은 이벤트

export { webhookService }
