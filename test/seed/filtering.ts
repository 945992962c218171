// Seed README: 고급 기능, 이벤트 필터링.
import { WebhookEventType } from '@k-msg/webhook-system'

const endpoint = {
  id: 'filtered-endpoint',
  url: 'https://app.com/webhooks',
  events: [WebhookEventType.MESSAGE_SENT],
  filters: {
    providerId: ['iwinv'], // IWINV 프로바이더만
    channelId: ['channel-marketing'], // 마케팅 채널만
    templateId: ['welcome-template'], // 환영 템플릿만
  },
  // ... 기타 설정
}

export { endpoint }
