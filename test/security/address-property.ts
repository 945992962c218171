/** H10 of the fault list: two rules that share nothing have to agree. */
import { AddressRule } from '../../src/security/address.ts'
import { chooseSeed, randomFrom } from '../crash/random.ts'
import { edgesOfAllBlocks, secondRule, someAddress, textOf } from './second-rule.ts'

export interface Agreement {
  disagreements: string[]
  allowed: number
  refused: number
}

const rule = new AddressRule()

/** @param judge the rule under test; another one to see that a wrong rule would be found */
export function compareRules(
  count: number,
  judge: (address: string) => boolean = (address) => rule.allows(address),
): Agreement {
  const seed = chooseSeed()
  const random = randomFrom(seed)
  const result: Agreement = { disagreements: [], allowed: 0, refused: 0 }
  const compare = (bytes: readonly number[]): void => {
    const text = textOf(bytes, random)
    const expected = secondRule(bytes)
    if (judge(text) !== expected) result.disagreements.push(`SEED=${seed} ${text}`)
    else if (expected) result.allowed += 1
    else result.refused += 1
  }
  for (const bytes of edgesOfAllBlocks()) compare(bytes)
  for (let i = 0; i < count; i += 1) compare(someAddress(random))
  return result
}
