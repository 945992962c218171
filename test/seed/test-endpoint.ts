// Seed README: 고급 기능, 엔드포인트 테스트. Added: the service of the quick start.
import { webhookService } from './quick-start.ts'

const testResult = await webhookService.testEndpoint('endpoint-1')

if (testResult.success) {
  console.log(`✅ Endpoint is healthy (${testResult.responseTime}ms)`)
} else {
  console.log(`❌ Endpoint failed: ${testResult.error}`)
}

export { testResult }
