import type { WebhookEndpointInput } from '@k-msg/webhook'
import { WebhookRegistry } from '@k-msg/webhook'
import { describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import type { RegistryBacking } from '../../src/registry/backing.ts'
import type { EndpointChange } from '../../src/storage/endpoints.ts'

const secret = (n: number) => `whsec_${Buffer.alloc(24, n).toString('base64')}`
const hook = (fields: Partial<WebhookEndpointInput> = {}): WebhookEndpointInput => ({
  id: 'shop',
  url: 'https://shop.example.com/hook',
  events: ['message.*'],
  secret: secret(1),
  ...fields,
})

function setUp() {
  let nowMs = 1_000
  const registry = new WebhookRegistry({ nowMs: () => nowMs })
  return {
    registry,
    pass: (ms: number) => {
      nowMs += ms
    },
    secretsOf: (id: string) =>
      registry.find(id)?.secrets.map((one) => [one.secret, one.expiresAtMs]),
  }
}

describe('registering a known id', () => {
  it('changes what is given and keeps the rest', async () => {
    const { registry, pass } = setUp()
    await registry.register(hook({ name: 'Shop', concurrency: 3, filters: { providerId: ['a'] } }))
    pass(5)
    const again = await registry.register({
      id: 'shop',
      url: 'https://new.example.com/',
      events: ['*'],
    })
    expect(again).toMatchObject({
      name: 'Shop',
      concurrency: 3,
      filters: { providerId: ['a'] },
      url: 'https://new.example.com/',
      events: ['*'],
      version: 2,
      createdAt: new Date(1_000),
      updatedAt: new Date(1_005),
    })
    expect(registry.list()).toHaveLength(1)
  })

  it('takes what is null from the service again', async () => {
    const { registry } = setUp()
    const own = { timeoutMs: 500, concurrency: 3, signatureSchemes: ['standard'] } as const
    await registry.register(hook({ ...own, rateLimit: { limit: 5, perMs: 1_000 } }))
    const none = { timeoutMs: null, concurrency: null, signatureSchemes: null, rateLimit: null }
    expect(await registry.update('shop', none)).toMatchObject({ ...none, version: 2 })
  })

  it('with nothing new changes nothing', async () => {
    const { registry, pass } = setUp()
    const first = await registry.register(hook())
    pass(5)
    expect(await registry.register(hook())).toEqual(first)
  })

  it.each(['paused', 'disabled'] as const)('never re-enables what is %s', async (status) => {
    const { registry } = setUp()
    await registry.register(hook())
    await registry.setStatus('shop', status, 'by hand')
    expect(await registry.register(hook({ active: true }))).toMatchObject({ status })
    expect(await registry.register(hook({ status: 'active' }))).toMatchObject({
      status,
      statusReason: 'by hand',
    })
    expect(
      await registry.register(hook({ active: true, status: 'active', name: 'x' })),
    ).toMatchObject({ status })
  })

  it('can pause and disable, but not pause what is disabled', async () => {
    const { registry } = setUp()
    await registry.register(hook())
    expect(await registry.register(hook({ status: 'paused' }))).toMatchObject({ status: 'paused' })
    expect(await registry.register(hook({ active: false }))).toMatchObject({
      status: 'disabled',
      active: false,
    })
    expect(await registry.register(hook({ status: 'paused' }))).toMatchObject({
      status: 'disabled',
    })
  })

  it('with `active` and `status` that contradict each other is refused', async () => {
    const { registry } = setUp()
    const known = await registry.register(hook())
    const refused = { code: 'ENDPOINT_INVALID', message: expect.stringContaining('to agree with') }
    const spread = { ...hook(), active: false, status: known.status }
    await expect(registry.register(spread)).rejects.toMatchObject(refused)
    const changes = { active: true, status: 'disabled' } as const
    await expect(registry.update('shop', changes)).rejects.toMatchObject(refused)
    await registry.update('shop', { active: true, status: 'paused' })
    expect(registry.get('shop')).toMatchObject({ active: true, status: 'paused' })
  })

  it('at the same moment from many places is one endpoint', async () => {
    const { registry } = setUp()
    const all = await Promise.all(Array.from({ length: 20 }, () => registry.register(hook())))
    expect(new Set(all.map((one) => one.version))).toEqual(new Set([1]))
    expect(registry.list()).toHaveLength(1)
  })
})

describe('a secret that changes', () => {
  it('signs together with the old one for the overlap', async () => {
    const { registry, pass, secretsOf } = setUp()
    await registry.register(hook())
    pass(100)
    await registry.register(hook({ secret: secret(2) }))
    expect(secretsOf('shop')).toEqual([
      [secret(2), null],
      [secret(1), 1_100 + 86_400_000],
    ])
  })

  it('given again starts no rotation', async () => {
    const { registry, secretsOf } = setUp()
    await registry.register(hook())
    await registry.update('shop', { secret: secret(1) })
    expect(secretsOf('shop')).toEqual([[secret(1), null]])
  })

  it('back to an older one keeps the one between, and never more than three', async () => {
    const { registry, secretsOf } = setUp()
    await registry.register(hook())
    await registry.update('shop', { secret: secret(2) })
    await registry.update('shop', { secret: secret(1) })
    expect(secretsOf('shop')?.map(([one]) => one)).toEqual([secret(1), secret(2)])
    await registry.update('shop', { secret: secret(3) })
    await expect(registry.update('shop', { secret: secret(4) })).rejects.toMatchObject({
      code: 'SECRET_LIMIT',
      message: expect.stringMatching(
        /finishRotation\("shop"\).*1970-01-02T00:00:01\.000Z/,
      ) as string,
    })
    expect(secretsOf('shop')?.map(([one]) => one)).toEqual([3, 1, 2].map(secret))
  })

  it('drops what has expired', async () => {
    const { registry, pass, secretsOf } = setUp()
    await registry.register(hook())
    await registry.update('shop', { secret: secret(2) })
    pass(86_400_000)
    await registry.update('shop', { secret: secret(3) })
    expect(secretsOf('shop')?.map(([one]) => one)).toEqual([secret(3), secret(2)])
  })

  it("is created when there is none, shown once, and is never a tenant's shared one", async () => {
    const { registry } = setUp()
    const made = await registry.register(hook({ secret: undefined }))
    expect(made.secret).toMatch(/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/)
    expect(registry.get('shop')).not.toHaveProperty('secret')
    expect(await registry.register(hook({ secret: undefined }))).not.toHaveProperty('secret')
  })
})

describe('tenants', () => {
  it('have ids of their own; having none is one of them', async () => {
    const { registry } = setUp()
    await registry.register(hook({ name: 'none' }))
    await registry.register(hook({ name: 'A', tenantId: 'a' }))
    await registry.register(hook({ name: 'B', tenantId: 'b' }))
    expect(registry.get('shop')?.name).toBe('none')
    expect(registry.get('shop', { tenantId: 'a' })?.name).toBe('A')
    expect(registry.get('shop', { tenantId: 'c' })).toBeUndefined()
    expect(registry.list().map((one) => one.name)).toEqual(['none'])
    expect(
      registry
        .list({ tenantId: '*' })
        .map((one) => one.name)
        .sort(),
    ).toEqual(['A', 'B', 'none'])
    await registry.remove('shop', { tenantId: 'a' })
    expect(registry.list({ tenantId: '*' })).toHaveLength(2)
    const event = { type: 'message.sent', tenantId: 'b' }
    expect(registry.match(event).map((one) => one.name)).toEqual(['B'])
    expect(registry.match({ ...event, tenantId: 'a' })).toEqual([])
  })

  it('peers 31: two endpoints may share a url', async () => {
    const { registry } = setUp()
    await registry.register(hook())
    await registry.register(hook({ id: 'second' }))
    await registry.remove('shop')
    expect(registry.list().map((one) => one.id)).toEqual(['second'])
  })
})

describe('a bad endpoint', () => {
  const bad: readonly [string, unknown, string, RegExp][] = [
    ['nothing', undefined, 'ENDPOINT_INVALID', /`id`, `url` and `events`/],
    ['no id', { ...hook(), id: undefined }, 'ENDPOINT_ID_INVALID', /1 to 256/],
    ['an id with a space', { ...hook(), id: 'a b' }, 'ENDPOINT_ID_INVALID', /"a b"/],
    ['an id with a dot', { ...hook(), id: 'a.b' }, 'ENDPOINT_ID_INVALID', /A-Z/],
    ['no url', { ...hook(), url: undefined }, 'ENDPOINT_URL_INVALID', /https/],
    ['no url at all', { ...hook(), url: 'shop' }, 'ENDPOINT_URL_INVALID', /http/],
    ['another protocol', { ...hook(), url: 'ftp://example.com/' }, 'ENDPOINT_URL_INVALID', /http/],
    [
      'a url with a password',
      { ...hook(), url: 'https://a:b@example.com/' },
      'ENDPOINT_URL_INVALID',
      /./,
    ],
    [
      'a private address',
      { ...hook(), url: 'http://10.0.0.1/' },
      'ADDRESS_BLOCKED',
      /allowedNetworks/,
    ],
    [
      'loopback by another name',
      { ...hook(), url: 'http://[::ffff:7f00:1]/' },
      'ADDRESS_BLOCKED',
      /allowedNetworks/,
    ],
    ['no events', { ...hook(), events: [] }, 'ENDPOINT_INVALID', /non-empty/],
    ['events as a text', { ...hook(), events: '*' }, 'ENDPOINT_INVALID', /list/],
    ['a bad event type', { ...hook(), events: ['Message'] }, 'EVENT_TYPE_INVALID', /`events`.+a-z/],
    ['a bad pattern', { ...hook(), events: ['*.sent'] }, 'EVENT_TYPE_INVALID', /"message\.\*"/],
    ['a short secret', { ...hook(), secret: 'short' }, 'SECRET_INVALID', /16/],
    ['an empty secret', { ...hook(), secret: '' }, 'SECRET_INVALID', /16/],
    ['a secret that is not base64', { ...hook(), secret: 'whsec_!' }, 'SECRET_INVALID', /base64/],
    ['a private key that is cut', { ...hook(), secret: 'whsk_AAAA' }, 'SECRET_INVALID', /64 bytes/],
    ['a public key', { ...hook(), secret: 'whpk_AAAA' }, 'SECRET_INVALID', /private key/],
    [
      'a signature scheme of its own',
      { ...hook(), signatureSchemes: ['v2'] },
      'OPTION_INVALID',
      /v2/,
    ],
    [
      'a filter that is no list',
      { ...hook(), filters: { providerId: 'a' } },
      'ENDPOINT_INVALID',
      /filters\.providerId/,
    ],
    [
      'a filter that nothing passes',
      { ...hook(), filters: { providerId: [] } },
      'ENDPOINT_INVALID',
      /filters\.providerId.+leave it out/,
    ],
    ['filters as a list', { ...hook(), filters: [] }, 'ENDPOINT_INVALID', /providerId/],
    [
      'a header of the protocol',
      { ...hook(), headers: { 'webhook-id': 'x' } },
      'ENDPOINT_INVALID',
      /webhook-id/,
    ],
    [
      'a header with a line break',
      { ...hook(), headers: { 'x-a': 'b\r\nc: d' } },
      'ENDPOINT_INVALID',
      /./,
    ],
    ['a negative time', { ...hook(), timeoutMs: -1 }, 'OPTION_OUT_OF_RANGE', /timeoutMs/],
    ['half a millisecond', { ...hook(), timeoutMs: 1.5 }, 'OPTION_OUT_OF_RANGE', /integer.+1\.5/],
    [
      'half a batch',
      { ...hook(), batch: { size: 2.5, timeoutMs: 1 } },
      'OPTION_OUT_OF_RANGE',
      /2\.5/,
    ],
    ['no number', { ...hook(), concurrency: Number.NaN }, 'OPTION_OUT_OF_RANGE', /NaN/],
    ['no concurrency', { ...hook(), concurrency: 0 }, 'OPTION_OUT_OF_RANGE', /concurrency/],
    [
      'negative retries',
      { ...hook(), retryConfig: { maxRetries: -1 } },
      'OPTION_OUT_OF_RANGE',
      /retryConfig\.maxRetries/,
    ],
    [
      'an unknown retry option',
      { ...hook(), retryConfig: { retries: 3 } },
      'OPTION_UNKNOWN',
      /retryConfig/,
    ],
    [
      'an unknown batch option',
      { ...hook(), batch: { size: 5, timeoutMS: 1 } },
      'OPTION_UNKNOWN',
      /`batch`.+did you mean `timeoutMs`/,
    ],
    [
      'an unknown ordering option',
      { ...hook(), ordering: { key: 'a', onExhaust: 'skip' } },
      'OPTION_UNKNOWN',
      /`ordering`.+did you mean `onExhausted`/,
    ],
    [
      'two delays for one',
      { ...hook(), retryConfig: { retryDelayMs: 1, baseDelayMs: 2 } },
      'OPTION_INVALID',
      /`retryConfig.retryDelayMs`.+`retryConfig.baseDelayMs`/,
    ],
    [
      'a day of birth that is none',
      { ...hook(), createdAt: new Date(Number.NaN) },
      'ENDPOINT_INVALID',
      /`createdAt`/,
    ],
    ['another that is none', { ...hook(), updatedAt: 'today' }, 'ENDPOINT_INVALID', /`updatedAt`/],
    [
      'a batch without its time',
      { ...hook(), batch: { size: 5 } },
      'ENDPOINT_INVALID',
      /got one without `timeoutMs`/,
    ],
    [
      'a batch of nothing',
      { ...hook(), batch: { size: 0, timeoutMs: 1 } },
      'OPTION_OUT_OF_RANGE',
      /batch\.size/,
    ],
    ['a status nobody knows', { ...hook(), status: 'off' }, 'ENDPOINT_INVALID', /'paused'/],
    ['a tenant with a slash', { ...hook(), tenantId: 'a/b' }, 'TENANT_ID_INVALID', /tenantId/],
    ['the tenant that reads all', { ...hook(), tenantId: '*' }, 'TENANT_ID_INVALID', /tenantId/],
    ['an unknown field', { ...hook(), evnts: [] }, 'OPTION_UNKNOWN', /did you mean `events`/],
  ]

  it.each(bad)('%s', async (_name, input, code, sentence) => {
    const { registry } = setUp()
    const error = await registry.register(input as WebhookEndpointInput).catch((one) => one)
    expect(error).toMatchObject({ name: 'WebhookError', code })
    expect(error.message).toMatch(/^Expected /)
    expect(error.message).toMatch(sentence)
    expect(registry.list({ tenantId: '*' })).toEqual([])
  })

  it.each(bad.filter(([name]) => !/^(nothing|no id|an id|a tenant|the tenant)/.test(name)))(
    'as a change: %s',
    async (_name, input, code) => {
      const { registry } = setUp()
      const before = await registry.register(hook())
      const { id: _, tenantId: __, ...changes } = input as WebhookEndpointInput
      const wanted = 'url' in changes && changes.url === undefined ? null : code
      const result = await registry.update('shop', changes).catch((error) => error.code)
      if (wanted === null) expect(result).toMatchObject({ id: 'shop' })
      else {
        expect(result).toBe(code)
        expect(registry.get('shop')).toEqual(before)
      }
    },
  )

  it('an unknown id is refused by everything that changes', async () => {
    const { registry } = setUp()
    const calls = [
      registry.update('nobody', { name: 'x' }),
      registry.remove('nobody'),
      registry.setStatus('nobody', 'paused', 'x'),
    ]
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({
        code: 'ENDPOINT_NOT_FOUND',
        message: expect.stringContaining('"nobody"'),
      })
    }
  })
})

describe('a change that is on its way to the store', () => {
  function stored() {
    const saved: [EndpointRecord, EndpointChange][] = []
    let release = () => {}
    const backing: RegistryBacking = {
      needsSecret: true,
      sharedSecret: null,
      rotationOverlapMs: 1_000,
      schemes: ['standard', 'body'],
      save: (record, change) => {
        saved.push([record, change])
        return new Promise((resolve) => {
          release = () => resolve(true)
        })
      },
      remove: () => Promise.resolve(),
      isHeldUp: () => Promise.resolve(false),
      endWaiting: () => Promise.resolve(),
      changed: () => {},
      changedSince: (version: number) =>
        Promise.resolve({ version, endpoints: [], removedKeys: [] }),
    }
    return { saved, backing, written: () => release() }
  }

  async function registered() {
    const registry = new WebhookRegistry({ nowMs: () => 1 })
    const store = stored()
    await registry.register(hook())
    const record = registry.find('shop')!
    await registry.attach([record], store.backing, { allowedNetworks: [], nowMs: () => 2 })
    return { registry, record, ...store }
  }

  it('updates what the store knows with what was registered before the store was there', async () => {
    const registry = new WebhookRegistry({ nowMs: () => 1 })
    await registry.register(hook())
    const known = registry.find('shop')!
    const later = new WebhookRegistry({ nowMs: () => 2 })
    await later.register(hook({ name: 'renamed', secret: 'another-secret-of-the-shop' }))
    await later.register(hook({ id: 'fresh' }))
    const saved: EndpointRecord[] = []
    const backing: RegistryBacking = {
      ...stored().backing,
      save: (record) => Promise.resolve(saved.push(record) > 0),
    }
    await later.attach([known], backing, { allowedNetworks: [], nowMs: () => 3 })
    expect(later.find('shop')).toMatchObject({ key: known.key, name: 'renamed', version: 2 })
    expect(later.find('shop')!.secrets[0]!.secret).toBe('another-secret-of-the-shop')
    expect(later.find('fresh')).toMatchObject({ version: 1 })
    expect(saved.map((record) => record.id)).toEqual(['fresh', 'shop'])
    expect(later.records()).toHaveLength(2)
    // Each once, and under the key that the store knows.
    const matched = later.matchRecords('', 'message.sent', {}).map(({ key }) => key)
    expect(matched.sort()).toEqual(
      later
        .records()
        .map(({ key }) => key)
        .sort(),
    )
  })

  it('never gives one endpoint the key of another, whatever the dice say', async () => {
    const dice = [1, 1, 1, 2]
    const registry = new WebhookRegistry({
      nowMs: () => 1,
      randomBytes: (size) => new Uint8Array(size).fill(size === 5 ? (dice.shift() ?? 3) : 7),
    })
    await registry.register(hook({ id: 'victim', secret: 'a-secret-of-the-victim' }))
    await registry.register(hook({ id: 'other', secret: 'a-secret-of-the-other' }))
    expect(registry.records().map(({ id }) => id)).toEqual(['other', 'victim'])
    expect(registry.find('victim')?.key).not.toBe(registry.find('other')?.key)
  })

  it.each([[{ tenantId: 'victim' }], [{ id: 'other' }]])(
    'refuses to change whose an endpoint is: %j',
    async (changes) => {
      const registry = new WebhookRegistry({ nowMs: () => 1 })
      await registry.register(hook())
      await expect(registry.update('shop', changes as object)).rejects.toMatchObject({
        code: 'ENDPOINT_INVALID',
      })
    },
  )

  it('takes no list for the name of a tenant', async () => {
    const registry = new WebhookRegistry({ nowMs: () => 1 })
    await registry.register(hook({ tenantId: 'victim' }))
    const scope = { tenantId: ['victim'] as unknown as string }
    expect(() => registry.get('shop', scope)).toThrow(
      expect.objectContaining({ code: 'TENANT_ID_INVALID' }),
    )
  })

  it.each([
    [{ events: Array.from({ length: 201 }, (_, i) => `a.b${i}`) }],
    [{ filters: { k: Array.from({ length: 1_001 }, (_, i) => i) } }],
    [{ filters: { k: ['x'.repeat(257)] } }],
    [{ retryConfig: { retryScheduleMs: new Array(201).fill(0) } }],
    [{ retryConfig: { maxRetries: 201 } }],
  ])('has a bound on what an endpoint may list', async (fields) => {
    const registry = new WebhookRegistry({ nowMs: () => 1 })
    await expect(registry.register(hook(fields))).rejects.toMatchObject({ name: 'WebhookError' })
  })

  it('is not in force before it is written', async () => {
    const { registry, written } = await registered()
    const updating = registry.update('shop', { name: 'new' })
    await new Promise(setImmediate)
    expect(registry.get('shop')?.name).toBe('shop')
    written()
    await updating
    expect(registry.get('shop')?.name).toBe('new')
  })

  it('does not undo a 410 that was recorded meanwhile', async () => {
    const { registry, record, saved, written } = await registered()
    const updating = registry.update('shop', { name: 'new' })
    await new Promise(setImmediate)
    registry.takeOver(
      record.key,
      { status: 'disabled', statusReason: 'gone' },
      { atMs: 3, what: 'disabled', reason: 'gone' },
    )
    written()
    await new Promise(setImmediate)
    // What was written last, in the store, is both changes together.
    expect(saved.at(-1)?.[0]).toMatchObject({ name: 'new', status: 'disabled', version: 3 })
    written()
    expect(await updating).toMatchObject({ name: 'new', status: 'disabled', active: false })
    expect(registry.match({ type: 'message.sent' })).toEqual([])
  })

  it('is told as what it is, also when a 410 came in between', async () => {
    const { registry, record, backing, written } = await registered()
    const told: string[] = []
    backing.changed = ({ status }, { what, version }) => told.push(`${what} ${status} ${version}`)
    const updating = registry.update('shop', { name: 'new' })
    await new Promise(setImmediate)
    const gone = { status: 'disabled' as const, statusReason: 'gone' }
    registry.takeOver(record.key, gone, { atMs: 3, what: 'disabled', reason: 'gone' })
    written()
    await new Promise(setImmediate)
    written()
    await updating
    expect(told).toEqual(['disabled disabled 2', 'updated disabled 3'])
  })

  it('of the status has the last word over a 410 of the same moment', async () => {
    const { registry, record, saved, written } = await registered()
    const pausing = registry.setStatus('shop', 'paused', 'by hand')
    await new Promise(setImmediate)
    registry.takeOver(
      record.key,
      { status: 'disabled', statusReason: 'gone', warning: 'w' },
      { atMs: 3, what: 'disabled', reason: 'gone' },
    )
    written()
    await new Promise(setImmediate)
    written()
    expect(await pausing).toMatchObject({ status: 'paused', statusReason: 'by hand', warning: 'w' })
    expect(saved.at(-1)?.[0]).toMatchObject({ status: 'paused', version: 3 })
  })

  it('that fails changes nothing, and the next one goes on', async () => {
    const { registry, backing } = await registered()
    let broken = true
    backing.save = () => (broken ? Promise.reject(new Error('no room')) : Promise.resolve(true))
    await expect(registry.update('shop', { name: 'new' })).rejects.toThrow('no room')
    expect(registry.get('shop')).toMatchObject({ name: 'shop', version: 1 })
    broken = false
    expect(await registry.update('shop', { name: 'new' })).toMatchObject({
      name: 'new',
      version: 2,
    })
  })
})

describe('endpoints that other processes change too', () => {
  /** One store, as any number of registries see it. */
  function shared() {
    const rows = new Map<string, EndpointRecord>()
    /** Keys in the order of their changes: the version of all endpoints is how many there were. */
    const changes: string[] = []
    const read: number[] = []
    const seen: [string, string][] = []
    const backing: RegistryBacking = {
      needsSecret: true,
      sharedSecret: null,
      rotationOverlapMs: 1_000,
      schemes: ['standard', 'body'],
      save: (record, _change, seenVersion) => {
        const there = [...rows.values()].find(({ id }) => id === record.id)
        if ((there?.version ?? null) !== seenVersion) return Promise.resolve(false)
        rows.set(record.key, record)
        changes.push(record.key)
        return Promise.resolve(true)
      },
      remove: async ({ key }) => {
        rows.delete(key)
        changes.push(key)
      },
      isHeldUp: () => Promise.resolve(false),
      endWaiting: () => Promise.resolve(),
      changed: ({ id }, { what }) => seen.push([id, what]),
      changedSince: async (version) => {
        const keys = [...new Set(changes.slice(Math.max(0, version)))]
        const endpoints = keys.map((key) => rows.get(key)).filter((one) => one !== undefined)
        const removedKeys = keys.filter((key) => !rows.has(key))
        read.push(keys.length)
        return { version: changes.length, endpoints, removedKeys }
      },
    }
    const attach = async (...inputs: Parameters<typeof hook>[0][]) => {
      const registry = new WebhookRegistry({ nowMs: () => 1 })
      for (const input of inputs) await registry.register(hook(input))
      await registry.attach([...rows.values()], backing, {
        allowedNetworks: [],
        nowMs: () => 2,
      })
      return registry
    }
    return { rows, read, seen, attach }
  }

  it('are registered once, when two processes start at the same moment', async () => {
    const { rows, attach } = shared()
    const [one, two] = await Promise.all([attach({ name: 'a' }), attach({ name: 'b' })])
    expect(rows.size).toBe(1)
    expect(two.find('shop')?.key).toBe(one.find('shop')?.key)
    expect(two.get('shop')).toMatchObject({ name: 'b', version: 2 })
    await one.refresh()
    expect(one.get('shop')).toMatchObject({ name: 'b' })
  })

  it('keep what both changed at the same moment', async () => {
    const { attach } = shared()
    const one = await attach({})
    const two = await attach()
    await one.update('shop', { name: 'by one' })
    await two.update('shop', { description: 'by two' })
    expect(two.get('shop')).toMatchObject({ name: 'by one', description: 'by two', version: 3 })
  })

  it('are not taken over as they were before a settlement of this process', async () => {
    const { rows, seen, attach } = shared()
    const one = await attach({})
    await one.update('shop', { name: 'renamed' })
    const key = one.find('shop')?.key ?? ''
    // The change is read, then a settlement disables it, then the answer comes.
    const before = rows.get(key)
    const reading = one.refresh()
    const disabled = { status: 'disabled', statusReason: 'gone', statusChangedAtMs: 2 } as const
    one.takeOver(key, disabled, { atMs: 2, what: 'disabled', reason: 'gone' })
    seen.length = 0
    await reading
    expect(before?.status).toBe('active')
    expect(one.get('shop')).toMatchObject({ status: 'disabled', version: 3 })
    expect(seen).toEqual([])
  })

  it('are taken over, told once, and forgotten when they are removed', async () => {
    const { read, seen, attach } = shared()
    const one = await attach({})
    const two = await attach()
    await one.setStatus('shop', 'paused', 'by hand')
    seen.length = 0
    await two.refresh()
    await two.refresh()
    expect(two.get('shop')).toMatchObject({ status: 'paused', statusReason: 'by hand' })
    expect(seen).toEqual([['shop', 'updated']])
    await one.remove('shop')
    await two.refresh()
    expect(two.get('shop')).toBeUndefined()
    expect(two.match({ type: 'message.sent' })).toEqual([])
    // Only what changed is read.
    expect(read).toEqual([1, 0, 1])
  })
})
