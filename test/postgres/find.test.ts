// An event by its id alone in a database; the file's twin is in test/cli/find.test.ts.
import { WebhookService } from '@k-msg/webhook'
import { postgres } from '@k-msg/webhook/postgres'
import { createInbox } from '@k-msg/webhook/testing'
import { expect, onTestFinished, test } from 'vitest'
import { findInDatabase } from '../../src/storage/postgres/find.ts'
import { run } from '../cli/command.ts'
import { freshSchema, onServer } from './schemas.ts'

test('it is found in every tenant that has it, and by a delivery', async () => {
  const { url, name: schema, drop } = freshSchema()
  onTestFinished(() => drop())
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const service = new WebhookService({
    storage: postgres(url, { schema }),
    allowedNetworks: ['127.0.0.0/8'],
    logger: false,
  })
  onTestFinished(() => service.close())
  const endpoint = { url: inbox.url, events: ['*'] }
  await service.registerEndpoint({ ...endpoint, id: 'shop' })
  await service.registerEndpoint({ ...endpoint, id: 'hook', tenantId: 'T7', status: 'paused' })
  const event = { id: 'e1', type: 'message.sent', timestamp: new Date(), data: 1 }
  const tenants = [undefined, ...Array.from({ length: 60 }, (_, i) => `T${i}`)]
  await service.dispatchEvents(
    tenants.map((tenantId, i) => ({ ...event, id: i % 7 === 1 ? 'e1' : `e${i}_`, tenantId })),
  )
  await service.dispatchEvent(event)
  await service.drain()

  const found = await findInDatabase(url, 'e1', { schema })
  const expected = tenants.filter((_, i) => i % 7 === 1)
  expect(found.map(({ tenantId }) => tenantId)).toEqual(['', ...expected.sort()])
  expect(found[0]?.deliveries).toMatchObject([{ endpointId: 'shop', state: 'delivered' }])
  expect(await findInDatabase(url, 'e2', { schema })).toEqual([])

  const [held] = (await service.listDeliveries({ tenantId: 'T7' })).deliveries
  expect(await findInDatabase(url, held?.id ?? '', { schema })).toMatchObject([
    { id: held?.eventId, tenantId: 'T7', deliveries: [{ id: held?.id, state: 'waiting' }] },
  ])

  const { stdout, code } = await run(['find', 'e1', '--data', url, '--schema', schema])
  expect(stdout).toMatch(/^e1 · message\.sent · no tenant · accepted .+\n {2}shop {2}delivered /)
  expect(code).toBe(0)
})

test('a schema of something else is refused in words of the command', async () => {
  const { url, name: schema, drop } = freshSchema()
  onTestFinished(() => drop())
  await onServer(url, (client) =>
    client.query(`create schema ${schema}; create table ${schema}.orders (id text)`),
  )
  const { stderr, code } = await run(['find', 'e1', '--data', url, '--schema', schema])
  expect(stderr).toMatch(/name another one with --schema\. .*\[STORAGE_FOREIGN\]/)
  expect(stderr).not.toContain('`')
  expect(code).toBe(1)
})
