import { expect, test } from 'vitest'
import { compareRules } from '../security/address-property.ts'

test('two rules that share nothing agree on a million addresses', () => {
  const { disagreements, ...counts } = compareRules(1_000_000)
  expect(disagreements).toEqual([])
  console.log(`addresses: ${JSON.stringify(counts)}`)
})
