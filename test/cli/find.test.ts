// "Where is my event?", asked with an id and nothing else.
import path from 'node:path'
import { WebhookService } from '@k-msg/webhook'
import { createInbox } from '@k-msg/webhook/testing'
import { expect, it, onTestFinished } from 'vitest'
import { emptyFolder, run } from './command.ts'

const event = { id: 'e1', type: 'message.sent', timestamp: new Date(), data: { private: 'text' } }

/** One id in three tenants: delivered, held, and wanted by nobody. Still running. */
async function serviceWithThreeTenants(storage: string): Promise<WebhookService> {
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const allowedNetworks = ['127.0.0.0/8']
  const service = new WebhookService({ storage, allowedNetworks, logger: false })
  onTestFinished(() => service.close())
  const endpoint = { url: inbox.url, events: ['*'] }
  await service.registerEndpoint({ ...endpoint, id: 'shop' })
  await service.registerEndpoint({ ...endpoint, id: 'hook', tenantId: 'acme', status: 'paused' })
  for (const tenantId of [undefined, 'acme', 'zeta']) {
    await service.dispatchEvent({ ...event, tenantId })
  }
  await service.dispatchEvent({ ...event, id: 'other', tenantId: 'none' })
  await service.drain()
  return service
}

it('names each tenant that has the id, and where the event is there', async () => {
  const data = path.join(await emptyFolder(), 'a.db')
  const service = await serviceWithThreeTenants(data)
  const { stdout, stderr, code } = await run(['find', 'e1', '--data', data])
  expect(stderr).toBe('')
  expect(stdout.split('\n')).toEqual([
    expect.stringMatching(/^e1 · message\.sent · no tenant · accepted 2\S+Z$/),
    expect.stringMatching(/^ {2}shop {2}delivered {2}1 attempt {2}2\S+Z {2}dlv_\S+ {2}accepted$/),
    expect.stringMatching(/^e1 · message\.sent · tenant acme · accepted /),
    expect.stringMatching(/^ {2}hook {2}waiting {2}0 attempts {2}due 2\S+Z {2}dlv_\S+$/),
    expect.stringMatching(/^e1 · message\.sent · tenant zeta · accepted /),
    '  No delivery: no endpoint of its tenant took it.',
    '',
  ])
  expect(code).toBe(0)

  // As a receiver names it: the header X-Webhook-Delivery.
  const [held] = (await service.listDeliveries({ tenantId: 'acme' })).deliveries
  const ofDelivery = await run(['find', held?.id ?? '', '--data', data, '--lang', 'ko'])
  expect(ofDelivery.stdout).toMatch(
    /^e1 · message\.sent · 테넌트 acme · 접수 .+\n {2}hook {2}대기 .+\n$/,
  )

  const asJson = await run(['find', 'e1', '--data', data, '--json'])
  expect(asJson.stdout).not.toContain('private')
  expect(JSON.parse(asJson.stdout)).toMatchObject([
    { id: 'e1', tenantId: null, deliveries: [{ endpointId: 'shop', state: 'delivered' }] },
    {
      id: 'e1',
      tenantId: 'acme',
      deliveries: [{ id: held?.id, state: 'waiting', settledAt: null }],
    },
    { id: 'e1', tenantId: 'zeta', deliveries: [], pendingDeliveries: 0 },
  ])
})

it('says that there is none, and fails', async () => {
  const data = path.join(await emptyFolder(), 'a.db')
  await serviceWithThreeTenants(data)
  for (const id of ['e2', 'dlv_01m8jfmkeff2xbqze400e497_vea8b5jn', '%', '*', '']) {
    const { stdout, stderr, code } = await run(['find', id, '--data', data])
    expect(stdout).toBe('')
    expect(stderr).toContain(`No event and no delivery has the id ${id}`)
    expect(code).toBe(1)
  }
  const asJson = await run(['find', 'e2', '--data', data, '--json'])
  expect(asJson).toMatchObject({ stdout: '[]\n', code: 1 })
  expect((await run(['find', 'e1', '--data', data, '--schema', 'x'])).code).toBe(2)
})
