import { type WebhookEvent, WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { pgTable, text } from 'drizzle-orm/pg-core'

export declare const db: NodePgDatabase
export const orders = pgTable('orders', { id: text('id').primaryKey() })
export const webhookService = new WebhookService({ storage: postgres('postgres://db/app') })
export const event1: WebhookEvent = {
  id: 'evt_1',
  type: 'message.sent',
  timestamp: new Date(),
  data: { messageId: 'msg_1' },
}
