/** What the public methods are given beside events and endpoints: nothing wrong is ignored. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  auditFile,
  memory,
  RetryManager,
  sqlite,
  WebhookDispatcher,
  WebhookError,
  type WebhookEvent,
  WebhookRegistry,
  WebhookService,
  type WebhookServiceParts,
} from '@k-msg/webhook'
import { auditPostgres, postgres } from '@k-msg/webhook/postgres'
import { createInbox } from '@k-msg/webhook/testing'
import { describe, expect, it } from 'vitest'

type Method = Exclude<keyof WebhookService, 'registry' | 'dispatcher' | 'retryManager'>
type Arguments = readonly unknown[]

const event: WebhookEvent = {
  id: 'evt_1',
  type: 'message.sent',
  timestamp: new Date(0),
  data: null,
}
const endpoint = { id: 'shop', url: 'https://example.com/', events: ['*'] }
const slip = { tenant: 'a' }
const everybody = { tenantId: '*' }
const scope = /did you mean `tenantId`/

/** Each method that takes an object, called with a name in it that it does not know. */
const slips: { readonly [Name in Method]?: readonly [Arguments, RegExp] } = {
  dispatchEvent: [[event, { deliverat: new Date() }], /dispatchEvent.+did you mean `deliverAt`/],
  dispatchEvents: [[[], { expiresat: new Date() }], /dispatchEvents.+did you mean `expiresAt`/],
  getEvent: [['evt_1', slip], scope],
  explainEvent: [['evt_1', slip], scope],
  eraseEvents: [[{ tenantId: 'a', befor: new Date() }], /eraseEvents.+did you mean `before`/],
  registerEndpoint: [[{ ...endpoint, event: [] }], /did you mean `events`/],
  updateEndpoint: [['shop', {}, slip], scope],
  rotateSecret: [['shop', { overlap: 0 }], /rotateSecret/],
  finishRotation: [['shop', slip], scope],
  removeEndpoint: [['shop', { reson: 'x' }], /removeEndpoint.+did you mean `reason`/],
  getEndpoint: [['shop', slip], scope],
  listEndpoints: [[slip], scope],
  pauseEndpoint: [['shop', 'x', slip], scope],
  resumeEndpoint: [['shop', 'x', slip], scope],
  enableEndpoint: [['shop', 'x', slip], scope],
  disableEndpoint: [['shop', 'x', slip], scope],
  getEndpointHistory: [['shop', { limits: 1 }], /getEndpointHistory.+did you mean `limit`/],
  testEndpoint: [['shop', slip], scope],
  getDelivery: [['dlv_1', slip], scope],
  listDeliveries: [[{ sate: 'waiting' }], /listDeliveries.+did you mean `state`/],
  getFailedDeliveries: [['shop', { form: new Date() }], /getFailedDeliveries.+known are/],
  retryDelivery: [['dlv_1', slip], scope],
  cancelDelivery: [['dlv_1', slip], scope],
  cancelPending: [['shop', { type: ['*'] }], /cancelPending.+did you mean `types`/],
  retryFailed: [[{ endpoint: 'shop' }], /retryFailed/],
  replay: [[{ endpointId: 'shop', dryrun: true }], /replay.+did you mean `dryRun`/],
  backfill: [['shop', { sinc: new Date(0) }], /backfill.+did you mean `since`/],
  getRepair: [['rep_1', slip], scope],
  listRepairs: [[slip], scope],
  cancelRepair: [['rep_1', slip], scope],
  listBlockedKeys: [[{ endpointid: 'shop' }], /listBlockedKeys.+did you mean `endpointId`/],
  skipDelivery: [['dlv_1', slip], scope],
  getStats: [[slip], scope],
  getEndpointStats: [['shop', { strat: new Date() }], /getEndpointStats.+did you mean `start`/],
  drain: [[{ timeout: 1 }], /drain.+did you mean `timeoutMs`/],
  on: [['delivery.fail', () => {}], /did you mean `delivery.failed`/],
}

/** They take no object at all. */
const without = ['ready', 'runDue', 'nextDueAt', 'health', 'audit', 'close'] as const
const withText = ['backup'] as const

/** The same methods with something else in the place of an object. */
const noObjects: { method: Method; given: Arguments; code?: string }[] = [
  { method: 'dispatchEvent', given: [event, 5] },
  { method: 'dispatchEvents', given: [[event], new Date().toISOString()] },
  { method: 'getEvent', given: ['evt_1', 'tenant'] },
  { method: 'explainEvent', given: ['evt_1', null] },
  { method: 'eraseEvents', given: [] },
  { method: 'eraseEvents', given: [['evt_1']] },
  { method: 'updateEndpoint', given: ['shop', { name: 'x' }, 'tenant'] },
  { method: 'updateEndpoint', given: ['shop', null], code: 'ENDPOINT_INVALID' },
  { method: 'rotateSecret', given: ['shop', null] },
  { method: 'removeEndpoint', given: ['shop', 'because'] },
  { method: 'getEndpoint', given: ['shop', 'tenant'] },
  { method: 'listEndpoints', given: ['tenant'] },
  { method: 'pauseEndpoint', given: ['shop', { tenantId: 'a' }] },
  { method: 'resumeEndpoint', given: ['shop', 5] },
  { method: 'getEndpointHistory', given: ['shop', 10] },
  { method: 'getEndpointHistory', given: ['shop', { before: 3 }] },
  { method: 'listDeliveries', given: ['shop'] },
  { method: 'getFailedDeliveries', given: ['shop', 'a'] },
  { method: 'cancelPending', given: ['shop', ['message.sent']] },
  { method: 'retryFailed', given: ['shop'] },
  { method: 'backfill', given: ['shop', new Date(0)] },
  { method: 'backfill', given: ['shop', { since: new Date(0), filter: 'x' }] },
  { method: 'listBlockedKeys', given: ['shop'] },
  { method: 'getStats', given: ['shop'] },
  { method: 'getEndpointStats', given: ['shop', 24] },
  { method: 'drain', given: [1_000] },
  { method: 'on', given: ['delivery.failed'] },
  { method: 'on', given: ['delivery.failed', {}] },
]

const invalid = new Date(Number.NaN)
const later = new Date(2)
const earlier = new Date(1)

/** Wrong values, each with its code and a word of the sentence. */
const wrong: readonly (readonly [string, Method, Arguments, string, RegExp])[] = [
  ['no id', 'getEvent', [], 'EVENT_ID_INVALID', /id of an event, a text, got nothing/],
  ['an event as its id', 'explainEvent', [event], 'EVENT_ID_INVALID', /got an object/],
  ['no id', 'getDelivery', [], 'DELIVERY_NOT_FOUND', /id of a delivery/],
  ['a number', 'retryDelivery', [5], 'DELIVERY_NOT_FOUND', /5 \(number\)/],
  ['a BigInt', 'cancelDelivery', [5n], 'DELIVERY_NOT_FOUND', /5 \(bigint\)/],
  ['null', 'skipDelivery', [null], 'DELIVERY_NOT_FOUND', /got null/],
  ['no id', 'getEndpoint', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'updateEndpoint', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['a BigInt', 'removeEndpoint', [1n], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['a number', 'testEndpoint', [1], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['an object', 'rotateSecret', [{ id: 'shop' }], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'pauseEndpoint', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'getEndpointStats', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'getEndpointHistory', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'cancelPending', [], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'replay', [{}], 'ENDPOINT_ID_INVALID', /id of an endpoint/],
  ['no id', 'backfill', [undefined, { since: earlier }], 'ENDPOINT_ID_INVALID', /an endpoint/],
  ['a number', 'listDeliveries', [{ endpointId: 5 }], 'ENDPOINT_ID_INVALID', /an endpoint/],
  ['an object', 'getFailedDeliveries', [{ limit: 5 }], 'ENDPOINT_ID_INVALID', /an endpoint/],
  ['a number', 'listBlockedKeys', [{ endpointId: 5 }], 'ENDPOINT_ID_INVALID', /an endpoint/],
  ['no id', 'getRepair', [], 'REPAIR_NOT_FOUND', /id of a repair/],
  ['no id', 'cancelRepair', [], 'REPAIR_NOT_FOUND', /id of a repair/],
  ['all tenants', 'getEvent', ['evt_1', everybody], 'TENANT_ID_INVALID', /tenant of the event/],
  ['all tenants', 'explainEvent', ['evt_1', everybody], 'TENANT_ID_INVALID', /one tenant only/],
  ['all tenants', 'getEndpoint', ['shop', everybody], 'TENANT_ID_INVALID', /of the endpoint/],
  [
    'all tenants',
    'pauseEndpoint',
    ['shop', 'x', everybody],
    'TENANT_ID_INVALID',
    /of the endpoint/,
  ],
  [
    'all tenants',
    'listDeliveries',
    [{ endpointId: 'shop', ...everybody }],
    'TENANT_ID_INVALID',
    /of the endpoint/,
  ],
  [
    'all tenants',
    'listBlockedKeys',
    [{ endpointId: 'shop', ...everybody }],
    'TENANT_ID_INVALID',
    /of the endpoint/,
  ],
  [
    'all tenants',
    'getFailedDeliveries',
    ['shop', everybody],
    'TENANT_ID_INVALID',
    /of the endpoint/,
  ],
  [
    'all tenants',
    'eraseEvents',
    [{ ids: ['evt_1'], ...everybody }],
    'TENANT_ID_INVALID',
    /`before`/,
  ],
  ['all tenants', 'eraseEvents', [everybody], 'TENANT_ID_INVALID', /`before`/],
  ['an unknown id', 'listDeliveries', [{ endpointId: 'shpo' }], 'ENDPOINT_NOT_FOUND', /"shpo"/],
  ['an unknown id', 'getFailedDeliveries', ['shpo'], 'ENDPOINT_NOT_FOUND', /"shpo"/],
  ['an unknown id', 'listBlockedKeys', [{ endpointId: 'shpo' }], 'ENDPOINT_NOT_FOUND', /"shpo"/],
  [
    'no number',
    'updateEndpoint',
    ['shop', { filters: { tier: [Number.NaN] } }],
    'ENDPOINT_INVALID',
    /`filters.tier`/,
  ],
  [
    'no number',
    'updateEndpoint',
    ['shop', { retryConfig: { maxRetries: Number.NaN } }],
    'OPTION_OUT_OF_RANGE',
    /got NaN/,
  ],
  ['no path', 'backup', [], 'OPTION_INVALID', /path.+got nothing/],
  ['an empty path', 'backup', [''], 'OPTION_INVALID', /path/],
  ['an object', 'backup', [{ path: 'x' }], 'OPTION_INVALID', /got an object/],
  ['a negative time', 'drain', [{ timeoutMs: -1 }], 'OPTION_OUT_OF_RANGE', /`timeoutMs`.+-1/],
  ['a text', 'drain', [{ timeoutMs: '5s' }], 'OPTION_OUT_OF_RANGE', /"5s"/],
  ['no number', 'drain', [{ timeoutMs: Number.NaN }], 'OPTION_OUT_OF_RANGE', /NaN/],
  [
    'a range that ends before it starts',
    'getEndpointStats',
    ['shop', { start: later, end: earlier }],
    'OPTION_OUT_OF_RANGE',
    /`start` not to be after `end`/,
  ],
  ['an invalid Date', 'getEndpointStats', ['shop', { end: invalid }], 'OPTION_INVALID', /`end`/],
  ['an invalid Date', 'listDeliveries', [{ from: invalid }], 'OPTION_INVALID', /`from`/],
  ['a text', 'listDeliveries', [{ to: '2026-01-01' }], 'OPTION_INVALID', /`to`/],
  [
    'a range that ends before it starts',
    'getFailedDeliveries',
    ['shop', { from: later, to: earlier }],
    'OPTION_OUT_OF_RANGE',
    /`from`/,
  ],
  [
    'a range that ends before it starts',
    'replay',
    [{ endpointId: 'shop', since: later, until: earlier }],
    'OPTION_OUT_OF_RANGE',
    /`since`/,
  ],
  ['an invalid Date', 'eraseEvents', [{ before: invalid }], 'OPTION_INVALID', /`before`/],
  ['an invalid Date', 'cancelPending', ['shop', { until: invalid }], 'OPTION_INVALID', /`until`/],
  ['ids that are none', 'eraseEvents', [{ ids: [5] }], 'EVENT_ID_INVALID', /5 \(number\)/],
  ['a word of the API', 'listDeliveries', [{ state: 'failed' }], 'OPTION_INVALID', /exhausted/],
  [
    'a slip',
    'listDeliveries',
    [{ state: 'deliverd' }],
    'OPTION_INVALID',
    /did you mean "delivered"/,
  ],
  ['one of many', 'listDeliveries', [{ state: ['waiting', 'x'] }], 'OPTION_INVALID', /"x"/],
  ['none', 'listDeliveries', [{ state: [] }], 'OPTION_INVALID', /`state`/],
  ['none', 'replay', [{ endpointId: 'shop', states: [] }], 'OPTION_INVALID', /`states`/],
  ['a type', 'listDeliveries', [{ eventType: 'Message' }], 'EVENT_TYPE_INVALID', /`eventType`/],
  [
    'values that are none',
    'backfill',
    ['shop', { since: earlier, filter: { metadata: { providerId: [] } } }],
    'OPTION_INVALID',
    /`filter.metadata`/,
  ],
]

async function refusal(service: WebhookService, method: Method, given: Arguments) {
  const call = (service as unknown as Record<Method, (...given: Arguments) => unknown>)[method]
  try {
    await call.apply(service, [...given])
  } catch (error) {
    return error as WebhookError
  }
  return null
}

async function open(): Promise<WebhookService> {
  const service = new WebhookService({ storage: memory(), logger: false, deliver: false })
  await service.registerEndpoint(endpoint)
  return service
}

describe('every public method', () => {
  it('is in the tables here', () => {
    const all = Object.getOwnPropertyNames(WebhookService.prototype)
    const known = [...Object.keys(slips), ...without, ...withText, 'constructor']
    expect(all.sort()).toEqual(known.sort())
    for (const method of without) expect(WebhookService.prototype[method]).toHaveLength(0)
  })

  it.each(Object.entries(slips))('%s refuses a name it does not know', async (method, slipped) => {
    await using service = await open()
    const [given, sentence] = slipped as readonly [Arguments, RegExp]
    const error = await refusal(service, method as Method, given)
    expect(error).toMatchObject({ name: 'WebhookError', code: 'OPTION_UNKNOWN' })
    expect(error?.message).toMatch(sentence)
  })

  it.each(noObjects)(
    '$method refuses what is no object: $given',
    async ({ method, given, code }) => {
      await using service = await open()
      expect(await refusal(service, method, given)).toMatchObject({
        name: 'WebhookError',
        code: code ?? 'OPTION_INVALID',
      })
    },
  )

  it.each(wrong)('%s: refused by %s', async (_what, method, given, code, sentence) => {
    await using service = await open()
    const error = await refusal(service, method, given)
    expect(error).toMatchObject({ name: 'WebhookError', code })
    expect(error?.message).toMatch(/^Expected /)
    expect(error?.message).toMatch(sentence)
  })

  it('takes what it knows', async () => {
    await using service = await open()
    const tenantId = 'a'
    const at = new Date()
    await service.dispatchEvent({ ...event, tenantId }, { deliverAt: at, expiresAt: undefined })
    await service.getEvent('a.b\u0000', { tenantId })
    await service.listDeliveries({ state: 'waiting', from: at, to: at, limit: 1, tenantId: '*' })
    await service.getEndpointStats('shop', { start: at, end: at }, {})
    await service.drain({ timeoutMs: 0 })
    const [change] = await service.getEndpointHistory('shop')
    expect(await service.getEndpointHistory('shop', { before: change })).toEqual([])
  })
})

const parts: readonly (readonly [WebhookServiceParts | object | null, string, RegExp])[] = [
  [{ registri: new WebhookRegistry() }, 'OPTION_UNKNOWN', /did you mean `registry`/],
  [{ registry: {} }, 'OPTION_INVALID', /`registry`.+WebhookRegistry/],
  [{ dispatcher: new WebhookRegistry() }, 'OPTION_INVALID', /`dispatcher`/],
  [{ securityManager: 'x' }, 'OPTION_INVALID', /`securityManager`/],
  [{ retryManager: { maxRetries: 3 } }, 'OPTION_INVALID', /`retryManager`/],
  [null, 'OPTION_INVALID', /parts/],
]

describe('the options of a service', () => {
  it.each([
    ['null', null],
    ['a text', 'webhooks.db'],
    ['a number', 5],
    ['a list', [{}]],
  ])('are an object, not %s', (_, given) => {
    expect(() => new WebhookService(given as object)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })
})

describe('the parts of a service', () => {
  it.each(parts)('%j are refused', (given, code, sentence) => {
    const make = () => new WebhookService({}, given as WebhookServiceParts)
    expect(make).toThrow(WebhookError)
    expect(make).toThrow(expect.objectContaining({ code }))
    expect(make).toThrow(sentence)
  })

  it('refuse names that they do not know, alone, too', () => {
    const unknown = expect.objectContaining({ code: 'OPTION_UNKNOWN' })
    expect(() => new RetryManager({ maxRetry: 1 } as object)).toThrow(unknown)
    expect(() => new WebhookRegistry({ allowedNetwork: [] } as object)).toThrow(unknown)
    expect(() => {
      new WebhookDispatcher(undefined, undefined, undefined, { timeout: 1 } as object)
    }).toThrow(unknown)
  })
})

describe('what stands beside a service', () => {
  const unknown = expect.objectContaining({ code: 'OPTION_UNKNOWN' })
  const invalid = expect.objectContaining({ code: 'OPTION_INVALID' })

  it('refuses names that it does not know', async () => {
    expect(() => sqlite({ file: 'x.db' } as object)).toThrow(unknown)
    expect(() => sqlite('x.db' as unknown as object)).toThrow(invalid)
    expect(() => postgres('postgres://127.0.0.1/x', { shema: 'x' } as object)).toThrow(unknown)
    await expect(auditPostgres('postgres://127.0.0.1/x', { shema: 'x' } as object)).rejects.toThrow(
      unknown,
    )
    await expect(createInbox({ secrets: {} } as object)).rejects.toThrow(unknown)
  })

  it('refuses what is no path', async () => {
    await expect(auditFile(undefined as unknown as string)).rejects.toThrow(invalid)
    await expect(auditFile(path.join(import.meta.filename, 'x.db'))).rejects.toThrow(invalid)
  })
})

describe('a backup', () => {
  it('never overwrites a file, and says so', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'kmsg-backup-'))
    try {
      const there = path.join(folder, 'there.db')
      await writeFile(there, 'mine')
      await using service = new WebhookService({
        storage: path.join(folder, 'webhooks.db'),
        logger: false,
      })
      expect(await refusal(service, 'backup', [there])).toMatchObject({
        code: 'OPTION_INVALID',
        message: expect.stringMatching(/never overwrites/),
      })
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
