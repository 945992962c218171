// Seed README: 모니터링 및 통계, 실패한 전송 조회. Added: the service of the quick start.
import { webhookService } from './quick-start.ts'

// 실패한 전송 내역
const failedDeliveries = await webhookService.getFailedDeliveries('endpoint-1')

failedDeliveries.forEach((delivery) => {
  console.log(`Delivery ${delivery.id} failed:`, delivery.attempts[0].error)
})

export { failedDeliveries }
