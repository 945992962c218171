// @ts-check
import { WebhookService } from '@k-msg/webhook'
import { fromKysely, postgres } from '@k-msg/webhook/postgres'
import { createInbox } from '@k-msg/webhook/testing'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { openDatabase } from './database.js'

/** @typedef {{ id: string, amount: number }} Order */

const database = await openDatabase()
/** @type {Kysely<{ kmsg_example_orders: Order }>} */
const db = new Kysely({
  dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: database.url }) }),
})
await db.schema.dropTable('kmsg_example_orders').ifExists().execute()
await db.schema
  .createTable('kmsg_example_orders')
  .addColumn('id', 'text', (column) => column.primaryKey())
  .addColumn('amount', 'integer', (column) => column.notNull())
  .execute()

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

/** @param {Order} order */
async function placeOrder(order) {
  await db.transaction().execute(async (trx) => {
    await trx.insertInto('kmsg_example_orders').values(order).execute()
    await webhooks.dispatchEvent(
      { id: crypto.randomUUID(), type: 'order.placed', timestamp: new Date(), data: order },
      { transaction: fromKysely(trx) },
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
const orders = await db.selectFrom('kmsg_example_orders').selectAll().execute()
for (const { id, amount } of orders) console.log('order', id, amount)
for (const { type, data } of inbox.events) console.log('received', type, JSON.stringify(data))

await webhooks.close()
await inbox.close()
await db.destroy()
await database.stop()
