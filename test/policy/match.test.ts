import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import { typeMatches, whyNotMatched } from '../../src/policy/match.ts'
import { MatchIndex } from '../../src/registry/match-index.ts'
import { endpointRecord } from '../engine/fakes.ts'

describe('event types', () => {
  it.each([
    ['*', 'message.sent', true],
    ['*', 'anything', true],
    ['message.sent', 'message.sent', true],
    ['message.sent', 'message.sent.late', false],
    ['message.*', 'message.sent', true],
    ['message.*', 'message.sent.late', true],
    ['message.*', 'message', false],
    ['message.*', 'messages.sent', false],
    ['message', 'message.sent', false],
    ['template.*', 'message.sent', false],
  ])('%s and %s: %s', (pattern, type, matches) => {
    expect(typeMatches(pattern, type)).toBe(matches)
  })
})

describe('filters', () => {
  const why = (filters: EndpointRecord['filters'], metadata: Record<string, unknown>) =>
    whyNotMatched({ status: 'active', events: ['*'], filters }, 'message.sent', metadata)

  it.each<[string, EndpointRecord['filters'], Record<string, unknown>, string | null]>([
    ['none: all', {}, {}, null],
    ['one of the values', { providerId: ['a', 'b'] }, { providerId: 'b' }, null],
    ['another value', { providerId: ['a'] }, { providerId: 'b' }, 'filter_providerId'],
    ['a missing key does not match', { providerId: ['a'] }, {}, 'filter_providerId'],
    [
      'undefined does not match',
      { providerId: ['a'] },
      { providerId: undefined },
      'filter_providerId',
    ],
    [
      'all filters must match',
      { providerId: ['a'], channelId: ['c'] },
      { providerId: 'a' },
      'filter_channelId',
    ],
    ['an empty list matches nothing', { providerId: [] }, { providerId: 'a' }, 'filter_providerId'],
    ['a filter that is undefined asks nothing', { providerId: undefined }, {}, null],
    ['a number is not its text', { level: [1] }, { level: '1' }, 'filter_level'],
    ['booleans', { urgent: [true] }, { urgent: true }, null],
    ['what every object inherits is no metadata', { toString: ['x'] }, {}, 'filter_toString'],
    ['a list of values is not one of them', { tag: ['a'] }, { tag: ['a'] }, 'filter_tag'],
  ])('%s', (_name, filters, metadata, expected) => {
    expect(why(filters, metadata)).toBe(expected)
  })

  it('are asked after status and type', () => {
    const filters = { providerId: ['a'] }
    expect(whyNotMatched({ status: 'disabled', events: ['*'], filters }, 'x', {})).toBe(
      'endpoint_disabled',
    )
    expect(whyNotMatched({ status: 'active', events: ['y'], filters }, 'x', {})).toBe(
      'event_type_not_subscribed',
    )
    // What is paused gets its events later.
    expect(whyNotMatched({ status: 'paused', events: ['*'], filters: {} }, 'x', {})).toBeNull()
  })
})

describe('the index', () => {
  const values = fc.constantFrom<(string | number | boolean)[]>('a', 'b', 1, true)
  const filters = fc.dictionary(
    fc.constantFrom('providerId', 'channelId', 'level', '__proto__', 'toString'),
    fc.option(fc.uniqueArray(values, { maxLength: 3 }), { nil: undefined }),
    { maxKeys: 3, noNullPrototype: true },
  )
  const endpoints = fc.array(
    fc.record({
      tenantId: fc.constantFrom('', 't1'),
      events: fc.uniqueArray(fc.constantFrom('*', 'message.*', 'message.sent', 'template.*', 'x'), {
        minLength: 1,
        maxLength: 3,
      }),
      status: fc.constantFrom('active' as const, 'paused' as const, 'disabled' as const),
      filters,
    }),
    { maxLength: 25 },
  )
  const events = fc.array(
    fc.record({
      tenantId: fc.constantFrom('', 't1', 't2'),
      type: fc.constantFrom('message.sent', 'message.failed', 'template.created', 'x', 'y'),
      metadata: fc.dictionary(
        fc.constantFrom('providerId', 'channelId', 'level', '__proto__', 'toString'),
        values,
        { noNullPrototype: true },
      ),
    }),
    { minLength: 1, maxLength: 10 },
  )

  it('finds exactly what asking each endpoint would, also after changes and removals', () => {
    fc.assert(
      fc.property(
        endpoints,
        endpoints,
        fc.uniqueArray(fc.nat({ max: 24 })),
        events,
        (first, second, removed, asked) => {
          const index = new MatchIndex()
          const known = new Map<string, EndpointRecord>()
          const put = (record: EndpointRecord) => {
            index.put(record)
            known.set(`${record.tenantId}/${record.id}`, record)
          }
          const check = () => {
            for (const { tenantId, type, metadata } of asked) {
              const expected = [...known.values()].filter(
                (one) => one.tenantId === tenantId && whyNotMatched(one, type, metadata) === null,
              )
              const found = index.match(tenantId, type, metadata)
              expect(found.map((one) => one.id).sort()).toEqual(
                expected.map((one) => one.id).sort(),
              )
              // The newest version of each, and each once.
              expect(new Set(found)).toEqual(new Set(expected))
            }
          }
          for (const [i, fields] of first.entries()) put(endpointRecord(`e${i}`, fields))
          check()
          for (const [i, fields] of second.entries()) {
            put(endpointRecord(`e${i}`, { ...fields, version: 2 }))
          }
          check()
          for (const i of removed) {
            for (const tenantId of ['', 't1']) {
              const record = known.get(`${tenantId}/e${i}`)
              if (record === undefined) continue
              index.remove(record)
              known.delete(`${tenantId}/e${i}`)
            }
          }
          check()
        },
      ),
      { numRuns: 300 },
    )
  })

  it('keeps no more than a thousand types of a tenant', () => {
    const index = new MatchIndex()
    index.put(endpointRecord('e1'))
    for (let i = 0; i < 3_000; i += 1) expect(index.match('', `type${i}`, {})).toHaveLength(1)
  })
})
