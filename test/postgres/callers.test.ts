// An event in a transaction of Drizzle, Kysely or Prisma: with the caller's rows, or not at all.
import { WebhookService } from '@k-msg/webhook'
import { fromDrizzle, fromKysely, fromPrisma, postgres } from '@k-msg/webhook/postgres'
import { createInbox, type Inbox } from '@k-msg/webhook/testing'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { CamelCasePlugin, Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakePrisma } from './fake-prisma.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

const secretKey = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

interface Caller {
  /** Writes an order and dispatches in one transaction. */
  order(id: string, dispatch: (transaction: object) => Promise<unknown>): Promise<unknown>
  /** What stands for the database itself, by mistake. */
  withoutTransaction(): object
}

const callers: Record<string, (pool: pg.Pool, schema: string) => Caller> = {
  Drizzle(pool, schema) {
    const db = drizzle(pool)
    return {
      order: (id, dispatch) =>
        db.transaction(async (tx) => {
          await tx.execute(sql`insert into ${sql.identifier(schema)}.orders values (${id})`)
          await dispatch(fromDrizzle(tx, sql))
        }),
      // @ts-expect-error -- it has no rollback
      withoutTransaction: () => fromDrizzle(db, sql),
    }
  },
  Kysely(pool, schema) {
    const db = new Kysely<{ orders: { id: string } }>({
      dialect: new PostgresDialect({ pool }),
      plugins: [new CamelCasePlugin()],
    })
    return {
      order: (id, dispatch) =>
        db.transaction().execute(async (trx) => {
          await trx.withSchema(schema).insertInto('orders').values({ id }).execute()
          await dispatch(fromKysely(trx))
        }),
      // @ts-expect-error -- it is none
      withoutTransaction: () => fromKysely(db),
    }
  },
  Prisma(pool, schema) {
    const prisma = new FakePrisma(pool)
    return {
      order: (id, dispatch) =>
        prisma.$transaction(async (tx) => {
          await tx.$executeRawUnsafe(`insert into ${schema}.orders values ($1)`, id)
          await dispatch(fromPrisma(tx))
        }),
      withoutTransaction: () => fromPrisma(prisma),
    }
  },
}

describe.each(Object.entries(callers))('an event in a transaction of %s', (_, open) => {
  let schema: TestSchema
  let inbox: Inbox
  let service: WebhookService
  let pool: pg.Pool
  let caller: Caller

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
    pool = new pg.Pool({ connectionString: schema.url })
    await pool.query(`create table ${schema.name}.orders (id text primary key)`)
    caller = open(pool, schema.name)
  })
  afterEach(async () => {
    await pool.end()
    await service.close()
    await inbox.close()
    await schema.drop()
  })

  const event = (id: string) => ({
    id,
    type: 'message.sent',
    timestamp: new Date(),
    data: { text: `안녕 $1 ? :name ' " \\ \0 \u{1F44B}` },
  })
  const ordersOf = () =>
    onServer(schema.url, async (client) => {
      const { rows } = await client.query(`select id from ${schema.name}.orders order by id`)
      return rows.map(({ id }) => id as string)
    })

  test('is sent with his rows once he commits, and goes with them when he does not', async () => {
    const failure = new Error('out of stock')
    const failing = caller.order('o1', async (transaction) => {
      await service.dispatchEvent(event('never'), { transaction })
      throw failure
    })
    await expect(failing).rejects.toBe(failure)
    await caller.order('o2', async (transaction) => {
      const receipt = await service.dispatchEvent(event('once'), { transaction })
      expect(receipt).toMatchObject({ eventId: 'once', duplicate: false })
      expect(await ordersOf()).toEqual([])
      expect(await service.getEvent('once')).toBeNull()
    })
    const request = await inbox.waitFor((one) => one.headers['webhook-id'] === 'once')
    expect(request.signature).toBe('valid')
    expect(request.events[0]?.data).toEqual(event('once').data)
    await service.drain()
    expect(inbox.received).toHaveLength(1)
    expect(await service.getEvent('never')).toBeNull()
    expect(await ordersOf()).toEqual(['o2'])
    expect((await service.audit()).problems).toEqual([])
  })

  test('fails with what the database says', async () => {
    await onServer(schema.url, (client) => client.query(`drop table ${schema.name}.intake`))
    const ordered = caller.order('o1', (transaction) =>
      service.dispatchEvent(event('lost'), { transaction }),
    )
    await expect(ordered).rejects.toThrow()
    expect(await ordersOf()).toEqual([])
  })

  test('is refused outside of one', () => {
    expect(() => caller.withoutTransaction()).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })
})
