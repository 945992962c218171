// The first README of the package is a promise: each of its code blocks compiles under strict
// TypeScript and does what its text says, under both names of the package.
import { createHmac } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import express, { type Express } from 'express'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { typeErrorsOf } from '../docs/typecheck.ts'

const here = import.meta.dirname
const generated = path.join(here, '.generated')
const blocks = readdirSync(here).filter((file) => /^[\w-]+\.ts$/.test(file))
const secret = 'the-secret-of-a-receiver'

rmSync(generated, { recursive: true, force: true })
mkdirSync(generated)
for (const file of blocks) {
  const text = readFileSync(path.join(here, file), 'utf8')
  writeFileSync(
    path.join(generated, file),
    text.replaceAll('@k-msg/webhook-system', '@k-msg/webhook'),
  )
}

describe.each([
  ['@k-msg/webhook-system', here],
  ['@k-msg/webhook', generated],
])('the seed README with %s', (name, folder) => {
  const load = (block: string) => import(path.join(folder, `${block}.ts`))

  let local: typeof import('../docs/local.ts')
  beforeEach(async () => {
    vi.resetModules()
    vi.spyOn(console, 'log').mockImplementation(() => {})
    vi.stubEnv('WEBHOOK_SECRET', secret)
    local = await import('../docs/local.ts')
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    vi.restoreAllMocks()
    await local.leave()
  })

  it('imports from that name', () => {
    expect(readFileSync(path.join(folder, 'quick-start.ts'), 'utf8')).toContain(`from '${name}'`)
  })

  it('compiles', () => {
    expect(typeErrorsOf(blocks.map((file) => path.join(folder, file)))).toEqual([])
  })

  it('quick start: sends each event once, signed with the secret of the endpoint', async () => {
    const { webhookService } = await load('quick-start')
    await webhookService.drain()
    expect(local.received.map((it) => it.headers['x-webhook-id']).sort()).toEqual([
      'evt_1',
      'evt_123',
      'evt_2',
      'evt_3',
    ])
    for (const { host, url, headers, body } of local.received) {
      expect(`${host}${url}`).toBe('your-app.com/webhooks')
      expect(headers['x-webhook-signature']).toBe(sign(body, 'your-endpoint-secret'))
    }
  })

  it('signature and timestamp: a receiver accepts its own sender and refuses others', async () => {
    const { checkSignature, checkTimestamp } = await load('signature')
    const app = express()
    app.use(express.text({ type: '*/*' }))
    app.use((req, res, next) => {
      if (!checkSignature(req, res) && !checkTimestamp(req, res)) next()
    })
    app.use((_, res) => {
      res.json({ success: true })
    })
    await withServer(app, async (post) => {
      expect(await post(seconds(), sign('{}'))).toBe(200)
      expect(await post(seconds(), sign('{ }'))).toBe(401)
      expect(await post(seconds(), undefined)).toBe(401)
      expect(await post(seconds(-301), sign('{}'))).toBe(401)
      expect(await post(seconds(301), sign('{}'))).toBe(401)
    })
  })

  it('retry: is constructible alone', async () => {
    const { retryManager } = await load('retry')
    expect(retryManager).toBeInstanceOf((await import('@k-msg/webhook')).RetryManager)
  })

  it('statistics: count what was sent, in the documented fields', async () => {
    const { webhookService } = await load('quick-start')
    await webhookService.drain()
    const { endpointStats, stats } = await load('statistics')
    expect(stats).toMatchObject({
      totalEndpoints: 1,
      activeEndpoints: 1,
      totalDeliveries: 4,
      successfulDeliveries: 4,
      failedDeliveries: 0,
      averageLatency: expect.any(Number),
      successRate: 100,
    })
    expect(endpointStats).toMatchObject({ totalDeliveries: 0 }) // January 2024
  })

  it('failed deliveries: show the error of their attempts', async () => {
    local.answerWith(() => 400)
    const { webhookService } = await load('quick-start')
    await webhookService.drain()
    const { failedDeliveries } = await load('failed-deliveries')
    expect(failedDeliveries).toHaveLength(4)
    for (const delivery of failedDeliveries) {
      expect(console.log).toHaveBeenCalledWith(
        `Delivery ${delivery.id} failed:`,
        expect.stringContaining('400'),
      )
    }
  })

  it('filtering: takes only what passes every filter', async () => {
    const { endpoint } = await load('filtering')
    const { webhookService } = await load('quick-start')
    const { event1 } = await load('placeholders')
    await webhookService.registerEndpoint(endpoint)
    const metadata = {
      providerId: 'iwinv',
      channelId: 'channel-marketing',
      templateId: 'welcome-template',
    }
    await webhookService.dispatchEvents([
      { ...event1, id: 'evt_passes', metadata },
      { ...event1, id: 'evt_other_provider', metadata: { ...metadata, providerId: 'aligo' } },
      { ...event1, id: 'evt_no_template', metadata: { ...metadata, templateId: undefined } },
    ])
    await webhookService.drain()
    const ids = local.received
      .filter((it) => it.host === 'app.com')
      .map((it) => it.headers['x-webhook-id'])
    expect(ids).toEqual(['evt_passes'])
  })

  it('batch: accepts the events one by one', async () => {
    const { webhookService } = await load('batch')
    expect((await webhookService.getEvent('evt_1'))?.id).toBe('evt_1')
    expect((await webhookService.getEvent('evt_2'))?.id).toBe('evt_2')
  })

  it('endpoint test: reports a healthy and a failing endpoint', async () => {
    const { testResult } = await load('test-endpoint')
    expect(testResult).toMatchObject({ success: true, responseTime: expect.any(Number) })
    expect(console.log).toHaveBeenCalledWith(
      `✅ Endpoint is healthy (${testResult.responseTime}ms)`,
    )
    local.answerWith(() => 503)
    const { webhookService } = await load('quick-start')
    const failing = await webhookService.testEndpoint('endpoint-1')
    expect(failing).toMatchObject({ success: false, error: expect.stringContaining('503') })
  })

  it('express: answers signed requests and refuses others', async () => {
    const { app } = await load('express')
    await withServer(app, async (post) => {
      expect(await post(seconds(), sign('{}'))).toBe(200)
      expect(await post(seconds(), sign('{"a":1}'))).toBe(401)
    })
  })

  it('hono: answers signed requests and refuses others', async () => {
    const { app } = await load('hono')
    const post = async (signature: string) => {
      const headers = { 'x-webhook-signature': signature }
      return (await app.request('/webhooks', { method: 'POST', body: '{}', headers })).status
    }
    expect(await post(sign('{}'))).toBe(200)
    expect(await post(sign('[]'))).toBe(401)
  })

  it('options: are accepted in the documented shapes', async () => {
    const { retryManager, webhookService } = await load('config')
    const own = await import('@k-msg/webhook')
    expect(webhookService).toBeInstanceOf(own.WebhookService)
    expect(retryManager).toBeInstanceOf(own.RetryManager)
  })
})

function sign(body: string, key = secret): string {
  return `sha256=${createHmac('sha256', key).update(body).digest('hex')}`
}

function seconds(offset = 0): string {
  return String(Math.floor(Date.now() / 1000) + offset)
}

type Post = (timestamp: string, signature: string | undefined) => Promise<number>

async function withServer(app: Express, use: (post: Post) => Promise<void>): Promise<void> {
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  try {
    await use(async (timestamp, signature) => {
      const headers = new Headers({
        'content-type': 'application/json',
        'x-webhook-timestamp': timestamp,
      })
      if (signature) headers.set('x-webhook-signature', signature)
      const url = `http://127.0.0.1:${port}/webhooks`
      return (await fetch(url, { method: 'POST', body: '{}', headers })).status
    })
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
}
