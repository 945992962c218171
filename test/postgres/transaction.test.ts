// An event in the transaction of the caller: with his rows, or not at all.
import { memory, WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

function event(id: string, data: object = { id }) {
  return { id, type: 'message.sent', timestamp: new Date(), data, metadata: { orderId: '한글' } }
}

describe('an event in the transaction of the caller', () => {
  let schema: TestSchema
  let inbox: Inbox
  let service: WebhookService
  let client: pg.Client

  beforeEach(async () => {
    schema = freshSchema()
    inbox = await createInbox({ secret: secretKey })
    service = new WebhookService({
      storage: postgres(schema.url, { schema: schema.name }),
      secretKey,
      allowedNetworks: ['127.0.0.0/8'],
      logger: false,
    })
    await service.ready()
    await service.registerEndpoint({ id: 'hook', url: `${inbox.url}/hook`, events: ['*'] })
    client = new pg.Client({ connectionString: schema.url })
    await client.connect()
    await client.query(`create table ${schema.name}.orders (id text primary key)`)
  })
  afterEach(async () => {
    await client.end()
    await service.close()
    await inbox.close()
    await schema.drop()
  })

  const rowsOf = (table: string) =>
    onServer(schema.url, async (other) => {
      const { rows } = await other.query(`select count(*)::int as n from ${schema.name}.${table}`)
      return rows[0].n as number
    })

  test('correctness R4: is there and sent once he has committed, and not before', async () => {
    await client.query('begin')
    await client.query(`insert into ${schema.name}.orders values ('o1')`)
    const receipt = await service.dispatchEvent(event('one'), { transaction: client })
    expect(receipt).toMatchObject({ eventId: 'one', duplicate: false, deliveryIds: [] })
    expect(await service.getEvent('one')).toBeNull()
    await client.query('commit')
    const request = await inbox.waitFor((one) => one.headers['webhook-id'] === 'one')
    expect(request.signature).toBe('valid')
    expect(request.events[0]?.metadata).toEqual({ orderId: '한글' })
    await service.drain()
    expect(await service.getEvent('one')).toMatchObject({ deliveries: [{ state: 'delivered' }] })
    expect(await rowsOf('intake')).toBe(0)
  })

  test('correctness R4: goes with his rows when he rolls back', async () => {
    await client.query('begin')
    await client.query(`insert into ${schema.name}.orders values ('o1')`)
    await service.dispatchEvent(event('never'), { transaction: client })
    await client.query('rollback')
    await client.query('begin')
    await service.dispatchEvent(event('after'), { transaction: client })
    await client.query('commit')
    await inbox.waitForCount(1)
    await service.drain()
    expect(inbox.received.map(({ headers }) => headers['webhook-id'])).toEqual(['after'])
    expect(await service.getEvent('never')).toBeNull()
    expect(await rowsOf('orders')).toBe(0)
  })

  test('correctness R4: of other content under a known id is told, since nobody is left to throw at', async () => {
    await service.dispatchEvent(event('known', { first: true }))
    const refused = new Promise((resolve) => service.on('event.refused', resolve))
    await client.query('begin')
    await service.dispatchEvent(event('known', { first: true }), { transaction: client })
    await service.dispatchEvent(event('known', { first: false }), { transaction: client })
    await client.query('commit')
    expect(await refused).toMatchObject({ eventId: 'known', code: 'EVENT_ID_CONFLICT' })
    await service.drain()
    expect(inbox.received).toHaveLength(1)
  })

  test('that is not valid is refused at once, and his transaction goes on', async () => {
    await client.query('begin')
    const bad = { ...event('bad'), type: '' }
    await expect(service.dispatchEvent(bad, { transaction: client })).rejects.toMatchObject({
      code: 'EVENT_TYPE_INVALID',
    })
    await client.query(`insert into ${schema.name}.orders values ('o1')`)
    await client.query('commit')
    expect(await rowsOf('orders')).toBe(1)
  })

  test('needs a client: a pool has no transaction', async () => {
    const pool = new pg.Pool({ connectionString: schema.url })
    const refused = { code: 'OPTION_INVALID' }
    const dispatch = (transaction: object) => service.dispatchEvent(event('x'), { transaction })
    await expect(dispatch(pool)).rejects.toMatchObject(refused)
    await expect(dispatch({})).rejects.toMatchObject(refused)
    await pool.end()
  })

  test('correctness 7: is refused by a store in a file, with the reason', async () => {
    const other = new WebhookService({ storage: memory(), logger: false, secretKey })
    await expect(other.dispatchEvent(event('x'), { transaction: client })).rejects.toMatchObject({
      code: 'TRANSACTION_UNSUPPORTED',
      message: expect.stringContaining('locks'),
    })
    await other.close()
  })
})
