// Seed README: 모니터링 및 통계, 웹훅 통계 조회. Added: the service of the quick start.
import { webhookService } from './quick-start.ts'

// 전체 통계
const stats = await webhookService.getStats()
console.log(stats)
// {
//   totalEndpoints: 5,
//   activeEndpoints: 4,
//   totalDeliveries: 1250,
//   successfulDeliveries: 1180,
//   failedDeliveries: 70,
//   averageLatency: 245,
//   successRate: 94.4
// }

// 특정 엔드포인트 통계
const endpointStats = await webhookService.getEndpointStats('endpoint-1', {
  start: new Date('2024-01-01'),
  end: new Date('2024-01-31'),
})

export { endpointStats, stats }
