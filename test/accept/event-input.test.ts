import { type Logger, WebhookError, type WebhookEvent, WebhookService } from '@k-msg/webhook'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkEvent, encodeEvent, sameContent } from '../../src/accept/event-input.ts'
import { memory } from '../../src/storage/sqlite/sqlite.ts'

const rules = { maxPayloadBytes: 262_144, enabledEvents: null }
const good: WebhookEvent = {
  id: 'evt_1',
  type: 'message.sent',
  timestamp: new Date(0),
  data: { text: '안녕' },
  metadata: { providerId: 'iwinv' },
  version: '1.0',
}
const cycle: Record<string, unknown> = {}
cycle.self = cycle
const deep = () => {
  let value: unknown[] = []
  for (let i = 0; i < 100_000; i += 1) value = [value]
  return value
}

/** Each bad input, its code, and a word of the sentence that says what to do. */
/** JSON leaves it out. */
const nothing = { toJSON: () => undefined }

/** Cannot be serialised every other time. */
function moody() {
  let asked = 0
  return {
    toJSON() {
      asked += 1
      if (asked % 2 === 1) throw new Error('moody')
      return 1
    },
  }
}

function timestampRefused(timestamp: unknown): [string, unknown, string, RegExp] {
  const name = `the timestamp ${JSON.stringify(timestamp)}`
  return [name, { ...good, timestamp }, 'EVENT_TIMESTAMP_INVALID', /offset.+0000 to 9999/]
}

const bad: readonly [string, unknown, string, RegExp][] = [
  ['nothing', undefined, 'EVENT_INVALID', /\{ id, type, timestamp, data \}/],
  ['a text', 'evt_1', 'EVENT_INVALID', /got "evt_1"/],
  ['no id', { ...good, id: undefined }, 'EVENT_ID_INVALID', /got nothing/],
  ['an id that is a number', { ...good, id: 5 }, 'EVENT_ID_INVALID', /5 \(number\)/],
  ['an empty id', { ...good, id: '' }, 'EVENT_ID_INVALID', /1 to 256 characters/],
  ['an id with a dot', { ...good, id: 'a.b' }, 'EVENT_ID_INVALID', /a dot would break/],
  ['an id with a line break', { ...good, id: 'a\n' }, 'EVENT_ID_INVALID', /A-Z/],
  ['an id with other letters', { ...good, id: '가' }, 'EVENT_ID_INVALID', /A-Z/],
  ['an id of 257 characters', { ...good, id: 'x'.repeat(257) }, 'EVENT_ID_INVALID', /256/],
  ['no type', { ...good, type: undefined }, 'EVENT_TYPE_INVALID', /joined by dots/],
  ['a type in capitals', { ...good, type: 'Message.Sent' }, 'EVENT_TYPE_INVALID', /a-z/],
  ['a pattern as a type', { ...good, type: 'message.*' }, 'EVENT_TYPE_INVALID', /dots/],
  ['an empty part in a type', { ...good, type: 'a..b' }, 'EVENT_TYPE_INVALID', /dots/],
  ['a type of 129 characters', { ...good, type: 'x'.repeat(129) }, 'EVENT_TYPE_INVALID', /128/],
  ['no timestamp', { ...good, timestamp: undefined }, 'EVENT_TIMESTAMP_INVALID', /RFC 3339/],
  [
    'an invalid Date',
    { ...good, timestamp: new Date('x') },
    'EVENT_TIMESTAMP_INVALID',
    /valid Date/,
  ],
  ['a day without a time', { ...good, timestamp: '2026-01-01' }, 'EVENT_TIMESTAMP_INVALID', /RFC/],
  ['milliseconds', { ...good, timestamp: 1_700_000_000_000 }, 'EVENT_TIMESTAMP_INVALID', /RFC/],
  [
    'a date that is none',
    { ...good, timestamp: '2026-13-41T99:00Z' },
    'EVENT_TIMESTAMP_INVALID',
    /RFC/,
  ],
  ...[
    '2026-02-30T09:00:00Z',
    '2026-11-31T09:00:00Z',
    '2023-02-29T00:00:00Z',
    '2026-00-10T09:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T24:61:00Z',
    '2026-01-31T09:00:60Z',
    '2026-01-31T09:00:00',
    '2026-01-31T09:00:00+24:00',
    '2026-01-31 09:00:00Z',
    '0000-01-01T00:00:00+09:00',
    '9999-12-31T23:59:59-09:00',
    '+012000-01-01T00:00:00Z',
  ].map(timestampRefused),
  timestampRefused(new Date(Date.UTC(12_000, 0))),
  timestampRefused(new Date(Date.UTC(-29_719, 0))),
  ['no data', { ...good, data: undefined }, 'EVENT_DATA_INVALID', /use null for nothing/],
  [
    'data in a circle',
    { ...good, data: cycle },
    'EVENT_DATA_INVALID',
    /`data`.*circular.+leave out/i,
  ],
  ['a BigInt', { ...good, data: { n: 1n } }, 'EVENT_DATA_INVALID', /BigInt.+as a text/],
  ['a function', { ...good, data: () => {} }, 'EVENT_DATA_INVALID', /a function/],
  [
    'data that throws',
    {
      ...good,
      data: {
        toJSON: () => {
          throw new Error('no')
        },
      },
    },
    'EVENT_DATA_INVALID',
    /no/,
  ],
  ['100,000 nested lists', { ...good, data: deep() }, 'EVENT_DATA_INVALID', /JSON/],
  ['metadata in a circle', { ...good, metadata: cycle }, 'EVENT_DATA_INVALID', /`metadata`/],
  ['metadata that is a list', { ...good, metadata: [] }, 'EVENT_INVALID', /`metadata`/],
  ['metadata that is a text', { ...good, metadata: 'x' }, 'EVENT_INVALID', /`metadata`/],
  ['a version that is a number', { ...good, version: 1 }, 'EVENT_INVALID', /"1.0"/],
  [
    'a payload over the limit',
    { ...good, data: 'x'.repeat(262_144) },
    'EVENT_TOO_LARGE',
    /maxPayloadBytes/,
  ],
  ['a tenant with a slash', { ...good, tenantId: 'a/b' }, 'TENANT_ID_INVALID', /leave it out/],
  ['an empty tenant', { ...good, tenantId: '' }, 'TENANT_ID_INVALID', /tenantId/],
  ['a tenant that is null', { ...good, tenantId: null }, 'TENANT_ID_INVALID', /tenantId/],
  ['an unknown field', { ...good, timestmap: 1 }, 'OPTION_UNKNOWN', /did you mean `timestamp`/],
  ['a field of its own', { ...good, payload: 1 }, 'OPTION_UNKNOWN', /known are/],
  ['a list', [good], 'OPTION_UNKNOWN', /a field of an event/],
  ['data that turns into nothing', { ...good, data: nothing }, 'EVENT_DATA_INVALID', /`data`/],
  ['metadata that does', { ...good, metadata: nothing }, 'EVENT_DATA_INVALID', /`metadata`/],
  ['a BigInt in metadata', { ...good, metadata: { n: 1n } }, 'EVENT_DATA_INVALID', /`metadata`/],
  [
    'data that JSON refuses now and then',
    { ...good, data: moody() },
    'EVENT_DATA_INVALID',
    /`data`.+moody/,
  ],
]

describe('a bad event', () => {
  it.each(bad)('%s', (_name, event, code, sentence) => {
    let thrown: unknown
    try {
      checkEvent(event as WebhookEvent, rules)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(WebhookError)
    expect((thrown as WebhookError).code).toBe(code)
    expect((thrown as WebhookError).message).toMatch(/^Expected /)
    expect((thrown as WebhookError).message).toMatch(sentence)
    // A payload or a person's data must not end up in a log through an error.
    expect((thrown as WebhookError).message.length).toBeLessThan(400)
  })

  it('is refused and nothing of it is stored', async () => {
    const logger = { debug() {}, info() {}, warn() {}, error() {} }
    await using service = new WebhookService({ storage: memory(), logger })
    const results = await Promise.allSettled(
      bad.map(([, event]) => service.dispatchEvent(event as WebhookEvent)),
    )
    expect(results.map((one) => one.status === 'rejected' && one.reason.code)).toEqual(
      bad.map(([, , code]) => code),
    )
    await expect(service.dispatchEvents([good, bad[5]?.[1] as WebhookEvent])).rejects.toMatchObject(
      {
        code: 'EVENT_ID_INVALID',
      },
    )
    expect(await service.getEvent('evt_1')).toBeNull()
    expect((await service.audit()).problems).toEqual([])
  })

  it('that is not even a list of events rejects', async () => {
    await using service = new WebhookService({ storage: memory(), logger: false })
    for (const events of [undefined, null, 'x', {}, good]) {
      await expect(service.dispatchEvents(events as never)).rejects.toMatchObject({
        code: 'EVENT_INVALID',
      })
    }
  })

  it('with a type that is nearly a known one only warns, once', async () => {
    const { warnings, logger } = listening()
    await using service = new WebhookService({
      storage: memory(),
      retryScheduleMs: 'standard',
      logger,
    })
    await service.dispatchEvent({ ...good, id: 'a', type: 'mesage.sent' })
    await service.dispatchEvent({ ...good, id: 'b', type: 'mesage.sent' })
    await service.dispatchEvent({ ...good, id: 'c', type: 'shop.order_paid' })
    expect(warnings).toEqual(['"mesage.sent" is not a known event type; "message.sent" is'])
  })
})

describe('`enabledEvents`', () => {
  it('with a type that is nearly a known one only warns, before anything is dispatched', async () => {
    const { warnings, logger } = listening()
    const enabledEvents = ['mesage.sent', 'message.read', 'shop.order_paid']
    const storage = memory()
    await new WebhookService({
      storage,
      retryScheduleMs: 'standard',
      enabledEvents,
      logger,
    }).close()
    expect(warnings).toEqual(['"mesage.sent" is not a known event type; "message.sent" is'])
  })
})

describe('a list of events', () => {
  it('with one id for two contents is refused as a whole; the same event twice is one', async () => {
    await using service = new WebhookService({ storage: memory(), logger: false })
    const [a, b] = [
      { ...good, id: 'a' },
      { ...good, id: 'b', data: { x: 1, y: 2 } },
    ]
    const list = [a, b, { ...b, data: 2 }]
    await expect(service.dispatchEvents(list)).rejects.toMatchObject({ code: 'EVENT_ID_CONFLICT' })
    expect(await service.getEvent('a')).toBeNull()
    const receipts = await service.dispatchEvents([
      a,
      b,
      { ...b, data: { y: 2, x: 1 }, timestamp: new Date() },
    ])
    expect(receipts.map(({ duplicate }) => duplicate)).toEqual([false, false, true])
    const ofTenants = [
      { ...b, tenantId: 'x' },
      { ...b, tenantId: 'y', data: 2 },
    ]
    expect(await service.dispatchEvents(ofTenants)).toHaveLength(2)
  })
})

describe('an endpoint', () => {
  it('for a type that is nearly a known one only warns, once', async () => {
    const { warnings, logger } = listening()
    await using service = new WebhookService({
      storage: memory(),
      deliver: false,
      retryScheduleMs: 'standard',
      logger,
    })
    const endpoint = { id: 'shop', url: 'https://example.com/' }
    const events = ['mesage.sent', 'mesage.*', 'message.*', 'message.sent', 'shop.*', '*']
    await service.registerEndpoint({ ...endpoint, events })
    await service.registerEndpoint({ ...endpoint, events })
    await service.updateEndpoint('shop', { events: ['mesage.sent', 'template.aproved'] })
    await service.dispatchEvent({ ...good, type: 'mesage.sent' })
    expect(warnings).toEqual([
      '"mesage.sent" is not a known event type; "message.sent" is',
      '"mesage.*" is not a known event type; "message.*" is',
      '"template.aproved" is not a known event type; "template.approved" is',
    ])
  })
})

describe('a good event', () => {
  it('is the text of its parts', () => {
    const keys = fc.dictionary(fc.string(), fc.jsonValue())
    fc.assert(
      fc.property(fc.jsonValue(), keys, (data, metadata) => {
        const { id, type, timestamp } = good
        const head = `{"id":"${id}","type":"${type}","timestamp":"${new Date(timestamp).toISOString()}"`
        const content = `,"data":${JSON.stringify(data)},"metadata":${JSON.stringify(metadata)},"version":"1.0"}`
        const checked = checkEvent({ ...good, data, metadata }, rules)
        expect(checked).toMatchObject({ text: head + content, content })
      }),
    )
  })

  const text = (event: WebhookEvent) => checkEvent(event, rules).text

  it('is serialised once, in the order of the protocol', () => {
    expect(text(good)).toBe(
      '{"id":"evt_1","type":"message.sent","timestamp":"1970-01-01T00:00:00.000Z","data":{"text":"안녕"},"metadata":{"providerId":"iwinv"},"version":"1.0"}',
    )
  })

  it('needs neither metadata nor version, and takes any data', () => {
    expect(
      text({ id: 'a-B_9', type: 'x', timestamp: '2026-01-31T09:00:00+09:00', data: null }),
    ).toBe(
      '{"id":"a-B_9","type":"x","timestamp":"2026-01-31T00:00:00.000Z","data":null,"metadata":{},"version":"1.0"}',
    )
  })

  it.each([
    ['2024-02-29T23:59:59.9994Z', '2024-02-29T23:59:59.999Z'],
    ['2026-01-31t09:00:00.5-00:00', '2026-01-31T09:00:00.500Z'],
    // As Java writes it.
    ['2026-01-31T09:00+09:00', '2026-01-31T00:00:00.000Z'],
    ['0000-01-01T00:00:00Z', '0000-01-01T00:00:00.000Z'],
    [new Date(Date.UTC(10_000, 0) - 1), '9999-12-31T23:59:59.999Z'],
  ])('has its timestamp sent as one moment: %s', (timestamp, sent) => {
    expect(JSON.parse(text({ ...good, timestamp })).timestamp).toBe(sent)
  })

  it('is matched by what is sent, whatever its caller writes into his object later', () => {
    const metadata = { providerId: 'iwinv' }
    const checked = checkEvent({ ...good, metadata }, rules)
    metadata.providerId = 'other'
    expect(checked.metadata).toEqual(JSON.parse(checked.text).metadata)
  })

  it('of exactly the largest size is taken', () => {
    const empty = text({ ...good, data: '' }).length
    expect(text({ ...good, data: 'x'.repeat(262_144 - empty) })).toHaveLength(262_144)
    expect(() => text({ ...good, data: 'x'.repeat(262_145 - empty) })).toThrow('262145')
    // Bytes count, not characters: three for each of these.
    const korean = (262_144 - empty) / 3
    expect(() => text({ ...good, data: '가'.repeat(Math.floor(korean)) })).not.toThrow()
    expect(() => text({ ...good, data: '가'.repeat(Math.floor(korean) + 1) })).toThrow(
      '262144 bytes',
    )
  })

  it('keeps hostile texts exactly', () => {
    for (const data of ['\u0000', '\ud800', '"}\\', '\u2028', '<script>', '😀', '__proto__']) {
      expect(JSON.parse(text({ ...good, data: { [data]: data } })).data[data]).toBe(data)
    }
  })
})

describe('the same content', () => {
  const bodyOf = (event: WebhookEvent) => encodeEvent(checkEvent(event, rules)).body
  const json = fc.jsonValue({ maxDepth: 4 })

  /** The same value with the keys of every object in another order. */
  function turned(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(turned)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([k, v]) => [k, turned(v)]),
    )
  }

  it('is so in any order of keys and at any time', () => {
    fc.assert(
      fc.property(json, (data) => {
        const other = { ...good, data: turned(data), timestamp: new Date(1) }
        expect(sameContent(bodyOf({ ...good, data }), bodyOf(other))).toBe(true)
      }),
    )
  })

  it('is not so when anything differs', () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        fc.pre(JSON.stringify(turned(a)) !== JSON.stringify(turned(b)))
        fc.pre(JSON.stringify(a) !== JSON.stringify(b))
        const same = sameContent(bodyOf({ ...good, data: a }), bodyOf({ ...good, data: b }))
        // Only the order of keys may differ then.
        if (same) expect(canonical(a)).toBe(canonical(b))
      }),
    )
    for (const change of [{ type: 'x' }, { version: '2' }, { metadata: {} }]) {
      expect(sameContent(bodyOf(good), bodyOf({ ...good, ...change }))).toBe(false)
    }
  })

  function canonical(value: unknown): string {
    if (Array.isArray(value)) return `[${value.map(canonical)}]`
    if (typeof value !== 'object' || value === null) return JSON.stringify(value)
    const entries = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`)
    return `{${entries.sort()}}`
  }
})

/** A logger, and what it was warned of. */
function listening(): { warnings: string[]; logger: Logger } {
  const warnings: string[] = []
  const warn = (_fields: unknown, message: string) => warnings.push(message)
  return { warnings, logger: { debug() {}, info() {}, warn, error() {} } }
}
