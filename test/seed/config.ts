// Seed README: 설정 옵션, WebhookConfig and RetryConfig. Added: the import, and one value of each
// that a service and a retry manager have to accept.
import { RetryManager, WebhookEventType, WebhookService } from '@k-msg/webhook-system'

interface WebhookConfig {
  maxRetries: number // 최대 재시도 횟수 (기본: 3)
  retryDelayMs: number // 재시도 기본 지연시간 (기본: 1000ms)
  timeoutMs: number // 요청 타임아웃 (기본: 30000ms)
  enableSecurity: boolean // 보안 기능 활성화 (기본: true)
  secretKey?: string // 기본 시크릿 키
  enabledEvents: WebhookEventType[] // 활성화할 이벤트 타입들
  batchSize: number // 배치 크기 (기본: 10)
  batchTimeoutMs: number // 배치 타임아웃 (기본: 5000ms)
}

interface RetryConfig {
  maxRetries: number // 최대 재시도 횟수
  baseDelayMs: number // 기본 지연시간
  maxDelayMs: number // 최대 지연시간
  backoffMultiplier: number // 백오프 배수
  jitter: boolean // 지터 활성화 (랜덤성 추가)
}

const config: WebhookConfig = {
  maxRetries: 3,
  retryDelayMs: 1000,
  timeoutMs: 30000,
  enableSecurity: true,
  enabledEvents: Object.values(WebhookEventType),
  batchSize: 10,
  batchTimeoutMs: 5000,
}

const retryConfig: RetryConfig = {
  maxRetries: 3,
  baseDelayMs: 1000,
  maxDelayMs: 300000,
  backoffMultiplier: 2,
  jitter: true,
}

export const webhookService = new WebhookService(config)
export const retryManager = new RetryManager(retryConfig)
