import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { BodyFilter } from '../../src/model/body-filter.ts'
import { checkBodyFilter, matchesBody, whyBodyFiltered } from '../../src/policy/body-filter.ts'
import { MatchIndex } from '../../src/registry/match-index.ts'
import { endpointRecord } from '../engine/fakes.ts'

const data = {
  amount: 1_000,
  currency: 'KRW',
  paid: true,
  note: null,
  order: { 'a.b': 'dotted', items: [{ sku: 'x1' }, { sku: 'y2' }] },
  at: '2026-01-05T12:00:00Z',
}

describe('a body filter', () => {
  it.each<[string, BodyFilter, boolean]>([
    ['eq', { path: 'currency', eq: 'KRW' }, true],
    ['eq of another type', { path: 'amount', eq: '1000' }, false],
    ['eq null', { path: 'note', eq: null }, true],
    ['eq of an object', { path: 'order', eq: 'order' }, false],
    ['in', { path: 'currency', in: ['USD', 'KRW'] }, true],
    ['not in', { path: 'currency', in: ['USD'] }, false],
    ['gt', { path: 'amount', gt: 999 }, true],
    ['gt is strict', { path: 'amount', gt: 1_000 }, false],
    ['lt', { path: 'amount', lt: 1_001 }, true],
    ['lt is strict', { path: 'amount', lt: 1_000 }, false],
    ['gt of texts', { path: 'at', gt: '2026-01-05' }, true],
    ['gt of a text and a number', { path: 'currency', gt: 5 }, false],
    ['prefix', { path: 'order.items.1.sku', prefix: 'y' }, true],
    ['another prefix', { path: 'order.items.0.sku', prefix: 'y' }, false],
    ['prefix of a number', { path: 'amount', prefix: '1' }, false],
    ['exists', { path: 'note', exists: true }, true],
    ['exists not', { path: 'gone', exists: false }, true],
    ['exists, and should not', { path: 'note', exists: false }, false],
    ['a name with a dot', { path: ['order', 'a.b'], eq: 'dotted' }, true],
    [
      'and',
      {
        and: [
          { path: 'paid', eq: true },
          { path: 'amount', gt: 5 },
        ],
      },
      true,
    ],
    [
      'and, one not',
      {
        and: [
          { path: 'paid', eq: false },
          { path: 'amount', gt: 5 },
        ],
      },
      false,
    ],
    [
      'or',
      {
        or: [
          { path: 'paid', eq: false },
          { path: 'amount', gt: 5 },
        ],
      },
      true,
    ],
    ['not', { not: { path: 'currency', eq: 'USD' } }, true],
    ['what is missing does not match', { path: 'gone', eq: 'x' }, false],
    ['nor does its not', { not: { path: 'gone', eq: 'x' } }, false],
    ['nor does the not of what cannot be compared', { not: { path: 'currency', gt: 5 } }, false],
    [
      'a known alternative still matches',
      {
        or: [
          { path: 'gone', eq: 1 },
          { path: 'paid', eq: true },
        ],
      },
      true,
    ],
    ['nothing of a prototype', { path: 'constructor', exists: true }, false],
    ['no length', { path: 'order.items.length', exists: true }, false],
    ['no way into a text', { path: 'currency.0', exists: true }, false],
  ])('%s', (_, filter, expected) => {
    checkBodyFilter(filter)
    expect(matchesBody(filter, data)).toBe(expected)
    expect(whyBodyFiltered(filter, data) === null).toBe(expected)
  })

  it.each([[undefined], [null], ['text'], [7], [[]]])('says no to %j as data', (value) => {
    expect(matchesBody({ not: { path: 'a', eq: 1 } }, value)).toBe(false)
  })

  it.each<[BodyFilter, string]>([
    [{ path: 'order.total', gt: 5 }, 'order.total'],
    [
      {
        and: [
          { path: 'paid', eq: true },
          { path: 'amount', lt: 5 },
        ],
      },
      'amount',
    ],
    [{ or: [{ path: 'a', eq: 1 }] }, 'or'],
    [{ and: [{ not: { path: 'paid', eq: true } }] }, 'not'],
  ])('%j says that it was %s', (filter, why) => {
    expect(whyBodyFiltered(filter, data)).toBe(why)
  })
})

const deep = (depth: number): unknown =>
  depth === 1 ? { path: 'a', eq: 1 } : { not: deep(depth - 1) }
const wide = (parts: number): unknown => ({
  or: Array.from({ length: parts }, () => ({ path: 'a', eq: 1 })),
})

describe('a filter at the door', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['a text', 'amount > 5', 'ENDPOINT_INVALID', /bodyFilter/],
    ['nothing in it', {}, 'ENDPOINT_INVALID', /and, or, not/],
    ['no test', { path: 'a' }, 'ENDPOINT_INVALID', /eq, in, gt/],
    ['no path', { eq: 1 }, 'ENDPOINT_INVALID', /path/],
    ['two tests', { path: 'a', gt: 1, lt: 3 }, 'ENDPOINT_INVALID', /one of/],
    ['a path beside and', { path: 'a', and: [] }, 'ENDPOINT_INVALID', /one of/],
    ['an unknown word', { path: 'a', regex: '^x' }, 'OPTION_UNKNOWN', /regex/],
    ['an empty and', { and: [] }, 'ENDPOINT_INVALID', /bodyFilter\.and/],
    ['an empty in', { path: 'a', in: [] }, 'ENDPOINT_INVALID', /\.in/],
    ['gt of true', { path: 'a', gt: true }, 'ENDPOINT_INVALID', /\.gt/],
    ['gt of infinity', { path: 'a', gt: Number.POSITIVE_INFINITY }, 'ENDPOINT_INVALID', /\.gt/],
    ['eq of an object', { path: 'a', eq: {} }, 'ENDPOINT_INVALID', /\.eq/],
    ['exists of a text', { path: 'a', exists: 'yes' }, 'ENDPOINT_INVALID', /exists/],
    ['an empty path', { path: '', eq: 1 }, 'ENDPOINT_INVALID', /path/],
    ['an empty name', { path: 'a..b', eq: 1 }, 'ENDPOINT_INVALID', /path/],
    ['a path of 17 names', { path: Array(17).fill('a'), eq: 1 }, 'ENDPOINT_INVALID', /16/],
    ['depth 6', deep(6), 'ENDPOINT_INVALID', /5 deep/],
    ['51 parts', wide(50), 'ENDPOINT_INVALID', /50 parts/],
    ['over 4 KB', { path: 'a', eq: 'x'.repeat(4_100) }, 'ENDPOINT_INVALID', /4096 bytes/],
  ])('refuses %s', (_, filter, code, message) => {
    expect(() => checkBodyFilter(filter)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
  })

  it('takes what is just within the bounds', () => {
    checkBodyFilter(deep(5))
    checkBodyFilter(wide(49))
  })
})

const scalar = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom('a', 'b', ''),
  fc.boolean(),
)
const path = fc.constantFrom('a', 'b', 'a.b', 'c.0')
const { tree } = fc.letrec<{ tree: BodyFilter }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.oneof(
      fc.record({ path, eq: scalar }),
      fc.record({ path, in: fc.array(scalar, { minLength: 1, maxLength: 3 }) }),
      fc.record({ path, gt: fc.integer({ min: -3, max: 3 }) }),
      fc.record({ path, lt: fc.constantFrom('a', 'b') }),
      fc.record({ path, exists: fc.boolean() }),
      fc.record({ path, prefix: fc.constantFrom('a', '') }),
    ) as fc.Arbitrary<BodyFilter>,
    fc.record({ and: fc.array(tie('tree'), { minLength: 1, maxLength: 3 }) }),
    fc.record({ or: fc.array(tie('tree'), { minLength: 1, maxLength: 3 }) }),
    fc.record({ not: tie('tree') }),
  ),
}))
const bodies = fc.record(
  {
    a: fc.oneof(scalar, fc.record({ b: scalar })),
    b: scalar,
    c: fc.array(scalar, { maxLength: 2 }),
  },
  { requiredKeys: [] },
)

describe('any filter and any body', () => {
  it('peers 9: is judged, never throws, and matches exactly when nothing says no', () => {
    fc.assert(
      fc.property(tree, bodies, (filter, body) => {
        const matches = matchesBody(filter, body)
        expect(whyBodyFiltered(filter, body) === null).toBe(matches)
        // Never both it and its contrary; the contrary of the contrary is itself.
        if (matches) expect(matchesBody({ not: filter }, body)).toBe(false)
        expect(matchesBody({ not: { not: filter } }, body)).toBe(matches)
      }),
    )
  })

  it('less body never makes a filter without `exists` match', () => {
    fc.assert(
      fc.property(tree, bodies, (filter, body) => {
        fc.pre(!JSON.stringify(filter).includes('"exists"'))
        if (matchesBody(filter, body)) return
        for (const key of Object.keys(body)) {
          const { [key as keyof typeof body]: _, ...rest } = body
          expect(matchesBody(filter, rest)).toBe(false)
        }
      }),
    )
  })
})

it('only endpoints that ask for the body make it be read, and once', () => {
  const index = new MatchIndex()
  let reads = 0
  const body = () => {
    reads += 1
    return { amount: 5 }
  }
  index.put(endpointRecord('plain'))
  index.put(endpointRecord('filtered', { filters: { tier: ['gold'] } }))
  expect(index.match('', 'a.b', { tier: 'gold' }, body)).toHaveLength(2)
  expect(reads).toBe(0)
  index.put(endpointRecord('more', { bodyFilter: { path: 'amount', gt: 4 } }))
  index.put(endpointRecord('less', { bodyFilter: { path: 'amount', lt: 4 } }))
  const both = { filters: { tier: ['gold'] }, bodyFilter: { path: 'amount', gt: 4 } }
  index.put(endpointRecord('both', both))
  const keys = (tier: string) => index.match('', 'a.b', { tier }, body).map(({ key }) => key)
  expect(keys('gold')).toEqual(['plain', 'filtered', 'more', 'both'])
  expect(keys('tin')).toEqual(['plain', 'more'])
  expect(reads).toBe(2)
})
