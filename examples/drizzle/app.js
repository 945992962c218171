// @ts-check
import { WebhookService } from '@k-msg/webhook'
import { fromDrizzle, postgres } from '@k-msg/webhook/postgres'
import { createInbox } from '@k-msg/webhook/testing'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { openDatabase } from './database.js'

const orders = pgTable('kmsg_example_orders', {
  id: text('id').primaryKey(),
  amount: integer('amount').notNull(),
})

const database = await openDatabase()
const pool = new pg.Pool({ connectionString: database.url })
const db = drizzle(pool)
await db.execute(sql`drop table if exists ${orders}`)
await db.execute(sql`create table ${orders} (id text primary key, amount integer not null)`)

// Stands for the endpoint of a subscriber.
const inbox = await createInbox({ secret: 'a-secret-of-my-endpoint' })
const webhooks = new WebhookService({
  storage: postgres(database.url, { schema: 'kmsg_example' }),
  allowedNetworks: ['127.0.0.0/8'],
  retryScheduleMs: 'standard',
  // Says that secrets are stored in the clear, which is fine here.
  logger: false,
})
await webhooks.registerEndpoint({
  id: 'subscriber',
  url: inbox.url,
  events: ['order.placed'],
  secret: 'a-secret-of-my-endpoint',
})

/** @param {{ id: string, amount: number }} order */
async function placeOrder(order) {
  await db.transaction(async (tx) => {
    await tx.insert(orders).values(order)
    await webhooks.dispatchEvent(
      { id: crypto.randomUUID(), type: 'order.placed', timestamp: new Date(), data: order },
      { transaction: fromDrizzle(tx, sql) },
    )
    if (order.amount > 1_000) throw new Error('too much')
  })
}

await placeOrder({ id: 'a-1', amount: 5_000 }).catch((error) => {
  console.log('rolled back', 'a-1:', error.message)
})
await placeOrder({ id: 'a-2', amount: 300 })
await inbox.waitForCount(1)
await webhooks.drain()
for (const { id, amount } of await db.select().from(orders)) console.log('order', id, amount)
for (const { type, data } of inbox.events) console.log('received', type, JSON.stringify(data))

await webhooks.close()
await inbox.close()
await pool.end()
await database.stop()
