/** One event of each of the 20 types, with invented data: what a message platform would tell. */
import { randomBytes } from 'node:crypto'
import {
  type KnownWebhookEventType,
  type WebhookEvent,
  type WebhookEventMetadata,
  WebhookEventType,
} from '../index.ts'

interface Sample {
  readonly data: Readonly<Record<string, unknown>>
  readonly metadata: WebhookEventMetadata
}

/** The filtered endpoint of the demo wants what comes from here. */
export const wantedProvider = 'iwinv'
const otherProvider = 'demo-telecom'

const shop = { providerId: wantedProvider, channelId: 'ch_haneul_shop' }
const clinic = { providerId: otherProvider, channelId: 'ch_badang_clinic' }
const order = { ...shop, templateId: 'tmpl_order_placed' }
const visit = { ...clinic, templateId: 'tmpl_visit_reminder' }

const samples: Readonly<Record<KnownWebhookEventType, Sample>> = {
  'message.sent': {
    data: { messageId: 'msg_1001', to: '0100000****', text: '[하늘상점] 주문이 접수되었습니다.' },
    metadata: { ...order, messageId: 'msg_1001' },
  },
  'message.delivered': {
    data: { messageId: 'msg_1001', to: '0100000****', via: 'alimtalk', elapsedMs: 1_840 },
    metadata: { ...order, messageId: 'msg_1001' },
  },
  'message.failed': {
    data: { messageId: 'msg_1002', code: 'E3015', reason: '수신 거부된 번호입니다.' },
    metadata: { ...visit, messageId: 'msg_1002' },
  },
  'message.clicked': {
    data: { messageId: 'msg_1001', button: '배송 조회', url: 'https://shop.example/orders/7' },
    metadata: { ...order, messageId: 'msg_1001' },
  },
  'message.read': {
    data: { messageId: 'msg_1001', readAfterMs: 42_000 },
    metadata: { ...order, messageId: 'msg_1001' },
  },
  'template.created': {
    data: { templateId: 'tmpl_visit_reminder', name: '내원 안내', status: 'requested' },
    metadata: visit,
  },
  'template.approved': {
    data: { templateId: 'tmpl_order_placed', name: '주문 접수', reviewer: '카카오' },
    metadata: order,
  },
  'template.rejected': {
    data: { templateId: 'tmpl_spring_sale', reason: '광고성 문구가 포함되어 있습니다.' },
    metadata: { ...shop, templateId: 'tmpl_spring_sale' },
  },
  'template.updated': {
    data: { templateId: 'tmpl_visit_reminder', changed: ['content'], revision: 3 },
    metadata: visit,
  },
  'template.deleted': {
    data: { templateId: 'tmpl_old_notice', by: '김하늘' },
    metadata: { ...shop, templateId: 'tmpl_old_notice' },
  },
  'channel.created': {
    data: { channelId: 'ch_badang_clinic', name: '바당의원', type: 'alimtalk' },
    metadata: clinic,
  },
  'channel.verified': {
    data: { channelId: 'ch_haneul_shop', name: '하늘상점', verifiedBy: 'business-licence' },
    metadata: shop,
  },
  'sender_number.added': {
    data: { number: '0200000****', label: '고객센터' },
    metadata: shop,
  },
  'sender_number.verified': {
    data: { number: '0200000****', method: 'ars', label: '고객센터' },
    metadata: shop,
  },
  'system.quota_warning': {
    data: { used: 8_120, limit: 10_000, period: '2026-01', percent: 81.2 },
    metadata: shop,
  },
  'system.quota_exceeded': {
    data: { used: 10_000, limit: 10_000, period: '2026-01', blocked: true },
    metadata: clinic,
  },
  'system.provider_error': {
    data: { code: 'TIMEOUT', message: '이동통신사 응답이 늦어지고 있습니다.', since: '09:12' },
    metadata: clinic,
  },
  'system.maintenance': {
    data: { title: '정기 점검', from: '2026-01-31T18:00:00Z', to: '2026-01-31T20:00:00Z' },
    metadata: shop,
  },
  'analytics.anomaly_detected': {
    data: { metric: 'failure_rate', value: 12.4, usual: 1.1, window: 'PT5M' },
    metadata: visit,
  },
  'analytics.threshold_exceeded': {
    data: { metric: 'sent_per_minute', value: 5_230, threshold: 5_000 },
    metadata: order,
  },
}

/** New ids every time: the same ones again would be duplicates, and nothing would be sent. */
export function demoEvents(now: Date): WebhookEvent[] {
  const run = randomBytes(3).toString('hex')
  return Object.values(WebhookEventType).map((type, index) => ({
    id: `demo_${run}_${String(index + 1).padStart(2, '0')}`,
    type,
    timestamp: now,
    data: samples[type].data,
    metadata: samples[type].metadata,
    version: '1.0',
  }))
}
