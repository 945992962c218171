// The server reads our bytes as it reads its own text.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { float8Array, int4Array, int8Array } from '../../src/storage/postgres/binary-array.ts'
import { numberArray } from '../../src/storage/postgres/text.ts'
import { freshSchema, onServer } from './schemas.ts'

const nullable = (values: fc.Arbitrary<number>) => fc.array(fc.option(values), { maxLength: 50 })

test.each([
  ['int', int4Array, fc.integer()],
  ['bigint', int8Array, fc.maxSafeInteger()],
  // Text has no -0.
  ['float8', float8Array, fc.double().map((value) => value + 0)],
] as const)('%s[] as bytes is what it is as text', async (type, toBytes, values) => {
  const { url } = freshSchema()
  await onServer(url, (client) =>
    fc.assert(
      fc.asyncProperty(nullable(values), async (some) => {
        const both = `select $1::${type}[]::text as bytes, $2::${type}[]::text as text`
        const { rows } = await client.query(both, [toBytes(some), numberArray(some)])
        expect(rows[0].bytes).toBe(rows[0].text)
      }),
      { numRuns: 200 },
    ),
  )
})
