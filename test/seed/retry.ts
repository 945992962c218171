// Seed README: 재시도 정책, 설정.
import { RetryManager } from '@k-msg/webhook-system'

const retryManager = new RetryManager({
  maxRetries: 3,
  baseDelayMs: 1000,
  maxDelayMs: 300000, // 5분
  backoffMultiplier: 2,
  jitter: true,
})

export { retryManager }
